"""Experiment trackers that a run may tell what it does, by `--run.loggers`; none of them can end it."""
