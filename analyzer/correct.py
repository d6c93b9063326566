"""Correct the people of a run: corrections are stored, and its tables and report follow.

Everything is written to a staging folder first, then ``corrections.json``, then the tables, then the report,
then ``run.json``, which says which corrections the tables hold. A process that is killed in between leaves
both apart: `healed` notices, and derives the tables again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from analyzer.errors import AnalyzerError, OutputError, SettingsError
from analyzer.report.build import make_report
from analyzer.runs.corrections import Correction, Corrections, read_corrections
from analyzer.runs.rederive import check_correctable, found_of, is_current, replace_outputs, write_again
from analyzer.runs.run import SUBTITLE_FILES, Run, report_files
from analyzer.settings import REPORT_FORMATS
from analyzer.util.atomic import output_errors
from analyzer.util.locks import run_lock

__all__ = [
    "add_corrections",
    "healed",
    "undo_correction",
]

log = logging.getLogger(__name__)

_PATIENCE_S = 10.0
"""How long a correction waits for another one of the same run."""


def add_corrections(folder: str | Path, added: Sequence[Correction]) -> Corrections:
    """Correct the people of a run; all corrections are made, or none.

    Tables, ``run.json`` and the report in the run's folder, if there is one, follow. An annotated video is
    removed: the command that drew it draws it again.

    Args:
        folder: The run's folder.
        added: In order; each refers to the people after the one before.

    Returns:
        All corrections of the run.

    Raises:
        SettingsError: A correction contradicts the people there are.
        OutputError: The folder holds no run, or cannot be written, or is in use.
    """
    path = Path(folder)
    with _locked(path) as staging:
        run = Run.load(path)
        check_correctable(run)
        found = found_of(run)
        corrections = read_corrections(path)
        if added:
            corrections = corrections.extended(added, found.faces, found.samples, found.links)
        elif is_current(run):
            return corrections
        made = staging / path.absolute().name  # a report names a run by its folder
        with output_errors(path):
            made.mkdir()
        write_again(run, found, corrections, made)
        if corrections.entries:
            corrections.write(made)  # a report reads them, too
        _report_again(path, made)
        _subtitles_again(path, made)
        if added:
            corrections.write(path)
        replace_outputs(made, path)
        return corrections


def undo_correction(folder: str | Path, number: int | None = None) -> Corrections:
    """Undo a correction of a run.

    Args:
        folder: The run's folder.
        number: Of the correction; None: the last one in force.

    Returns:
        All corrections of the run.

    Raises:
        SettingsError: There is none to undo, or a later one depends on it.
        OutputError: As of `add_corrections`.
    """
    active = read_corrections(Path(folder)).active
    if number is None and not active:
        raise SettingsError("there is no correction to undo")
    return add_corrections(
        folder, [Correction("undo", undoes=active[-1].number if number is None else number)]
    )


def healed(folder: str | Path) -> Run:
    """Open a run; if a correction of it was interrupted, derive its tables again first.

    Raises:
        OutputError: As of `add_corrections`.
    """
    run = Run.load(folder)
    if is_current(run):
        return run
    add_corrections(run.folder, [])
    return Run.load(folder)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Lock a run's folder for the block, after other corrections; gives a staging folder."""
    Run.load(folder)  # or a folder would be created for the lock
    until = time.monotonic() + _PATIENCE_S
    with contextlib.ExitStack() as stack:
        while True:
            try:
                staging = stack.enter_context(run_lock(folder))
                break
            except OutputError as error:
                if not isinstance(error.__cause__, BlockingIOError) or time.monotonic() > until:
                    raise
                time.sleep(0.05)
        yield staging


def _subtitles_again(folder: Path, made: Path) -> None:
    if forms := [Path(name).suffix[1:] for name in SUBTITLE_FILES if (folder / name).exists()]:
        from analyzer.output.subtitles import save_subtitles  # late: it imports the libraries that draw

        save_subtitles(made, forms)


def _report_again(folder: Path, made: Path) -> None:
    """Make the report in a run's folder again, from and into `made`, if it is known how it was made."""
    formats = [form for form in REPORT_FORMATS if any(folder.glob(f"report.{form}"))]
    formats += [form for form in ("png", "csv") if any(folder.glob(f"report-*.{form}"))]
    if not formats:
        return
    least = _least_people(folder)
    if least is None:
        log.warning("the report in %s was removed: make it again", folder)
        return
    try:
        made_again = make_report([made], min_people=least)
        made_again.save(formats, made)
    except AnalyzerError as error:
        log.warning("the report in %s was removed (%s): make it again", folder, error)
        for name in report_files():
            (made / name).unlink(missing_ok=True)


def _least_people(folder: Path) -> int | None:
    """The ``--min-people`` of a report about this run alone; None if it is not known or had other data."""
    with contextlib.suppress(OSError, ValueError):
        document: Any = json.loads((folder / "report.json").read_bytes())
        if document["kind"] != "video" or document["audience"] is not None:
            return None
        return int(document["min_people"])
    for name in ("report.html", "report.md"):
        with contextlib.suppress(OSError):
            text = (folder / name).read_text("utf-8")
            found = re.search(r"Groups of fewer than (\d+) people are suppressed", text)
            return int(found[1]) if found else 1
    return None
