"""Annotated videos and images."""
