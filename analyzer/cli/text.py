"""Text for a terminal; needs nothing heavy."""

from __future__ import annotations

import click

__all__ = ["printable", "show_error"]

_JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
"""Persian and emoji are written with them."""


def printable(text: str) -> str:
    """Untrusted text for one line of a terminal: control characters and direction marks replaced.

    >>> printable("a\\x1b[31mb\\nc")
    'a�[31mb c'
    """
    spaced = " ".join(text.split())
    return "".join(
        char if char.isprintable() or char in _JOINERS else "\N{REPLACEMENT CHARACTER}" for char in spaced
    )


def show_error(sentence: str) -> None:
    """Say a sentence on standard error."""
    click.echo(f"Error: {printable(sentence)}", err=True)
