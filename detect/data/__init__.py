"""Data: the annotations, the formats it is read from, and the images on their way to a batch."""
