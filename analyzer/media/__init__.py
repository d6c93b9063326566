"""Reading video and pictures."""
