"""What several commands share: exit codes, options made from the settings, the log file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from analyzer.errors import SettingsError
from analyzer.settings import DEFAULT_PRESET, PRESETS, Option, Settings, options
from analyzer.util.program import NAME

__all__ = [
    "DONE",
    "EXIT_CODES",
    "INTERRUPTED",
    "NOTHING_USABLE",
    "SOME_FAILED",
    "TEMPORARY",
    "TERMINATED",
    "USAGE",
    "ChoiceList",
    "Command",
    "Group",
    "chosen",
    "complete_files",
    "epilog",
    "given",
    "logging_to",
    "preset_option",
    "settings_options",
]

DONE, SOME_FAILED, USAGE, NOTHING_USABLE, TEMPORARY, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 75, 130, 143
EXIT_CODES = {
    DONE: "every video was analyzed to its end",
    SOME_FAILED: "some videos failed or were read only in part; the others' results are written",
    USAGE: "the command line is wrong: unknown option, value out of range, contradiction",
    NOTHING_USABLE: "no video could be analyzed, or nothing could be written",
    INTERRUPTED: "interrupted by Ctrl-C; the same command goes on where it stopped",
    TERMINATED: "ended by SIGTERM; likewise",
}


def epilog(codes: dict[int, str]) -> str:
    """The exit codes, for the end of a command's help."""
    return "\b\nExit codes:\n" + "\n".join(f"  {code:<3} {meaning}" for code, meaning in codes.items())


class _NamesProgram(click.Command):
    """Writes how the program was called where its help has ``{program}``."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        plain = self.help
        self.help = plain and plain.replace("{program}", ctx.find_root().info_name or NAME)
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = plain


class Command(_NamesProgram):
    """A command of this program."""


class Group(_NamesProgram, click.Group):
    """Commands of this program."""

    command_class = Command
    group_class = type


_METAVARS = {int: "N", float: "X"}


def _click_type(option: Option) -> click.ParamType[Any]:
    if option.choices:
        return ChoiceList(option.choices) if option.many else click.Choice(option.choices)
    if option.type is int:
        number = click.IntRange(_whole(option.low), _whole(option.high))
        return _NumberOrWord(number, option.words) if option.words else number
    if option.type is float:
        real = click.FloatRange(option.low, option.high)
        return _NumberOrWord(real, option.words) if option.words else real
    return click.STRING


def _whole(bound: float | None) -> int | None:
    return None if bound is None else int(bound)


class _NumberOrWord(click.ParamType[float | str]):
    name = "number"

    def __init__(self, number: click.IntRange | click.FloatRange, words: tuple[str, ...]) -> None:
        self._number = number
        self._words = words

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx
        kind = int if isinstance(self._number, click.IntRange) else float
        return "[" + "|".join((*self._words, _METAVARS[kind])) + "]"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        return [CompletionItem(word) for word in self._words if word.startswith(incomplete)]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value in self._words:
            return str(value)
        return self._number.convert(value, param, ctx)


class ChoiceList(click.ParamType[tuple[str, ...]]):
    """Words of a choice, with commas between them."""

    name = "list"

    def __init__(self, choices: tuple[str, ...]) -> None:
        self._choices = choices

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        del param, ctx
        return "[" + ",".join(self._choices) + "]"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        del ctx, param
        before, comma, last = incomplete.rpartition(",")
        free = [one for one in self._choices if one not in before.split(",") and one.startswith(last)]
        return [CompletionItem(before + comma + one) for one in free]

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        items = tuple(part.strip() for part in value.split(",") if part.strip())
        wrong = [item for item in items if item not in self._choices]
        if wrong or not items:
            self.fail(f"{value!r} is not a list of {', '.join(self._choices)}", param, ctx)
        return items


def complete_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Have the shell complete names of files, where an address would do as well."""
    del ctx, param
    return [CompletionItem(incomplete, type="file")]


def settings_options(
    command: Callable[..., Any], left_out: Callable[[Option], bool] = lambda option: False
) -> Callable[..., Any]:
    """Give a command one option for each field of `Settings` that is not left out."""
    for option in reversed(options()):
        if left_out(option):
            continue
        name = "--" + (option.flag or option.name).replace("_", "-")
        unit = f" [{option.unit}]" if option.unit and option.type is not bool else ""
        declared: dict[str, Any] = {"help": option.help + unit, "default": option.default}
        if option.type is bool:
            negative = name.replace("--", "--no-")
            command = click.option(
                f"{name}/{negative}" if option.default else name, option.name, is_flag=True, **declared
            )(command)
            continue
        declared["default"] = ",".join(option.default) if option.many else option.default
        command = click.option(
            name,
            option.name,
            type=_click_type(option),
            show_default=option.default is not None,
            metavar=_METAVARS.get(option.type) if not option.choices and not option.words else None,
            **declared,
        )(command)
    return command


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Those options of the running command that were given."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {name: value for name, value in values.items() if context.get_parameter_source(name) != default}


def chosen(preset: str, values: dict[str, Any], **fixed: Any) -> Settings:
    """The settings of a preset, changed by the options that were given.

    Raises:
        click.UsageError: A value is out of its range, or two contradict.
    """
    try:
        return Settings.from_preset(preset, **(fixed | given(values)))
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


preset_option = click.option(
    "--preset",
    type=click.Choice(tuple(PRESETS)),
    default=DEFAULT_PRESET,
    show_default=True,
    help="A set of options: fast samples half as often, accurate leaves nothing out: it looks at every "
    "sample in full and judges every sighting, in float32. Options that are given count more. The defaults "
    "below are those of balanced.",
)


class _OneLine(logging.Formatter):
    """Strangers' text cannot begin a line of its own in the log."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\r", " ").replace("\n", "\n  ")


@contextlib.contextmanager
def logging_to(log_file: Path | None) -> Iterator[None]:
    """Append a log to a file, if there is one, while the block runs.

    Raises:
        click.UsageError: It cannot be written.
    """
    root = logging.getLogger("analyzer")
    handler: logging.Handler = logging.NullHandler()
    if log_file is not None:
        try:
            handler = logging.FileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"the log file {log_file} cannot be written ({error.strerror})") from error
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    # Errors reach the user as sentences: the log goes to the file or nowhere.
    before = root.level, root.propagate
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
    try:
        yield
    finally:
        root.removeHandler(handler)
        handler.close()
        root.level, root.propagate = before
