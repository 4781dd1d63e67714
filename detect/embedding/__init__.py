"""Galleries of embeddings, verification of two images, identification among many."""
