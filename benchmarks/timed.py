"""The pieces of work that `benchmarks.performance` measures, each meant for a process of its own.

    python -m benchmarks.timed decode VIDEO
    python -m benchmarks.timed analyze VIDEO '{"preset": "fast"}'

Each prints one JSON object: `seconds`, `peak_mb`, and what else there is to know; or `missing`, the reason
why it cannot be measured. Imports are local, so that a process holds only what its own work needs.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

Result = dict[str, Any]

TRACKLETS_A_PERSON = 20


def decode(video: str) -> Result:
    """Decode all frames with PyAV and automatic threads, and nothing else."""
    import av

    frames = 0
    with av.open(video) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        start = time.perf_counter()
        for _ in container.decode(stream):
            frames += 1
        return {"seconds": time.perf_counter() - start, "frames": frames}


def read(video: str, settings: str = "{}") -> Result:
    """Read the samples of the settings and do nothing with them: a lower bound for any analysis."""
    from analyzer import Settings
    from analyzer.media.reader import VideoReader

    chosen = Settings.from_preset(**json.loads(settings))
    with VideoReader(Path(video), chosen) as reader:
        start = time.perf_counter()
        samples = sum(1 for _ in reader.samples())
        return {"seconds": time.perf_counter() - start, "samples": samples}


def encode(video: str) -> Result:
    """Decode and encode again with PyAV, with the encoder's settings of the annotated video."""
    import av
    from av.video.frame import PictureType

    from analyzer.output.encoder import find_encoder

    frames = 0
    with tempfile.TemporaryDirectory() as folder, av.open(video) as source:
        stream = source.streams.video[0]
        stream.thread_type = "AUTO"
        encoder = find_encoder(stream.width, stream.height)
        start = time.perf_counter()
        with av.open(str(Path(folder) / "again.mp4"), "w", options={"movflags": "+faststart"}) as target:
            out = target.add_stream(
                encoder.name, rate=stream.average_rate, options=encoder.options, hwaccel=encoder.device()
            )
            out.width, out.height, out.pix_fmt = stream.width, stream.height, encoder.pix_fmt
            out.codec_context.thread_count = 0
            for frame in source.decode(stream):
                frame.pict_type = PictureType.NONE  # else it would be encoded as the type that it was
                target.mux(out.encode(frame))
                frames += 1
            target.mux(out.encode())
        return {"seconds": time.perf_counter() - start, "frames": frames, "encoder": encoder.name}


def analyze(video: str, settings: str = "{}", timing: str = "analysis") -> Result:
    """Analyze with the settings (JSON; `preset` among them); `seconds` is the `timing` of ``run.json``."""
    from analyzer import Settings, analyze

    chosen = Settings.from_preset(**({"video": False} | json.loads(settings)))
    with tempfile.TemporaryDirectory() as out:
        run = analyze(video, chosen, out=out)
        info, people = run.info, len(run.people)
    return {
        "seconds": info["timings_s"][timing],
        "samples": info["counts"]["samples"],
        "faces": info["counts"]["faces"],
        "people": people,
        "timings_s": info["timings_s"],
        "stages_s": info.get("stages_s", {}),
        "bf16": any("bf16" in model["engine"] for model in info["models"]),
    }


def annotate(video: str) -> Result:
    """Analyze and write the annotated video: `seconds` is what writing takes."""
    return analyze(video, '{"video": true}', "render")


def by_place(video: str) -> Result:
    """Analyze without shot boundaries and embeddings; `seconds` leaves out linking."""
    import numpy as np

    from analyzer.analysis import detection, segment
    from analyzer.analysis.tracking import FaceTracker

    class NoCuts:
        def is_shot_boundary(self, image: object) -> bool:
            return False

    for module, name, value in (
        (detection, "ShotDetector", NoCuts),
        (detection, "thumbnail", lambda image: np.zeros((54, 96, 3), np.uint8)),
        (segment, "FaceTracker", lambda reader, *rest, **named: FaceTracker(None, *rest, **named)),
    ):
        if not hasattr(module, name):
            return {"missing": f"{module.__name__} has no {name} to be left out"}
        setattr(module, name, value)
    result = analyze(video)
    return result | {"seconds": result["seconds"] - result["timings_s"]["link"]}


def link(count: str) -> Result:
    """Link, fuse and estimate shares over made tables with `count` tracklets."""
    from analyzer.people.fusion import fuse_people
    from analyzer.people.identity import link_tracklets
    from analyzer.people.proportions import estimate_proportions
    from analyzer.settings import Settings
    from analyzer.vision.calibration import Calibration

    faces, samples, embeddings = many_tracklets(int(count))
    start = time.perf_counter()
    linked = link_tracklets(faces, samples, embeddings)
    faces["person_id"] = linked.person_ids
    owners = faces.groupby("tracklet_id")["person_id"].max()
    embeddings["person_id"] = embeddings["tracklet_id"].map(owners)
    people = fuse_people(faces, samples, Settings(), Calibration.load())
    estimate_proportions(people, Settings(), Calibration.load())
    return {"seconds": time.perf_counter() - start, "people": len(people)}


def many_tracklets(count: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Faces, samples and embeddings of a long video with `count` tracklets of five sightings, 20 a person.

    Two are always on screen at once. Embeddings of one person lie about 0.3 apart, of two about 0.8.
    """
    import numpy as np
    import pandas as pd

    random = np.random.default_rng(count)
    people = count // TRACKLETS_A_PERSON
    centers = random.normal(0, 0.8 / np.sqrt(2 * 128), (people, 128))
    owner = random.permutation(np.repeat(np.arange(people), TRACKLETS_A_PERSON))[:count]
    # Nobody is seen twice at once.
    again = owner[::2] == owner[1::2]
    owner[1::2][again] = (owner[1::2][again] + 1) % people
    start = np.arange(count) // 2 * 10
    sample = (start[:, None] + np.arange(5)).ravel()
    tracklet = np.repeat(np.arange(count), 5)
    left = np.where(tracklet % 2, 600.0, 100.0) + random.uniform(0, 300, count)[tracklet]
    faces = pd.DataFrame({"sample": sample, "time_s": sample / 5, "tracklet_id": tracklet, "person_id": -1})
    faces = faces.assign(x1=left, y1=100.0, x2=left + 80, y2=200.0, score=0.9)
    faces["landmarks"] = [np.array([30, 40, 60, 40, 45, 60, 32, 75, 58, 75], np.float32)] * len(faces)
    faces["female_prob"], faces["age_years"], faces["age_std_years"] = 0.9, 30.0, 5.0
    faces = faces.sort_values("sample", kind="stable", ignore_index=True)
    times = np.arange(int(sample.max()) + 6) / 5
    samples = pd.DataFrame(
        {"sample": np.arange(len(times)), "time_s": times, "duration_s": 0.2, "shot": 0, "image": ""}
    )
    vectors = centers[owner] + random.normal(0, 0.3 / np.sqrt(2 * 128), (count, 128))
    embeddings = pd.DataFrame({"tracklet_id": np.arange(count), "crops": 1, "crop_px": 80.0})
    embeddings["embedding"] = list(vectors.astype(np.float32))
    return faces, samples, embeddings


def peak_mb() -> float:
    """The most memory that this process has held, in MB.

    Where Linux tells it, without what was inherited from the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text("ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


WORK = {work.__name__: work for work in (decode, read, encode, analyze, annotate, by_place, link)}


def main() -> None:
    """Do one piece of work and print what came out."""
    name, *arguments = sys.argv[1:]
    result = WORK[name](*arguments)
    print(json.dumps(result | {"peak_mb": peak_mb()}))


if __name__ == "__main__":
    main()
