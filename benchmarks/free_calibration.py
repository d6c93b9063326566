"""Calibrate the commercial set on the same portraits that its head was trained on.

There are too few free portraits to set some aside. So the head is trained three times more, each time without
a third of the people, and each portrait is estimated by the one that has not seen it. Everything else is as
by ``evaluate --calibrate``, which cannot know of the three.

    python -m benchmarks.free_calibration FOLDER

FOLDER holds `free-fold-0.npz` to `free-fold-2.npz`; fold N was trained without the portraits whose `fold_of`
is N.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analyzer.evaluation.calibrate import rows_of, write_calibration
from analyzer.evaluation.fitting import EXPLAINED, People, fit
from analyzer.evaluation.labels import read_labels
from analyzer.evaluation.views import View, Viewer
from analyzer.faces import FaceEstimates
from analyzer.settings import Settings
from analyzer.vision import calibration, registry
from analyzer.vision.attributes.heads import Head, HeadModel
from analyzer.vision.calibration import key_of
from analyzer.vision.selection import choose
from benchmarks.accuracy import external

FOLDER = Path(calibration.__file__).with_name("calibrations")
FOLDS = 3
LICENSE = "US government works, public domain; Face Research Lab London Set, CC BY 4.0"


def fold_of(name: str) -> int:
    """The fold of a portrait; all those of a person are in one.

    >>> fold_of("001_neutral.jpg") == fold_of("001_smiling.jpg")
    True
    """
    identity = Path(name).stem.split("_")[0]
    return int(hashlib.sha1(identity.encode()).hexdigest(), 16) % FOLDS


def rows(view: View, model: HeadModel, heads: list[Head]) -> Iterator[dict[str, Any]]:
    """A row for each face of a view, estimated by the head that has not seen it."""
    features = model.backbones.features(model.crop.crop(view.frame, view.faces))
    answers = [head(features) for head in heads]
    unseen = np.array([fold_of(face.name) for face in view.people])
    every = np.arange(len(unseen))
    female, age, spread = (
        np.stack([np.asarray(getattr(answer, name)) for answer in answers])[unseen, every]
        for name in ("female", "age_years", "std_years")
    )
    return rows_of(view, FaceEstimates(np.empty((len(every), 0), np.float32), female, age, spread))


def main() -> None:
    """Fit and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the heads of the folds")
    folder = parser.parse_args().folder
    settings = Settings(commercial=True, min_estimate_px=1)
    heads = [Head.parsed((folder / f"free-fold-{number}.npz").read_bytes()) for number in range(FOLDS)]
    viewer, model = Viewer(settings), HeadModel(registry.HEADS_FREE, settings)
    with tempfile.TemporaryDirectory() as work:
        found = [read_labels(path, Path(work) / path.stem, None).faces for path in external(Path(work))]
        labels = pd.concat([one for one in found if one is not None], ignore_index=True)
        faces = [
            row for view in viewer.views(viewer.cut(labels), plain=True) for row in rows(view, model, heads)
        ]
    table = pd.DataFrame(faces)
    members = choose(settings).members()
    number, aged = table["name"].nunique(), np.isfinite(table.drop_duplicates("name")["true_age"]).sum()
    content = {
        "explained": EXPLAINED,
        "members": members,
        "fitted_on": f"{number:,} portraits of members of the US Congress and of the London Set ({aged} with "
        f"a known age, {table['true_age'].min():.0f} to {table['true_age'].max():.0f} years), as they "
        "are and as in photographs and videos, each estimated by a model that had not seen it",
        "license": LICENSE,
        "commercial_use": True,
        **fit(People.of(table)),
    }
    print(write_calibration(FOLDER / f"{key_of(members)}.json", content))


if __name__ == "__main__":
    main()
