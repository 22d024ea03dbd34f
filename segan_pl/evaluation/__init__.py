"""Scores of whole volumes; knows no model."""
