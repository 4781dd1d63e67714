"""Style transfer: an image in the style of another one, and stylized copies of training images."""
