"""What training reports while it works."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = [
    "Epoch",
    "Evaluating",
    "OnTraining",
    "Preparing",
    "Resumed",
    "Step",
    "TrainingEvent",
    "ignore",
    "seconds_text",
]


@dataclass(frozen=True)
class Preparing:
    """What is made once has been made for more faces, or found in the cache."""

    stage: str
    """What is done, such as ``cropping``."""
    done: int
    total: int
    skipped: int
    """How many of those done were left out."""
    seconds_left: float | None
    """None: not known yet."""


@dataclass(frozen=True)
class Resumed:
    """Training continues where it was interrupted."""

    epoch: int
    """Counted from 1."""
    epochs: int
    fraction: float
    """Of that epoch."""


@dataclass(frozen=True)
class Step:
    """A batch was trained on."""

    epoch: int
    """Counted from 1."""
    epochs: int
    """At most."""
    batch: int
    """Of the epoch, counted from 1."""
    batches: int
    loss: float
    """Mean of the epoch so far."""
    seconds_left: float | None
    """Until the last epoch; training may end earlier. None: not known yet."""


@dataclass(frozen=True)
class Epoch:
    """An epoch is complete and validated."""

    epoch: int
    """Counted from 1."""
    epochs: int
    loss: float
    """Of the training part."""
    validation_loss: float
    gender_right: float | None
    """Share of the validation part with the likelier gender right; None: not estimated."""
    age_abs_error: float | None
    """Mean distance from the labeled age in years; None: not estimated."""
    rate: float
    best: bool
    """Whether no earlier one has a lower validation loss."""
    ends: str
    """Why training ends here; empty if it goes on."""


@dataclass(frozen=True)
class Evaluating:
    """The models before and after are measured on held-out faces."""

    what: str
    done: int
    total: int


TrainingEvent = Preparing | Resumed | Step | Epoch | Evaluating
OnTraining = Callable[[TrainingEvent], None]


def ignore(event: TrainingEvent) -> None:
    """Do nothing with an event."""
    del event


def seconds_text(seconds: float) -> str:
    """A length of time, for people.

    >>> seconds_text(42), seconds_text(150), seconds_text(7300)
    ('42 s', '3 min', '2 h 2 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
