"""One page about one run or several, built from saved files only."""
