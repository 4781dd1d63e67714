"""Multi-object tracking: ByteTrack, its Kalman filter, and counting by lines and zones."""
