"""Training: the loop, its state, and what surrounds them."""
