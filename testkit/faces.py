"""The labeled faces of the development data, if they are there."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

SHARED = Path(os.environ.get("ANALYZER_SHARED", Path(__file__).parents[2] / "shared"))

FIT, CHOOSE, REPORT = range(8), range(8, 10), range(10, 12)
"""The archives for fitting, for choosing and for reporting, divided by the hashes of the names."""


@dataclass(frozen=True)
class LabeledFace:
    """A face with its labels: `image` is (200, 200, 3) uint8 BGR."""

    name: str
    age_years: int
    female: bool
    image: NDArray[np.uint8]


def labeled_faces(archives: range, limit: int | None = None) -> Iterator[LabeledFace]:
    """Faces in the order of their names' hashes, so that any first N are a fair sample.

    Yields nothing where the data is missing.
    """
    per_archive = None if limit is None else -(-limit // len(archives))
    for number in archives:
        path = SHARED / "data" / "utkface" / f"utkface-{number:02d}.tar"
        if not path.exists():
            return
        with tarfile.open(path) as tar:
            members = [member for member in tar.getmembers() if member.name.endswith(".jpg")]
            members.sort(key=lambda member: hashlib.sha1(member.name.encode()).hexdigest())
            for member in members[:per_archive]:
                file = tar.extractfile(member)
                labels = Path(member.name).name.split("_")
                if file is None or not (labels[0].isdigit() and labels[1] in ("0", "1")):
                    continue
                image = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
                yield LabeledFace(member.name, int(labels[0]), labels[1] == "1", image.astype(np.uint8))
