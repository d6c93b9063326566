"""The analysis of a segment: samples, models and settings in, faces and tracklets out."""
