"""Objectives: who plays, in what order and for what."""
