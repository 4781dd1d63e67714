"""Published detectors converted to weights files of our own."""
