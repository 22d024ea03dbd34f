"""Faults found by using the program, one module for each topic: TITLE, FAULTS and ELSEWHERE as in `table.py`."""

from __future__ import annotations

from tests.reliability.topics import cluster, flags, folders, grids, labels, outputs, processes, settings, tissues

TOPICS = [outputs, grids, labels, settings, folders, processes, cluster, flags, tissues]
