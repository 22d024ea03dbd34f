"""Files to batches: layouts, reading, preparation, cache, splits, sampling."""
