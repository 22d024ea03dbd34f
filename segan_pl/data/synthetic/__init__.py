"""Generated cohorts, for a demonstration and for tests."""
