"""Multi-object tracking: trackers, their Kalman filters and camera motion; counting by lines and zones."""
