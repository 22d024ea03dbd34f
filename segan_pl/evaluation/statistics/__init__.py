"""Runs compared: patients paired, seeds averaged, intervals and tests."""
