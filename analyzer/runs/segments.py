"""Committed segments of an unfinished run: the unit of resuming."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import io
import json
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analyzer.analysis.shots import ShotDetector
from analyzer.faces import Faces
from analyzer.media.read_report import NOTHING_READ, ReadReport
from analyzer.runs.schema import EMBEDDINGS, FACES, SAMPLES
from analyzer.runs.tables import concat_tables, empty_table, no_clock, write_parquet
from analyzer.util.atomic import output_errors, reading_errors, sync_folder, writing
from analyzer.util.system import undisturbed
from analyzer.util.text import well_formed
from analyzer.util.validation import Limits, conform

if TYPE_CHECKING:
    from analyzer.analysis.segment import SegmentResult

__all__ = [
    "DamagedPartError",
    "Part",
    "PartStore",
    "Received",
    "is_whole",
    "part_stores",
    "segment_tables",
]

_TABLES = {"samples": SAMPLES, "faces": FACES, "embeddings": EMBEDDINGS}
_EDGES, _READ = "edges.npy", "read.json"
_FILES = (*(f"{name}.parquet" for name in _TABLES), _EDGES, _READ)
"""The files of a part."""

_LARGEST_BYTES = 2**30
"""Larger parts are not accepted from other machines; real ones have some megabytes at most."""


_COUNTS = Limits(low=0, high=2**53, longest_text=1000)


class DamagedPartError(ValueError):
    """Bytes that should be a packed part are something else."""


_PASSING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EIO)
"""Errors of the system that say nothing about what a file holds."""


@dataclass(frozen=True, eq=False)
class Recorded:
    """The tables that everything else is derived from."""

    samples: pd.DataFrame
    faces: pd.DataFrame
    embeddings: pd.DataFrame


@dataclass(frozen=True)
class Received:
    """How a sample of a live source arrived."""

    clock_s: float
    """Time in seconds since 1970 (UTC)."""
    gap_s: float
    """Column of the samples table."""
    dropped: int
    """Likewise."""


def segment_tables(
    result: SegmentResult, video_id: str, received: Sequence[Received] | None = None
) -> Recorded:
    """Return the tables of one segment.

    Sample, shot and tracklet numbers start at 0 in each segment; `PartStore.collect` renumbers them.
    `person_id` is -1 and `duration_s` 0: both are derived from the whole video.

    Args:
        result: Of the segment.
        video_id: Of the video.
        received: For a live source, how each sample arrived.
    """
    samples = pd.DataFrame(
        {
            "video_id": video_id,
            "segment": result.segment,
            "sample": np.arange(len(result.times_s)),
            "time_s": np.array(result.times_s, dtype=np.float64),
            "duration_s": 0.0,
            "shot": np.cumsum(np.array(result.shot_boundaries, dtype=np.int64)),
            "detection_age_s": np.array(result.detection_age_s, dtype=np.float64),
            "width": np.array([width for width, _ in result.sizes], dtype=np.int64),
            "height": np.array([height for _, height in result.sizes], dtype=np.int64),
            "image": [well_formed(name) for name in result.image_names],
            "clock": no_clock(len(result.times_s)),
            "gap_s": 0.0,
            "dropped": 0,
        }
    )
    if received is not None:
        clocks = pd.to_datetime([one.clock_s for one in received], unit="s", utc=True)
        samples["clock"] = clocks.as_unit("ms")
        samples["gap_s"] = [one.gap_s for one in received]
        samples["dropped"] = [one.dropped for one in received]
    counts = [len(faces) for faces in result.faces]

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in (*result.faces, Faces.empty())])

    boxes = joined("boxes")
    faces = pd.DataFrame(
        {
            "video_id": video_id,
            "segment": result.segment,
            "sample": np.repeat(np.arange(len(counts)), counts),
            "time_s": np.repeat(np.array(result.times_s, dtype=np.float64), counts),
            "detection_age_s": np.repeat(np.array(result.detection_age_s, dtype=np.float64), counts),
            **{name: boxes[:, column] for column, name in enumerate(("x1", "y1", "x2", "y2"))},
            "score": joined("scores"),
            "landmarks": list(joined("landmarks").reshape(-1, 10)),
            "quality": joined("quality"),
            "female_prob": joined("female_prob"),
            "age_years": joined("age_years"),
            "age_std_years": joined("age_std_years"),
            "tracklet_id": joined("track_ids"),
            "person_id": np.full(len(boxes), -1),
            "linked_person_id": np.full(len(boxes), -1),
        }
    )
    tracklets = result.tracklets
    embeddings = pd.DataFrame(
        {
            "video_id": video_id,
            "tracklet_id": tracklets.ids,
            "person_id": np.full(len(tracklets), -1),
            "crops": tracklets.crops,
            "crop_px": tracklets.crop_px,
            "embedding": list(tracklets.embeddings),
        }
    )
    return Recorded(samples, faces, embeddings)


@dataclass(frozen=True)
class Part:
    """A committed segment."""

    segment: int
    samples: int
    faces: int
    size_bytes: int


class PartStore:
    """The finished segments of an unfinished run: one folder each, committed by renaming it.

    The name of a part contains the cache key, so parts of other settings, models or files are not used. Parts
    contain face embeddings: only the owner can read the folder.
    """

    def __init__(self, run_folder: Path, key: str) -> None:
        self.folder = run_folder / ".parts"
        self._key = key

    def _part(self, segment: int) -> Path:
        return self.folder / f"{self._key}-{segment:06d}"

    @property
    def key(self) -> str:
        """The cache key of the parts."""
        return self._key

    def commit(
        self,
        result: SegmentResult,
        video_id: str,
        received: Sequence[Received] | None = None,
        *,
        read: ReadReport = NOTHING_READ,
    ) -> Part:
        """Store a finished segment.

        Args:
            result: Of the segment.
            video_id: Of the video.
            received: As in `segment_tables`.
            read: How it was read.

        Raises:
            OutputError: It cannot be written.
        """
        return self._keep(
            self._part(result.segment),
            result.segment,
            segment_tables(result, video_id, received),
            np.stack(result.edges),
            read,
        )

    def commit_empty(self, segment: int, *, read: ReadReport = NOTHING_READ) -> Part:
        """Store that a segment has no samples, and how it was read.

        Raises:
            OutputError: It cannot be written.
        """
        nothing = Recorded(empty_table(SAMPLES), empty_table(FACES), empty_table(EMBEDDINGS))
        return self._keep(self._part(segment), segment, nothing, np.empty(0, np.uint8), read)

    def _keep(
        self, final: Path, segment: int, tables: Recorded, edges: np.ndarray, read: ReadReport = NOTHING_READ
    ) -> Part:
        with self._new(final) as temporary:
            for name, columns in _TABLES.items():
                write_parquet(temporary / f"{name}.parquet", getattr(tables, name), columns)
            packed = io.BytesIO()  # NumPy does not say why it could not write to a file
            np.save(packed, edges)
            _write(temporary / _EDGES, packed.getbuffer())
            _write(temporary / _READ, json.dumps(dataclasses.asdict(read)).encode())
            size = sum(path.stat().st_size for path in temporary.iterdir())
        return Part(segment, len(tables.samples), len(tables.faces), size)

    @contextlib.contextmanager
    def _new(self, final: Path) -> Iterator[Path]:
        """Give a folder to write a part to; it gets its name when the block succeeds.

        Raises:
            OutputError: It cannot be written.
        """
        # Ctrl-C must not cost a segment that is being written.
        with undisturbed(), output_errors(final), contextlib.ExitStack() as stack:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix="new-", dir=self.folder))
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)  # it takes space
            yield temporary
            if final.exists():
                old = temporary.with_name(f"old-{temporary.name}")
                stack.callback(shutil.rmtree, old, ignore_errors=True)
                final.replace(old)
            temporary.replace(final)
            sync_folder(self.folder)

    def pack(self, segment: int) -> bytes:
        """Return a stored segment as bytes, to be sent to another machine.

        Raises:
            OutputError: It cannot be read.
        """
        part, packed = self._part(segment), io.BytesIO()
        # Stored as they are: Parquet is compressed already.
        with reading_errors(part), zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
            for name in _FILES:
                archive.writestr(name, (part / name).read_bytes())
        return packed.getvalue()

    def unpack(self, packed: bytes, segment: int) -> bool:
        """Store a segment that `pack` returned, on another machine perhaps. The bytes are not trusted.

        Returns:
            Whether it was stored; False: it was there already, and whole.

        Raises:
            DamagedPartError: The bytes are not a packed part.
            OutputError: It cannot be written.
        """
        final = self._part(segment)
        if final.exists() and is_whole(final):
            return False
        files = _unpacked(packed)
        with self._new(final) as temporary:
            for name, content in files.items():
                _write(temporary / name, content)
            if not is_whole(temporary):
                raise DamagedPartError("a part cannot be read")
        return True

    def segments(self) -> list[int]:
        """Return the numbers of the stored segments, ascending. Incomplete parts are removed."""
        stored: list[int] = []
        for part in sorted(self.folder.glob(f"{self._key}-*")):
            if is_whole(part):
                stored.append(int(part.name.rpartition("-")[2]))
            else:
                shutil.rmtree(part, ignore_errors=True)
        return stored

    def collect(self) -> Recorded:
        """Return the tables of all stored segments, renumbered."""
        return self._joined(self._listed())[0]

    def read_reports(self) -> list[ReadReport]:
        """Return how each of the stored segments was read, in the order of time."""
        return [_read_report(part) for part in self._listed()]

    def _listed(self) -> list[Path]:
        """Return the parts in the order of time."""
        return [self._part(segment) for segment in self.segments()]

    def _joined(self, parts: Sequence[Path]) -> tuple[Recorded, np.ndarray | None]:
        """Return the tables of some parts, renumbered, and the first and last of their edges."""
        samples, faces, embeddings = [empty_table(SAMPLES)], [empty_table(FACES)], [empty_table(EMBEDDINGS)]
        sample_start = tracklet_start = shot_start = 0
        first_edge: np.ndarray | None = None
        last_edge: np.ndarray | None = None
        for part in parts:
            some, seen, vectors = (
                pq.read_table(part / f"{name}.parquet").to_pandas()
                for name in ("samples", "faces", "embeddings")
            )
            if some.empty:
                continue
            edges = np.load(part / "edges.npy", allow_pickle=False)
            if last_edge is not None:
                shots = ShotDetector()
                shots.is_shot_boundary(last_edge)
                shot_start += shots.is_shot_boundary(edges[0])
            first_edge, last_edge = edges[0] if first_edge is None else first_edge, edges[1]
            some["sample"] += sample_start
            some["shot"] += shot_start
            seen["sample"] += sample_start
            for table in (seen, vectors):
                table["tracklet_id"] += tracklet_start
            sample_start += len(some)
            shot_start = int(some["shot"].iloc[-1])
            tracklet_start = int(seen["tracklet_id"].max()) + 1 if len(seen) else tracklet_start
            samples.append(some)
            faces.append(seen)
            embeddings.append(vectors)
        both = None if first_edge is None or last_edge is None else np.stack([first_edge, last_edge])
        return Recorded(concat_tables(samples), concat_tables(faces), concat_tables(embeddings)), both

    def clear(self) -> None:
        """Remove all parts, including those of other keys."""
        shutil.rmtree(self.folder, ignore_errors=True)


def part_stores(run_folder: Path) -> list[PartStore]:
    """Return the stores of all keys that have parts in a run's folder."""
    names = (
        re.fullmatch(r"([0-9A-Za-z]+)-[0-9]{6,}", part.name)
        for part in PartStore(run_folder, "").folder.glob("*")
    )
    return [PartStore(run_folder, key) for key in sorted({name[1] for name in names if name is not None})]


def is_whole(part: Path) -> bool:
    """Tell whether all files of a part are there and not damaged.

    Raises:
        OutputError: That cannot be found out now, for example because too many files are open.
    """
    try:
        for name, columns in _TABLES.items():
            footer = pq.read_metadata(part / f"{name}.parquet")  # at the end of the file
            if footer.schema.to_arrow_schema().names != [column.name for column in columns]:
                return False
        # Mapped, so that a header cannot ask for more memory than the file has bytes.
        edges = np.load(part / _EDGES, mmap_mode="r", allow_pickle=False)
        _read_report(part)
        return isinstance(edges, np.ndarray) and edges.dtype == np.uint8
    except OSError as error:
        if error.errno in _PASSING:  # finished work must not be thrown away for it
            with reading_errors(part):
                raise
        return False
    except (EOFError, ValueError, RecursionError, pa.ArrowException):
        return False


def _read_report(part: Path) -> ReadReport:
    """Read how a part was read.

    Raises:
        OSError, ValueError, RecursionError: Its file is missing or damaged.
    """
    report: ReadReport = conform(json.loads((part / _READ).read_bytes()), ReadReport, _READ, _COUNTS)
    return report


def _write(path: Path, content: bytes | memoryview) -> None:
    with writing(path) as temporary:
        temporary.write_bytes(content)


def _unpacked(packed: bytes) -> dict[str, bytes]:
    """Return the files of a packed part.

    Raises:
        DamagedPartError: They are not those of a part.
    """
    if len(packed) > _LARGEST_BYTES:
        raise DamagedPartError(f"a part has {len(packed)} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            members = archive.infolist()
            named = sorted(one.filename for one in members) == sorted(_FILES)
            # Compressed ones could be of any size.
            if named and all(one.compress_type == zipfile.ZIP_STORED for one in members):
                return {one.filename: archive.read(one) for one in members}
    except (zipfile.BadZipFile, RuntimeError, OSError, EOFError, ValueError, struct.error) as error:
        raise DamagedPartError(f"a part cannot be unpacked: {error}") from error
    raise DamagedPartError("the files are not those of a part")
