"""Text for a terminal, without heavy imports."""

from __future__ import annotations

import click

from analyzer.util.text import one_line

__all__ = ["in_form", "left_out_text", "show_error", "show_warning"]


def in_form(message: str) -> str:
    """A message of click in the form of this program's (see `analyzer.errors`).

    >>> in_form("No such option: --fbs Did you mean --fps?"), in_form("Missing argument 'SOURCE...'.")
    ('no such option: --fbs Did you mean --fps?', "missing argument 'SOURCE...'")
    >>> in_form("OpenCV cannot show windows")
    'OpenCV cannot show windows'
    """
    first = message.partition(" ")[0]
    known = first.isalpha() and first == first.capitalize()  # "OpenCV" is a name
    return (message[:1].lower() + message[1:] if known else message).removesuffix(".")


def left_out_text(source: str, images: int, subfolders: bool, *, batch: bool = False) -> str:
    """Say what of a folder is not analyzed, and which option includes it.

    Args:
        source: The folder.
        images: How many images it holds beside its videos.
        subfolders: Whether it has subfolders with something to analyze.
        batch: Whether the option may be a key of a jobs file.

    >>> left_out_text("talks", 2, False)
    'Skipped in talks: 2 images beside its videos (--images includes them)'
    >>> left_out_text("talks", 0, True, batch=True)
    'Skipped in talks: its subfolders (--recursive, or recursive = true in a jobs file, includes them)'
    """

    def option(name: str) -> str:
        return f"--{name}, or {name} = true in a jobs file," if batch else f"--{name}"

    parts = []
    if images:
        noun, pronoun = ("1 image", "it") if images == 1 else (f"{images} images", "them")
        parts.append(f"{noun} beside its videos ({option('images')} includes {pronoun})")
    if subfolders:
        parts.append(f"its subfolders ({option('recursive')} includes them)")
    return f"Skipped in {one_line(source)}: {', '.join(parts)}"


def show_error(sentence: str) -> None:
    """Print an error message on standard error."""
    click.echo(f"Error: {one_line(sentence)}", err=True)


def show_warning(sentence: str) -> None:
    """Print a warning on standard error."""
    click.echo(f"Warning: {one_line(sentence)}", err=True)
