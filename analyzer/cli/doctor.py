"""The output of ``doctor``: a line for each check, followed by a fix if there is a problem."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from analyzer.doctor import Check, State, examine
from analyzer.util.text import one_line

__all__ = ["describe_check", "show_checks"]

_COLORS: dict[State, str] = {"ok": "green", "warning": "yellow", "failed": "red"}


def show_checks(out: Path, *, as_json: bool) -> bool:
    """Print each check as it completes, or all as one JSON document; return whether none failed."""
    checks = []
    for check in examine(out):
        checks.append(check)
        if not as_json:
            click.echo(describe_check(check))  # strips the colors if there is no terminal
    if as_json:
        click.echo(json.dumps([asdict(check) for check in checks], indent=2, ensure_ascii=False))
    return all(check.state != "failed" for check in checks)


def describe_check(check: Check) -> str:
    """Format a check as one line, or two if there is a fix; the state is colored.

    >>> print(click.unstyle(describe_check(Check("yt-dlp", "ok", "2026.10.26, 29 days old", ""))))
    ok       yt-dlp     2026.10.26, 29 days old
    """
    state = click.style(f"{check.state:<7}", fg=_COLORS[check.state])
    line = f"{state}  {one_line(check.name):<9}  {one_line(check.found)}"
    # Not wrapped, so that commands can be copied.
    return f"{line}\n{' ' * 9}{one_line(check.fix)}" if check.fix else line
