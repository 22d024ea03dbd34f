"""Cases segmented by labelled ones that are registered to them, without a network."""
