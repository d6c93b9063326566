"""Models that estimate gender and age."""
