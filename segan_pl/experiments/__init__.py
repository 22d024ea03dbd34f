"""Studies: many runs from one command, continued, and what they show."""
