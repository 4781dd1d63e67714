"""Datasets: from the annotation store to training and evaluation samples, one file for each kind."""
