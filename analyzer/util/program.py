"""The command by which the program was started, for messages."""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["NAME", "program"]

NAME = "analyzer"
"""The command of the installed package."""


def program() -> str:
    """Return what the user types before a subcommand.

    >>> from unittest.mock import patch
    >>> with patch("sys.argv", ["cli.py", "analyze"]):
    ...     program()
    'python cli.py'
    """
    called = Path(sys.argv[0]) if sys.argv else Path()
    if called.name == "cli.py":
        return f"python {called}"
    if called.name == "__main__.py" and called.parent.name == "analyzer":
        return f"python -m {NAME}"
    return NAME
