"""Helpers without knowledge of detection: files, locks, signals, names, devices."""
