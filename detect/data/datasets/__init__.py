"""Datasets: training and evaluation samples made of annotations, one file for each kind."""
