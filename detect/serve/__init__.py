"""`detect serve`: a web page for images, videos and the camera, or a live view of training. Needs the extra `serve`."""
