"""Style transfer: one picture's content in another one's style, and copies of training pictures made so."""
