"""`detect check`: problems of a dataset, to know before training on it."""
