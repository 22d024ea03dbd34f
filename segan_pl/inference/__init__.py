"""Whole volumes from networks: slices now, windows later."""
