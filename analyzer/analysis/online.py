"""Frame by frame."""


class OnlineAnalyzer:
    """To come."""
