"""Networks: torch only, no Lightning, no files."""
