"""Batches: which patches, read how, changed how."""
