"""Synthetic run folders without a video: people appear by a known random plan.

They serve to measure reports over many runs, and to test their figures against the plan.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.people.proportions import estimate_proportions, in_words
from analyzer.people.timeline import sample_durations, timeline
from analyzer.runs.run_info import SCHEMA_VERSION, Counts, RunInfo
from analyzer.runs.schema import FACES, LINKS, PEOPLE, SAMPLES, SHARES, timeline_columns
from analyzer.runs.tables import empty_table, no_clock, write_csv, write_json, write_parquet
from analyzer.settings import Settings, assign_band
from analyzer.vision import registry
from analyzer.vision.calibration import Calibration, Confusion

__all__ = [
    "Plan",
    "make_run",
    "random_plan",
]

_CHILD_YEARS, _UNSURE = 12, 0.7

_SHARES_OF_AGE = (0.06, 0.04, 0.16, 0.26, 0.2, 0.14, 0.08, 0.06)
"""Proportions of people in each of the default age bands."""


@dataclass(frozen=True)
class Plan:
    """People on screen: `present` is (samples, people) bool; estimates are (people,)."""

    times_s: NDArray[np.float64]
    end_s: float
    present: NDArray[np.bool_]
    female_prob: NDArray[np.float64]
    age_years: NDArray[np.float64]


def random_plan(random: np.random.Generator, *, length_s: float, people: int, concurrent: float) -> Plan:
    """People with one to four appearances each, five samples per second, `concurrent` people on average.

    Everybody appears at least once, with gender and age as in `_SHARES_OF_AGE`. Estimates err as often as was
    measured for the models on labeled faces.
    """
    times = np.arange(round(length_s * 5)) / 5
    present = np.zeros((len(times), people), bool)
    mean = len(times) * concurrent / people
    for person in range(people):
        stretches = int(random.integers(1, 5))
        for _ in range(stretches):
            long = int(np.clip(random.exponential(mean / stretches), 5, len(times)))
            start = int(random.integers(0, len(times) - long + 1))
            present[start : start + long, person] = True
    order = np.argsort(present.argmax(axis=0), kind="stable")  # numbered by first appearance
    calibration = Calibration.load()
    bands = Settings().bands
    gender = _seen(random, calibration.gender_confusion(), random.integers(0, 2, people), (0.0, 1.0))
    age = random.choice(len(bands), people, p=_SHARES_OF_AGE)
    ages = _seen(random, calibration.age_confusion(bands), age, (2.0, 85.0))
    return Plan(times, length_s, present[:, order], gender, ages)


def _seen(
    random: np.random.Generator, confusion: Confusion, classes: NDArray[np.int64], ends: tuple[float, float]
) -> NDArray[np.float64]:
    """Estimates for people of some classes: a value in a category drawn from the confusion."""
    chances = confusion.counts / confusion.counts.sum(axis=1, keepdims=True)
    categories = [random.choice(chances.shape[1], p=chances[one]) for one in classes]
    edges = np.array([ends[0], *confusion.edges, ends[1]])
    return np.array([random.uniform(edges[one], edges[one + 1]) for one in categories])


def make_run(
    folder: Path,
    plan: Plan,
    settings: Settings | None = None,
    *,
    shares: pd.DataFrame | None = None,
    **info: Any,
) -> Path:
    """Write the run folder of a plan, with `info` added to its ``run.json``; estimate shares if not given."""
    settings = settings or Settings()
    video_id = str(info.get("video_id", folder.name))
    folder.mkdir(parents=True, exist_ok=True)
    samples = pd.DataFrame(
        {
            "video_id": video_id,
            "segment": (plan.times_s // settings.segment_s).astype(np.int64),
            "sample": np.arange(len(plan.times_s)),
            "time_s": plan.times_s,
            "duration_s": sample_durations(plan.times_s, plan.end_s, gaps_are_losses=False),
            "shot": 0,
            "detection_age_s": 0.0,
            "width": 1280,
            "height": 720,
            "image": "",
            "clock": no_clock(len(plan.times_s)),
            "gap_s": 0.0,
            "dropped": 0,
        }
    )
    at, who = np.nonzero(plan.present)
    faces = _faces(samples, at, who, plan)
    people = _people(samples, plan, settings)
    people.insert(0, "video_id", video_id)
    calibration = Calibration.load()
    table = _estimated(people, settings, calibration) if shares is None else shares.copy()
    table["video_id"] = video_id
    bins = timeline(faces, people, samples, settings)
    bins["video_id"], bins["clock"] = video_id, no_clock(len(bins))
    for name, frame, columns in (
        ("timeline", bins, timeline_columns(settings)),
        ("people", people, PEOPLE),
        ("shares", table, SHARES),
    ):
        if "csv" in settings.formats:
            write_csv(folder / f"{name}.csv", frame, columns)
        if "parquet" in settings.formats:
            write_parquet(folder / f"{name}.parquet", frame, columns)
    write_parquet(folder / "faces.parquet", faces, FACES)
    write_parquet(folder / "samples.parquet", samples, SAMPLES)
    write_parquet(folder / "links.parquet", empty_table(LINKS), LINKS)
    document = _info(video_id, samples, faces, people, settings) | {"shares_text": in_words(table, people)}
    write_json(folder / "run.json", document | info)
    return folder


def _estimated(people: pd.DataFrame, settings: Settings, calibration: Calibration) -> pd.DataFrame:
    """The shares of a plan's people, cached: they take most of the time of making a run."""
    key = people.drop(columns="video_id").to_json(), settings
    if key not in _ESTIMATED:
        _ESTIMATED[key] = estimate_proportions(people, settings, calibration)
    return _ESTIMATED[key].copy()


_ESTIMATED: dict[tuple[str, Settings], pd.DataFrame] = {}


def _faces(samples: pd.DataFrame, at: NDArray[np.int64], who: NDArray[np.int64], plan: Plan) -> pd.DataFrame:
    random = np.random.default_rng(len(at))
    x, y = (random.uniform(0, 900, len(at)).astype(np.float32) for _ in range(2))
    return pd.DataFrame(
        {
            **{name: samples[name].to_numpy()[at] for name in ("video_id", "segment", "sample", "time_s")},
            "detection_age_s": 0.0,
            **{"x1": x, "y1": y, "x2": x + 80, "y2": y + 100},
            "score": random.uniform(0.6, 1, len(at)).astype(np.float32),
            "landmarks": list(random.uniform(0, 900, (len(at), 10)).astype(np.float32)),
            "quality": np.float32(0.8),
            "female_prob": plan.female_prob[who],
            "age_years": plan.age_years[who],
            "age_std_years": 6.0,
            "tracklet_id": who,
            "person_id": who + 1,
            "linked_person_id": who + 1,
        }
    )


def _people(samples: pd.DataFrame, plan: Plan, settings: Settings) -> pd.DataFrame:
    stands = samples["duration_s"].to_numpy()
    rows = []
    for person, (probability, age) in enumerate(zip(plan.female_prob, plan.age_years, strict=True)):
        seen = np.flatnonzero(plan.present[:, person])
        starts = np.flatnonzero(np.diff(plan.times_s[seen]) > 2 + stands[seen][:-1])
        sure = max(probability, 1 - probability) >= _UNSURE and age >= _CHILD_YEARS
        rows.append(
            {
                "person_id": person + 1,
                "first_s": plan.times_s[seen[0]],
                "last_s": plan.times_s[seen[-1]] + stands[seen[-1]],
                "on_screen_s": stands[seen].sum(),
                "appearances": 1 + len(starts),
                "samples": len(seen),
                "gender": ("female" if probability > 0.5 else "male") if sure else "unknown",
                "female_prob": probability,
                "age_years": age,
                "age_low": max(0.0, age - 9),
                "age_high": age + 9,
                "age_band": assign_band(float(age), settings.bands),
                "face_px_median": 80.0,
                "frontal_share": 1.0,
                "estimated_samples": len(seen),
                "name": "",
                "gender_source": "estimated",
                "age_source": "estimated",
                "corrected": False,
            }
        )
    return pd.DataFrame(rows, columns=[column.name for column in PEOPLE if column.name != "video_id"])


def _info(
    video_id: str, samples: pd.DataFrame, faces: pd.DataFrame, people: pd.DataFrame, settings: Settings
) -> dict[str, Any]:
    genders = people["gender"].value_counts()
    counts: Counts = {
        "samples": len(samples),
        "samples_reused": 0,
        "analyzed_s": round(float(samples["duration_s"].sum()), 3),
        "faces": len(faces),
        "faces_estimated": len(faces),
        "faces_unassigned": 0,
        "shots": 1,
        "people": len(people),
        "people_low": len(people),
        "people_high": len(people) + 1,
        "people_range_reason": "made without a video",
        "people_not_estimated": 0,
        "female": int(genders.get("female", 0)),
        "male": int(genders.get("male", 0)),
        "unknown_gender": int(genders.get("unknown", 0)),
        "uncounted_brief": 0,
        "uncounted_faint": 0,
        "uncounted_brief_and_faint": 0,
        "unestimated_narrow": 0,
        "unestimated_other": 0,
        "gender_unsure": 0,
        "gender_of_children": 0,
        "on_screen_s": round(float(people["on_screen_s"].sum()), 3),
    }
    end_s = float((samples["time_s"] + samples["duration_s"]).max()) if len(samples) else 0.0
    calibration = Calibration.load()
    info: RunInfo = {
        "schema_version": SCHEMA_VERSION,
        "analyzer_version": "0",
        "video_id": video_id,
        "title": video_id,
        "source": f"{video_id}.mp4",
        "url": None,
        "channel": None,
        "uploaded": None,
        "uploaded_at": None,
        "recorded_at": None,
        "kind": "video",
        "complete": True,
        "incomplete_reason": "",
        "counts": counts,
        "notes": [],
        "shares_text": "",
        "analyzed_at": "2026-11-01T03:00:00+00:00",
        "video": {
            "width": 1280,
            "height": 720,
            "rotation_deg": 0,
            "mirrored": False,
            "pixel_aspect": "1:1",
            "stereo": None,
            "transfer": None,
            "duration_s": end_s,
            "fps": 25.0,
            "codec": "h264",
            "container": "mp4",
            "audio_codec": None,
        },
        "live": None,
        "reading": {
            "frames_decoded": len(samples),
            "bad_packets": 0,
            "unreadable_images": 0,
            "repaired_times": 0,
            "last_s": end_s,
            "clock_jumps": 0,
            "clock_jumps_at": [],
        },
        "preset": settings.preset,
        "settings": settings.to_dict(),
        "models": [
            {"name": model.name, "sha256": model.sha256, "license": "CC0-1.0", "commercial_use": True}
            for model in registry.DEFAULTS
        ],
        "calibration": {
            "key": calibration.key,
            "fitted_on": calibration.fitted_on,
            "measured": calibration.measured,
            "license": calibration.license,
            "commercial_use": calibration.commercial_use,
        },
        "libraries": {},
        "python": "",
        "platform": "",
        "source_details": {},
        "annotated": None,
        "download": None,
    }
    return dict(info)


def make_many(out: Path, runs: int, faces: int, kinds: int = 20) -> None:
    """Write `runs` run folders of `kinds` different plans, with at least `faces` faces in total."""
    random = np.random.default_rng(0)
    # Some of a person's appearances overlap.
    length_s, concurrent = 600.0, 1.04 * faces / runs / 3000
    plans = [random_plan(random, length_s=length_s, people=16, concurrent=concurrent) for _ in range(kinds)]
    shares: list[pd.DataFrame | None] = [None] * kinds
    for number in range(runs):
        kind = number % kinds
        plan = plans[kind]
        if number >= kinds:
            plan = replace(plan, age_years=random.permutation(plan.age_years))
        day = np.datetime64("2026-01-01") + number // 4
        folder = make_run(
            out / f"run-{number:04d}",
            plan,
            Settings(formats=("parquet",)),
            shares=shares[kind],
            title=f"Video {number}",
            channel=f"Channel {number % 5}",
            uploaded=str(day),
            url=f"https://www.youtube.com/watch?v={number:011d}",
        )
        if shares[kind] is None:
            shares[kind] = pd.read_parquet(folder / "shares.parquet")


def main() -> None:
    """``python -m testkit.runs FOLDER --runs 1000 --faces 10000000``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--faces", type=int, default=10_000_000)
    chosen = parser.parse_args()
    make_many(chosen.folder, chosen.runs, chosen.faces)


if __name__ == "__main__":
    main()
