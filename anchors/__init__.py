"""Boxes without any network: geometry, suppression, priors, coding, clustering and assignment.

Boxes are float tensors (N, 2d), minima then maxima, d = 2 unless said: (x1, y1, x2, y2).
"""
