"""What is done to a case once, and the cache of the results."""
