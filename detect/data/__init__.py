"""Data: annotations, the formats that they are read from, datasets, augmentation and loaders."""
