"""Seeing inside: filters, the patches that excite channels, activation maps, and why a detection fired."""
