"""The output of ``doctor``: a line for each check, followed by a fix if there is a problem."""

from __future__ import annotations

import itertools
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyzer.cli.options import check_address
from analyzer.doctor.machine import Check, State, examine
from analyzer.errors import SettingsError
from analyzer.util.text import one_line

if TYPE_CHECKING:
    from analyzer.batch.config import ExecutorChoice
    from analyzer.settings import Settings

__all__ = ["chosen_cluster", "describe_check", "show_checks"]

_COLORS: dict[State, str] = {"ok": "green", "warning": "yellow", "failed": "red"}


Cluster = tuple["ExecutorChoice", list["Settings"]]
"""Where videos are analyzed, and with which settings."""


def chosen_cluster(executor: str | None, address: str | None, jobs: Path | None) -> Cluster | None:
    """Return the cluster that options or a jobs file name; None: none.

    Raises:
        click.UsageError: A value is wrong, or --address is given without a cluster.
    """
    from analyzer.batch.config import ExecutorChoice, load_jobs

    flags = {"kind": executor, "address": address}
    place: dict[str, Any] = {name: value for name, value in flags.items() if value is not None}
    settings: list[Settings] = []
    try:
        if jobs is None:
            choice = ExecutorChoice(**place)
        else:
            loaded = load_jobs(jobs, executor=place)
            choice, settings = loaded.executor, [source.settings for source in loaded.sources]
    except SettingsError as error:
        raise click.UsageError(str(error)) from error
    check_address(address, choice)
    return None if choice.kind == "local" else (choice, settings)


def show_checks(out: Path, cluster: Cluster | None, *, as_json: bool) -> bool:
    """Print each check as it completes, or all as one JSON document; return whether none failed.

    Args:
        out: Folder of the runs.
        cluster: Checked too.
        as_json: Print a JSON document.
    """
    checks = []
    every = examine(out)
    if cluster is not None:
        from analyzer.doctor.cluster import examine_cluster

        every = itertools.chain(every, examine_cluster(*cluster))
    for check in every:
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
