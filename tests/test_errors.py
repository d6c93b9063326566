"""The form of error messages, at every place that raises one."""

from __future__ import annotations

import ast
import errno
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import analyzer
from analyzer import errors
from analyzer.cli.options import INTERRUPTED
from analyzer.sources.failures import source_failure
from analyzer.sources.types import SourceErrorKind
from analyzer.util.atomic import output_errors

PACKAGE = Path(analyzer.__file__).parent
NAMES = ("OpenCV ", "OpenVINO ", "ONNX Runtime ", "PyTorch ")
"""What a message may begin with although it has a capital."""
CLASSES = {
    *(name for name, one in vars(errors).items() if inspect.isclass(one) and issubclass(one, Exception)),
    *(name for name, one in vars(click).items() if inspect.isclass(one) and issubclass(one, Exception)),
}


def texts(node: ast.expr) -> Iterator[tuple[str, str]]:
    """Beginning and end of the literal text of an expression; empty where a value begins or ends it."""
    match node:
        case ast.Constant(value=str(text)):
            yield text, text
        case ast.JoinedStr(values=parts) if parts:
            first, last = (
                part.value if isinstance(part, ast.Constant) else "" for part in (parts[0], parts[-1])
            )
            yield str(first), str(last)
        case ast.IfExp(body=one, orelse=other):
            yield from texts(one)
            yield from texts(other)
        case ast.BinOp(left=left, right=right):
            for (first, _), (_, last) in zip(texts(left), texts(right), strict=False):
                yield first, last


def messages(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, beginning and end of each message of an error that a module makes."""
    tree = ast.parse(path.read_text("utf-8"))
    assigned: dict[str, list[ast.Assign]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            assigned.setdefault(node.targets[0].id, []).append(node)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if called not in (*CLASSES, "refuse", "fail"):
            continue
        shown = node.args[0]
        values = [shown]
        if isinstance(shown, ast.Name) and shown.id in ("message", "problem", "words"):
            values = [one.value for one in assigned.get(shown.id, ())]
        for value in values:
            yield from ((value.lineno, first, last) for first, last in texts(value))


def test_every_message_has_the_form_of_all_messages() -> None:
    found = [
        (f"{path.relative_to(PACKAGE)}:{line}", first, last)
        for path in sorted(PACKAGE.rglob("*.py"))
        for line, first, last in messages(path)
    ]
    assert len(found) > 300
    wrong = [one for one in found if one[1][:1].isupper() and not one[1].startswith(NAMES)]
    wrong += [one for one in found if one[2].rstrip().endswith((".", "!"))]
    assert not wrong


@pytest.mark.parametrize("kind", SourceErrorKind)
def test_failures_of_sources_have_it_too(kind: SourceErrorKind) -> None:
    message = str(source_failure(kind, "https://example.org/a"))
    assert message[0].islower() and not message.endswith(".")


def test_a_full_disk_has_it_too(tmp_path: Path) -> None:
    with pytest.raises(errors.OutputError) as caught, output_errors(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert str(caught.value).startswith("no space is left for ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["analyze"], "missing argument 'SOURCE...'"),
        (["frobnicate"], "no such command 'frobnicate'"),
        (
            ["analyze", "a.mp4", "--fps", "x"],
            "invalid value for '--fps': 'x' is not a number between 0.01 and 240",
        ),
        (["analyze", "a.mp4", "--fps"], "option '--fps' requires an argument"),
    ],
)
def test_usage_errors_have_it_too(arguments: list[str], said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "analyzer", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    lines = ended.stderr.splitlines()
    assert ended.returncode == 2 and lines[-1] == f"Error: {said}"


def interrupted(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{code}\nfrom analyzer.__main__ import main\nmain()"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_ctrl_c_while_the_program_is_imported_is_an_interruption() -> None:
    ended = interrupted(
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'analyzer.cli': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())"
    )
    assert (ended.returncode, ended.stderr) == (INTERRUPTED, "Error: interrupted\n")


def test_an_interrupted_program_takes_nothing_down_but_prints_everything() -> None:
    ended = interrupted(
        "import atexit, sys\n"
        "from analyzer import cli\n"
        "def work(**how):\n"
        "    sys.stdout.write('printed')\n"
        "    atexit.register(lambda: sys.stdout.write(', left'))\n"
        "    raise KeyboardInterrupt\n"
        "class Slow:\n"
        "    def __del__(self): sys.stderr.write('taken down')\n"
        "slow, cli.cli.main = Slow(), work"
    )
    assert (ended.returncode, ended.stdout) == (INTERRUPTED, "printed, left")
    assert ended.stderr == "Error: interrupted\n"
