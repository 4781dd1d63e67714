"""Dataset formats: each file reads one of them into the annotation annotations."""
