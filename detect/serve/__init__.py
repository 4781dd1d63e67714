"""`detect serve`: a page in the browser to drop pictures and videos on. Needs the extra `serve`."""
