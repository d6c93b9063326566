"""The analysis of a segment: samples, networks and settings in, faces and tracklets out."""
