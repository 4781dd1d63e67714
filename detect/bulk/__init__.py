"""Bulk prediction: inputs cut into parts once, a Parquet file for each part, computed here or on a Ray cluster."""
