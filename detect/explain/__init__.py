"""Explaining models: filters, the patches with the highest activations, activation maps, class-activation maps."""
