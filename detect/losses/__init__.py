"""Losses, without any network."""
