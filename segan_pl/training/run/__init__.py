"""A run's folder: its name, its lease, how it goes on and how it stops."""
