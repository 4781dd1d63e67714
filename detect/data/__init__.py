"""Data: the annotation store, the formats it is read from, and the pictures on their way to a batch."""
