"""Parts and runs as bytes, until `analyzer.runs` packs them itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analyzer.runs.run import CORRECTIONS_FILE


@dataclass(frozen=True)
class Piece:
    name: str
    offset: int
    content: bytes


def pieces(run: Path, most: int) -> Iterator[Piece]:
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run)
        if not path.is_file() or name.parts[0].startswith(".") or path.name == CORRECTIONS_FILE:
            continue
        with path.open("rb") as file:
            offset = 0
            while True:
                content = file.read(most)
                if content or not offset:
                    yield Piece(str(name), offset, content)
                offset += len(content)
                if len(content) < most:
                    break


def write_piece(staging: Path, piece: Piece) -> None:
    path = staging / piece.name
    assert path.resolve().is_relative_to(staging.resolve())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if piece.offset else "wb") as file:
        file.seek(piece.offset)
        file.write(piece.content)
