"""Style transfer: one image's content in another one's style, and copies of training images made so."""
