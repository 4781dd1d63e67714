"""Networks: a file for each model, its configuration in `configs`; importing this package does not import torch."""
