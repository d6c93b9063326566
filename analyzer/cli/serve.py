"""``serve``: the server for browsers and programs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from analyzer.cli.options import (
    DONE,
    EXIT_CODES,
    NOTHING_USABLE,
    TEMPORARY,
    USAGE,
    Command,
    Number,
    WholeNumber,
    epilog,
    log_option,
    logging_to,
)
from analyzer.cli.text import show_error
from analyzer.errors import AnalyzerError
from analyzer.settings import DEFAULT_OUT
from analyzer.web.config import ServeConfig

__all__ = ["serve"]

_CODES = {
    DONE: "ended by Ctrl-C or SIGTERM",
    USAGE: EXIT_CODES[USAGE],
    NOTHING_USABLE: "the packages of the extra web are missing, or the folder cannot be written",
    TEMPORARY: "another server uses the folder, or another program the port",
}


@click.command(cls=Command, epilog=epilog(_CODES))
@click.option(
    "--host", default=ServeConfig.host, show_default=True, help="Address or name to listen on; 0.0.0.0: all."
)
@click.option(
    "--port",
    type=WholeNumber(0, 65535),
    default=ServeConfig.port,
    show_default=True,
    help="Port; 0: a free one.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_OUT,
    show_default=True,
    help="Folder of the runs: those that analyze and batch made are shown, too.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Answer to this name, too, such as that of a reverse proxy; may be repeated.",
)
@click.option(
    "--allow-private-addresses",
    is_flag=True,
    help="Let visitors analyze addresses of this machine and of private networks.",
)
@click.option(
    "--camera",
    "cameras",
    multiple=True,
    metavar="[NAME=]SOURCE",
    help="Let visitors watch this camera, a number or the address of a stream, by its name; may be repeated.",
)
@click.option(
    "--keep-days",
    type=Number(0, min_open=True),
    metavar="N",
    help="Delete runs that were made here, with their uploads, after this many days. Default: never.",
)
@click.option(
    "--max-upload-mb",
    type=WholeNumber(1),
    default=ServeConfig.max_upload_mb,
    show_default=True,
    help="Largest upload, all its files together.",
)
@click.option(
    "--workers",
    type=WholeNumber(0, 256),
    default=ServeConfig.workers,
    show_default=True,
    help="Videos that are analyzed in parallel; 0: as many as cores and memory allow.",
)
@log_option
def serve(*, log_file: Path | None, **values: object) -> None:
    """Open runs, new analyses and corrections in a browser.

    Prints an address with a token: whoever has it may use the server. The token is kept in the folder of the
    runs, or taken from the environment variable ANALYZER_TOKEN. docs/web.md explains the pages, the API, and
    how to run the server for others.

    \b
    Examples:
      {program} serve
      {program} serve --out /srv/runs --allow-host runs.example.org
    """
    with logging_to(log_file):
        sys.exit(_serve(values))


def _serve(values: dict[str, object]) -> int:
    try:
        from analyzer.web.server import BusyError
        from analyzer.web.server import serve as run_server
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("analyzer"):
            raise
        show_error('serve needs the extra web: pip install "audience-analyzer[web]"')
        return NOTHING_USABLE
    from analyzer.web.config import ServeConfig

    try:
        run_server(ServeConfig(token="", **values), on_start=_announce)  # type: ignore[arg-type]
    except BusyError as error:
        show_error(str(error))
        return TEMPORARY
    except ModuleNotFoundError as error:
        show_error(
            f'serve needs the extra web: pip install "audience-analyzer[web]" ({error.name} is missing)'
        )
        return NOTHING_USABLE
    except AnalyzerError as error:
        show_error(str(error))
        return NOTHING_USABLE
    return DONE


def _announce(address: str) -> None:
    click.echo(f"Open {address}\nCtrl-C ends the server.")
    sys.stdout.flush()
