"""Text for a terminal, without heavy imports."""

from __future__ import annotations

import math

import click

from analyzer.util.text import one_line

__all__ = ["face_label", "left_out_text", "show_error", "show_warning"]


def face_label(gender: str, age_years: float | None) -> str:
    """The label of a face, from estimates so far.

    >>> face_label("female", 34.4), face_label("unknown", 34.4), face_label("unknown", None)
    ('female 34', '? 34', '?')
    """
    word = "?" if gender == "unknown" else gender
    return word if age_years is None or math.isnan(age_years) else f"{word} {age_years:.0f}"


def left_out_text(source: str, images: int, subfolders: bool) -> str:
    """Say what of a folder is not analyzed, and which option includes it.

    >>> left_out_text("talks", 2, False)
    'Skipped in talks: 2 images beside its videos (--images includes them)'
    """
    parts = []
    if images:
        noun = "1 image" if images == 1 else f"{images} images"
        parts.append(f"{noun} beside its videos (--images includes {'it' if images == 1 else 'them'})")
    if subfolders:
        parts.append("its subfolders (--recursive includes them)")
    return f"Skipped in {one_line(source)}: {', '.join(parts)}"


def show_error(sentence: str) -> None:
    """Print an error message on standard error."""
    click.echo(f"Error: {one_line(sentence)}", err=True)


def show_warning(sentence: str) -> None:
    """Print a warning on standard error."""
    click.echo(f"Warning: {one_line(sentence)}", err=True)
