"""Shared by several commands: exit codes, options generated from the settings, the log file."""

from __future__ import annotations

import contextlib
import logging
import textwrap
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from analyzer.batch.config import EXECUTORS, ExecutorChoice
from analyzer.errors import SettingsError
from analyzer.settings import DEFAULT_PRESET, PRESETS, Option, Settings, options
from analyzer.settings import Group as SettingsGroup
from analyzer.util.program import NAME
from analyzer.util.validation import range_text

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
    "InterruptedCommandError",
    "Number",
    "SectionOption",
    "WholeNumber",
    "check_address",
    "chosen",
    "complete_files",
    "epilog",
    "executor_options",
    "given",
    "log_option",
    "logging_to",
    "preset_option",
    "quiet_option",
    "settings_options",
]

DONE, SOME_FAILED, USAGE, NOTHING_USABLE, TEMPORARY, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 75, 130, 143
EXIT_CODES = {
    DONE: "every video was analyzed completely",
    SOME_FAILED: "some videos failed, or could be read or drawn only in part; all other results were written",
    USAGE: "usage error: unknown option, value out of range, or contradictory options",
    NOTHING_USABLE: "no video could be analyzed, or no output could be written",
    INTERRUPTED: "interrupted by Ctrl-C; run the same command again to continue",
    TERMINATED: "terminated by SIGTERM; run the same command again to continue",
}


class InterruptedCommandError(Exception):
    """A signal has ended the command; the message says how much of its work is saved."""


# Click indents the end of the help by two columns and does not wrap its lines.
_EPILOG_WIDTH = 78


def epilog(codes: dict[int, str]) -> str:
    """Format exit codes, in ascending order and within 80 columns, as the end of a command's help."""
    lines = [
        textwrap.fill(meaning, _EPILOG_WIDTH, initial_indent=f"  {code:<3} ", subsequent_indent=" " * 6)
        for code, meaning in sorted(codes.items())
    ]
    return "\b\nExit codes:\n" + "\n".join(lines)


class _NamesProgram(click.Command):
    """Replaces ``{program}`` in its help with the name that the program was called by."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        plain = self.help
        self.help = plain and plain.replace("{program}", ctx.find_root().info_name or NAME)
        try:
            super().format_help_text(ctx, formatter)
        finally:
            self.help = plain


class SectionOption(click.Option):
    """An option that `Command` lists in a section of its own in the help.

    Args:
        section: Heading of the section.
    """

    def __init__(self, *args: Any, section: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """State the range in words, as messages do, and omit bounds that have no effect."""
        extra = super().get_help_extra(ctx)
        if "default" in extra:
            extra["default"] = extra["default"].removesuffix(".0")
        if "range" in extra and isinstance(self.type, click.IntRange | click.FloatRange):
            extra.pop("range")
            low, high = self.type.min, self.type.max
            high = None if high is None or high >= _BOUNDLESS else high
            if high is not None or low not in (None, 0, 1):
                extra["range"] = range_text(low, high)
        return extra


class Command(_NamesProgram):
    """A command of this program, with its options in sections: the common ones first."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take a file whose name begins with a dash for the mistake it is."""
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption:
            for name in args:
                if name.startswith("-") and Path(name).exists():
                    raise click.UsageError(
                        f"{name} reads as options: write ./{name} for the file of that name", ctx
                    ) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        many = any(isinstance(option, SectionOption) for option in self.get_params(ctx))
        if many:
            sections[_COMMON_HEADING] = []
        for option in self.get_params(ctx):
            record = option.get_help_record(ctx) if isinstance(option, click.Option) else None
            if record is None:
                continue
            section = option.section if isinstance(option, SectionOption) else "Options"
            if many and (option.name in _COMMON or section == "Options"):
                section = _COMMON_HEADING
            sections.setdefault(section, []).append(record)
        for section in sorted(sections, key=_section_rank):
            with formatter.section(section):
                formatter.write_dl(sections[section])


def _section_rank(section: str) -> int:
    """Sections of the settings come last, in the order of the settings."""
    return _SECTIONS.index(section) if section in _SECTIONS else -1


class Group(_NamesProgram, click.Group):
    """Commands of this program."""

    command_class = Command
    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their whole first sentence, which Click would cut to one line."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, command) for name, command in commands if command and not command.hidden]
        rows = [(name, command.get_short_help_str(_BOUNDLESS)) for name, command in shown]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)


_COMMON_HEADING = "Common options"
_COMMON = frozenset(
    ("fps", "start_s", "duration_s", "playlist", "limit", "formats", "video", "blur"),
)
"""Settings that most people change at some time; they are listed before the sections."""
_SECTIONS = tuple(group.capitalize() for group in typing.get_args(SettingsGroup))

_METAVARS = {int: "N", float: "X"}
_UNIT_METAVARS = {"s": "SECONDS", "1/s": "RATE", "pixels": "PIXELS", "degrees": "DEGREES", "MB": "MB"}
_BOUNDLESS = 1_000_000
"""Upper bounds from here on only keep out nonsense; the help does not state them."""


def _metavar(option: Option) -> str | None:
    if option.choices or option.words:
        return None  # they are listed
    if option.name == "budget":
        return "TIME"
    return _UNIT_METAVARS.get(option.unit, _METAVARS.get(option.type, "NAME"))


def _click_type(option: Option) -> click.ParamType[Any]:
    if option.choices:
        return ChoiceList(option.choices) if option.many else click.Choice(option.choices)
    if option.type is int:
        number = WholeNumber(_whole(option.low), _whole(option.high))
        return _NumberOrWord(number, option.words) if option.words else number
    if option.type is float:
        real = Number(option.low, option.high)
        return _NumberOrWord(real, option.words) if option.words else real
    return click.STRING


class WholeNumber(click.IntRange):
    """A whole number in a range, with a message in words."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        with contextlib.suppress(click.BadParameter):
            return super().convert(value, param, ctx)
        self.fail(f"{value!r} is not a whole number {range_text(self.min, self.max)}", param, ctx)

    def _describe_range(self) -> str:  # what click shows in the help
        return range_text(self.min, self.max)


class Number(click.FloatRange):
    """A number in a range, with a message in words."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        with contextlib.suppress(click.BadParameter):
            return super().convert(value, param, ctx)
        words = f"above {self.min:g}" if self.min_open else range_text(self.min, self.max)
        self.fail(f"{value!r} is not a number {words}", param, ctx)

    def _describe_range(self) -> str:  # what click shows in the help
        return f"above {self.min:g}" if self.min_open else range_text(self.min, self.max)


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
    """Values of a choice, separated by commas."""

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
    """Have the shell complete file names for an argument that may also be a URL."""
    del ctx, param
    return [CompletionItem(incomplete, type="file")]


def settings_options(
    command: Callable[..., Any], left_out: Callable[[Option], bool] = lambda option: False
) -> Callable[..., Any]:
    """Add an option to a command for each field of `Settings`, except those that `left_out` names."""
    for option in reversed(options()):
        if left_out(option):
            continue
        name = "--" + (option.flag or option.name).replace("_", "-")
        declared: dict[str, Any] = {
            "cls": SectionOption,
            "section": option.group.capitalize(),
            "help": option.help,
            "default": option.default,
        }
        if option.type is bool:
            negative = name.replace("--", "--no-")
            command = click.option(
                f"{name}/{negative}" if option.default else name,
                option.name,
                is_flag=True,
                show_default=bool(option.default),
                **declared,
            )(command)
            continue
        default = option.default
        declared["default"] = ",".join(default) if option.many else default
        command = click.option(
            name,
            option.name,
            type=_click_type(option),
            show_default=default is not None,
            metavar=_metavar(option),
            **declared,
        )(command)
    return command


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Return the options that were given to the running command."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {name: value for name, value in values.items() if context.get_parameter_source(name) != default}


def chosen(preset: str, values: dict[str, Any], **fixed: Any) -> Settings:
    """Return the settings of a preset with the given options applied.

    Raises:
        click.UsageError: A value is out of range, or two values contradict each other.
    """
    try:
        return Settings.from_preset(preset, **(fixed | given(values)))
    except SettingsError as error:
        raise click.UsageError(str(error)) from error


def executor_options(command: Any) -> Any:
    """Add the options that choose where videos are analyzed."""
    address = click.option(
        "--address",
        metavar="auto | local | ray://HOST:10001",
        help="The Ray cluster.  [default: auto, that of this machine]",
    )
    executor = click.option(
        "--executor",
        type=click.Choice(EXECUTORS),
        help="Analyze on this machine or on a Ray cluster.  [default: local]",
    )
    return executor(address(command))


def check_address(address: str | None, choice: ExecutorChoice) -> None:
    """Check that --address is given for a cluster only.

    Raises:
        click.UsageError: It is not.
    """
    if address is not None and choice.kind != "ray":
        raise click.UsageError("--address is for a cluster: add --executor ray")


preset_option = click.option(
    "--preset",
    type=click.Choice(tuple(PRESETS)),
    default=DEFAULT_PRESET,
    show_default=True,
    help="Set several options at once. fast samples half as often. Options given besides take precedence. "
    "The defaults listed here are those of balanced.",
)


quiet_option = click.option(
    "--quiet", "-q", is_flag=True, help="Print only errors.", cls=SectionOption, section="Output"
)
log_option = click.option(
    "--log-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append a log to this file.",
    cls=SectionOption,
    section="Output",
)


class _OneLine(logging.Formatter):
    """Indents line breaks, so that untrusted text cannot forge a line of the log."""

    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\r", " ").replace("\n", "\n  ")


@contextlib.contextmanager
def logging_to(log_file: Path | None) -> Iterator[None]:
    """Append log records to a file, if one is given, while the block runs.

    Raises:
        click.UsageError: The file cannot be written.
    """
    root = logging.getLogger("analyzer")
    handler: logging.Handler = logging.NullHandler()
    if log_file is not None:
        try:
            handler = logging.FileHandler(log_file, encoding="utf-8")
        except OSError as error:
            raise click.UsageError(f"the log file {log_file} cannot be written ({error.strerror})") from error
        handler.setFormatter(_OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    # Users see errors as sentences: the log goes to the file or nowhere.
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
