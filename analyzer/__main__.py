"""The program: the console script, ``python cli.py`` and ``python -m analyzer``."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from functools import partial

__all__ = ["command_line", "main"]

_INTERRUPTED = (130, 143)


def command_line() -> Callable[[], None]:
    """Import `analyzer.cli`, and return what runs it; Ctrl-C ends that with a message, too."""
    try:
        from analyzer.cli import main
    except KeyboardInterrupt:  # it takes a moment on a busy machine
        sys.stderr.write("Error: interrupted\n")
        sys.exit(_INTERRUPTED[0])
    return partial(_run, main)


def main() -> None:
    """Run the command line."""
    command_line()()


def _run(command: Callable[[], None]) -> None:
    """Run a command that ends with `SystemExit`.

    An interrupted process ends without the second or more that taking models down takes.
    """
    code: object = None

    def leave() -> None:
        """Registered first, so it runs after everything else that is to be done at the end."""
        if isinstance(code, int) and code in _INTERRUPTED:
            for finish in (logging.shutdown, sys.stdout.flush, sys.stderr.flush):
                with contextlib.suppress(OSError, ValueError):
                    finish()
            os._exit(code)

    atexit.register(leave)
    try:
        command()
    except SystemExit as error:
        code = error.code
        raise


if __name__ == "__main__":
    main()
