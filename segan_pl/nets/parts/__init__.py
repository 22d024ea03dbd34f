"""Parts that one network is made of."""
