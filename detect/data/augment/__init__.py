"""Augmentation: transforms of an image and its annotations together."""
