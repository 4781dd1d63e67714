"""Heads: each turns the feature maps of a neck into raw predictions, and those into boxes and scores."""
