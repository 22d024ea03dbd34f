"""Objectives: which networks move in a step, in what order and for what."""
