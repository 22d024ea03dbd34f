"""A paper's experiments as a YAML file: read, expanded to runs on some data, and tabulated."""
