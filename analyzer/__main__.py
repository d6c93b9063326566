"""The program: the console script, ``python cli.py`` and ``python -m analyzer``."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["command_line", "main"]


def command_line() -> Callable[[], None]:
    """Import `analyzer.cli`, whose `main` is returned; Ctrl-C ends that with a message, too."""
    try:
        from analyzer.cli import main
    except KeyboardInterrupt:  # it takes a moment on a busy machine
        sys.stderr.write("Error: interrupted\n")
        sys.exit(130)
    return main


def main() -> None:
    """Run the command line."""
    command_line()()


if __name__ == "__main__":
    main()
