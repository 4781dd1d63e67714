"""Converts published detectors to weights files."""
