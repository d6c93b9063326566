"""How completely a file was read, and what was damaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from analyzer.errors import MediaError, MediaErrorKind
from analyzer.util.text import short_name

__all__ = [
    "NOTHING_READ",
    "ReadReport",
    "damage_note",
    "is_damaged",
    "is_unusable",
    "joined_report",
    "unusable_error",
]

_TOLERATED_DAMAGE = 0.1
"""The proportion of bad packets above which a video counts as incomplete."""


@dataclass(frozen=True)
class ReadReport:
    """How the last iteration went."""

    frames: int
    """Frames decoded in the range asked for."""
    bad_packets: int
    """Packets that could not be decoded, or only with errors."""
    packets: int
    """Packets read."""
    repaired_times: int
    """Frames whose time was missing or not later than the one before."""
    last_s: float | None
    """Time of the last frame in the range."""
    complete: bool
    """Whether everything was read that the container declares, within the range."""
    reason: str
    """Empty when complete; else a sentence."""
    too_damaged: bool = False
    """Whether bad packets are the only reason why it is incomplete."""


NOTHING_READ = ReadReport(0, 0, 0, 0, None, complete=True, reason="")
"""Of what is not read from a file, or reported on as a whole."""


def joined_report(path: Path, reports: Sequence[ReadReport]) -> ReadReport:
    """Join the reports on parts of a video that were read one by one, in order of time.

    Raises:
        MediaError: More than half of the packets are bad.
    """
    packets, bad = sum(one.packets for one in reports), sum(one.bad_packets for one in reports)
    if is_unusable(packets, bad):
        raise unusable_error(path, packets, bad)
    # Damage is measured over the whole video, as in one pass.
    reason = next((one.reason for one in reports if one.reason and not one.too_damaged), "")
    too_damaged = not reason and is_damaged(packets, bad)
    return ReadReport(
        frames=sum(one.frames for one in reports),
        bad_packets=bad,
        packets=packets,
        repaired_times=sum(one.repaired_times for one in reports),
        last_s=max((one.last_s for one in reports if one.last_s is not None), default=None),
        complete=not reason and not too_damaged,
        reason=damage_note(packets, bad) if too_damaged else reason,
        too_damaged=too_damaged,
    )


def is_damaged(packets: int, bad: int) -> bool:
    """Return whether so many packets are bad that the video counts as incomplete."""
    return bad > _TOLERATED_DAMAGE * packets


def damage_note(packets: int, bad: int) -> str:
    """Describe the damage in a few words."""
    return f"{bad} of {packets} packets are damaged"


def is_unusable(packets: int, bad: int) -> bool:
    """Return whether more than half of the packets are bad."""
    return bad * 2 > packets


def unusable_error(path: Path, packets: int, bad: int) -> MediaError:
    """The error that ends reading when `is_unusable`."""
    usable = "none" if bad >= packets else f"only {packets - bad}"
    return MediaError(
        f"{short_name(path)} is damaged: {usable} of its {packets} packets can be decoded; "
        "get the file again",
        kind=MediaErrorKind.DAMAGED,
    )
