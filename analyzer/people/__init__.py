"""From tracklets to people: identity, estimates, timeline, proportions."""
