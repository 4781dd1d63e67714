"""Tuning: a study of training runs that differ in a few settings, and the settings that are best on val.

Optuna proposes settings and keeps the record; a trial is a run of `detect train` in a process and folder of its own.
"""
