"""Runs that begin with another run's weights, and layers that are frozen."""
