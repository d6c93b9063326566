"""Sources without an end: cameras and streams."""
