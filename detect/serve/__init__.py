"""`detect serve`: a web page to drop images and videos on. Needs the extra `serve`."""
