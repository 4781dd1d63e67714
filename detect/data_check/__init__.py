"""`detect check`: what a person would want to know of a set before training on it."""
