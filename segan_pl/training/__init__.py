"""One system that trains, and all that a run keeps."""
