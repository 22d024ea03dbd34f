"""Sweeps: the search of a W&B sweep file on this machine."""
