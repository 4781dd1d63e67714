"""Weights as files that other programs run, and such files in the place of weights."""
