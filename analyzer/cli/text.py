"""Text for a terminal; needs nothing heavy."""

from __future__ import annotations

import click

__all__ = ["left_out_text", "printable", "show_error", "show_warning"]

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


def left_out_text(source: str, images: int, subfolders: bool) -> str:
    """What of a folder is not analyzed, and how to have it.

    >>> left_out_text("talks", 2, False)
    'Left out of talks: 2 images beside its videos (--images takes them)'
    """
    parts = []
    if images:
        noun = "1 image" if images == 1 else f"{images} images"
        parts.append(f"{noun} beside its videos (--images takes {'it' if images == 1 else 'them'})")
    if subfolders:
        parts.append("its subfolders (--recursive takes them)")
    return f"Left out of {printable(source)}: {', '.join(parts)}"


def show_error(sentence: str) -> None:
    """Say a sentence on standard error."""
    click.echo(f"Error: {printable(sentence)}", err=True)


def show_warning(sentence: str) -> None:
    """Say on standard error what had no effect, though all else was done."""
    click.echo(f"Warning: {printable(sentence)}", err=True)
