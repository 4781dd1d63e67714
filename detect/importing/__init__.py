"""Published detectors into weights files of our own."""

from detect.importing.job import import_weights

__all__ = ["import_weights"]
