"""Text for a terminal; needs nothing heavy."""

from __future__ import annotations

import click

from analyzer.util.text import one_line

__all__ = ["left_out_text", "show_error", "show_warning"]


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
    return f"Left out of {one_line(source)}: {', '.join(parts)}"


def show_error(sentence: str) -> None:
    """Say a sentence on standard error."""
    click.echo(f"Error: {one_line(sentence)}", err=True)


def show_warning(sentence: str) -> None:
    """Say on standard error what had no effect, though all else was done."""
    click.echo(f"Warning: {one_line(sentence)}", err=True)
