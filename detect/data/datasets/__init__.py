"""Datasets: from the annotations to training and evaluation samples, one file for each kind."""
