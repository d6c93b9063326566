"""What is written: the schema of every table (once), part files, the run folder, the timeline.

CSV, Parquet and ``docs/records.md`` all come from `TABLES`. Everything is written to a temporary name in
the same folder, flushed to the disk and renamed, so a file that has its final name is whole.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analyzer.errors import OutputError
from analyzer.faces import Faces
from analyzer.files import output_errors, sync_folder, writing
from analyzer.settings import AGE_BANDS, REPORT_FORMATS, Settings
from analyzer.system import undisturbed
from analyzer.util import sheets
from analyzer.util.sheets import Sheet

if TYPE_CHECKING:
    from analyzer.segment import SegmentResult

__all__ = [
    "AUDIENCE_PEOPLE",
    "EMBEDDINGS",
    "FACES",
    "IMAGES",
    "PEOPLE",
    "REPORT_CHARTS",
    "REPORT_TABLES",
    "SAMPLES",
    "SCHEMA_VERSION",
    "SHARES",
    "Column",
    "Part",
    "PartStore",
    "Received",
    "Run",
    "documentation",
    "empty_table",
    "is_whole",
    "meanings_sheet",
    "no_clock",
    "people_columns",
    "publish",
    "report_files",
    "segment_tables",
    "sheet_of",
    "timeline_columns",
    "write_csv",
    "write_json",
    "write_parquet",
]

SCHEMA_VERSION = 5


@dataclass(frozen=True)
class Column:
    """One column of a table: `type` is what Parquet stores, `meaning` is what the documents say."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""


_FLOAT, _REAL, _INT, _TEXT, _BOOL = pa.float32(), pa.float64(), pa.int64(), pa.string(), pa.bool_()
_CLOCK = pa.timestamp("ms", tz="UTC")

_CARRIED = Column(
    "carried_s",
    _REAL,
    "0: faces were looked for in this sample. Else the picture had hardly changed, and the faces are those "
    "found so many seconds earlier.",
    "s",
)
SAMPLES = (
    Column("video_id", _TEXT, "Stable name of the video."),
    Column("segment", _INT, "Segment that the sample belongs to, from 0."),
    Column("sample", _INT, "Number of the analysed frame within the video, from 0."),
    Column("time_s", _REAL, "When it is shown, from the container's own time stamps.", "s"),
    Column(
        "duration_s",
        _REAL,
        "For how long it stands: until the next sample, unless pictures in between were lost.",
        "s",
    ),
    Column("shot", _INT, "Stretch between two cuts that the sample belongs to, from 0."),
    _CARRIED,
    Column(
        "width",
        _INT,
        "Width of the frame as a player shows it: upright, with square pixels. The boxes of its faces are in "
        "these pixels.",
        "pixels",
    ),
    Column("height", _INT, "Its height; both can change within a video.", "pixels"),
    Column("image", _TEXT, "File name, where the sample is a picture of a folder; else empty."),
    Column("clock", _CLOCK, "Live: when it was received, by this computer's clock; else empty.", "UTC"),
    Column(
        "gap_s",
        _REAL,
        "Live: seconds before it, since the sample before, of which no picture arrived, and those after "
        "them whose pictures were overtaken; they belong to no sample's `duration_s`. Else 0.",
        "s",
    ),
    Column(
        "dropped",
        _INT,
        "Live: pictures since the sample before that were due but not analysed, as newer ones had arrived. "
        "Else 0.",
    ),
)
FACES = (
    Column("video_id", _TEXT, "Stable name of the video."),
    Column("segment", _INT, "Segment that the sample belongs to, from 0."),
    Column("sample", _INT, "Number of the analysed frame within the video, from 0."),
    Column("time_s", _REAL, "When it is shown, from the container's own time stamps.", "s"),
    _CARRIED,
    Column("x1", _FLOAT, "Left edge of the face in the frame as a player shows it.", "pixels"),
    Column("y1", _FLOAT, "Upper edge.", "pixels"),
    Column("x2", _FLOAT, "Right edge.", "pixels"),
    Column("y2", _FLOAT, "Lower edge.", "pixels"),
    Column("score", _FLOAT, "The detector's confidence that this is a face.", "0 to 1"),
    Column(
        "landmarks",
        pa.list_(pa.float32(), 10),
        "x y of eye, eye, nose tip, mouth corner, mouth corner; each pair left to right in the picture; not "
        "numbers where the detector finds none.",
        "pixels",
    ),
    Column(
        "female_prob",
        _FLOAT,
        "Probability of the perceived gender female; empty where this sighting was not judged.",
        "0 to 1",
    ),
    Column(
        "age_years", _FLOAT, "Perceived age (expectation); empty where this sighting was not judged.", "years"
    ),
    Column("age_spread_years", _FLOAT, "Standard deviation of the network's own age distribution.", "years"),
    Column("tracklet_id", _INT, "The face followed within one shot of one segment."),
    Column("person_id", _INT, "The person of the people table; -1 where the face belongs to none."),
)
PEOPLE = (
    Column("video_id", _TEXT, "Stable name of the video."),
    Column("person_id", _INT, "Number of the person within the video, from 1, by first appearance."),
    Column("first_s", _REAL, "First seen.", "s"),
    Column("last_s", _REAL, "Last seen: end of the last sample that shows the person.", "s"),
    Column("on_screen_s", _REAL, "Sum of the durations of the samples that show the person.", "s"),
    Column("appearances", _INT, "Continuous stretches on screen; a gap of over 2 s begins a new one."),
    Column("samples", _INT, "Analysed frames that show the person."),
    Column("gender", _TEXT, "Perceived gender: female, male, or unknown below the stated confidence."),
    Column(
        "female_prob",
        _FLOAT,
        "Mean probability of female; empty where no sighting could be judged.",
        "0 to 1",
    ),
    Column("age_years", _FLOAT, "Mean perceived age; empty where no sighting could be judged.", "years"),
    Column(
        "age_low",
        _FLOAT,
        "Lower end of the interval of the age: of 80 % where that was measured (docs/accuracy.md).",
        "years",
    ),
    Column("age_high", _FLOAT, "Upper end of the interval of the age, likewise.", "years"),
    Column("age_band", _TEXT, "Age band of `age_years`, or unknown."),
    Column("face_px_median", _FLOAT, "Median width of the face.", "pixels"),
    Column(
        "frontal_share",
        _FLOAT,
        "Share of sightings that look towards the camera; empty where the detector finds no landmarks.",
        "0 to 1",
    ),
    Column("judged_samples", _INT, "Sightings on which gender and age were judged."),
)
AUDIENCE_PEOPLE = (
    Column("watcher", _BOOL, "Whether the person looked towards the camera; empty where that is not known."),
    Column(
        "attention_s",
        _REAL,
        "For how long the face was directed towards the camera; empty where that is not known.",
        "s",
    ),
    Column(
        "dwell_s",
        _REAL,
        "Of a watcher: from first seen until leaving, all visits added up; else empty.",
        "s",
    ),
    Column("attraction_ratio", _REAL, "`attention_s` as a share of `dwell_s`.", "0 to 1"),
)
"""What `--scene audience` adds to `PEOPLE`."""
SHARES = (
    Column("video_id", _TEXT, "Stable name of the video."),
    Column("dimension", _TEXT, "What is shared out: gender or age."),
    Column("group", _TEXT, "The group: female, male; or an age band."),
    Column("people_share", _FLOAT, "Estimated share of the people.", "0 to 1"),
    Column("people_low", _FLOAT, "Lower end of its 95 % interval.", "0 to 1"),
    Column("people_high", _FLOAT, "Upper end.", "0 to 1"),
    Column("time_share", _FLOAT, "Estimated share of the time that people are on screen.", "0 to 1"),
    Column("time_low", _FLOAT, "Lower end of its 95 % interval.", "0 to 1"),
    Column("time_high", _FLOAT, "Upper end.", "0 to 1"),
)
IMAGES = (
    Column("video_id", _TEXT, "Stable name of the folder or of the images that were named together."),
    Column("image", _TEXT, "File name. Every image that was asked for has a row."),
    Column("readable", _BOOL, "Whether the image could be read; if not, nothing else is known of it."),
    Column("reason", _TEXT, "Why it could not be read, in a sentence; empty where it could."),
    Column("sample", _INT, "Number of the image in the samples and faces tables, -1 if it was not read."),
    Column("width", _INT, "Of the upright image; empty where it is not known.", "pixels"),
    Column("height", _INT, "Likewise.", "pixels"),
    Column("people", _INT, "People in the image: so many rows it has, and one where there is nobody."),
    Column("faces", _INT, "Faces found in it, also those that are not counted as people."),
    Column("person_id", _INT, "The person of the people table; -1 in the row of an image without people."),
    Column("person_images", _INT, "How many of the images show this person; 0 for nobody."),
    Column("gender", _TEXT, "Of the person, from all images: female, male or unknown; empty for nobody."),
    Column("age_years", _FLOAT, "Of the person, from all images; empty where it is not known.", "years"),
    Column(
        "age_low",
        _FLOAT,
        "Lower end of the interval of the age: of 80 % where that was measured (docs/accuracy.md).",
        "years",
    ),
    Column("age_high", _FLOAT, "Upper end of the interval of the age, likewise.", "years"),
    Column("age_band", _TEXT, "Age band of `age_years`, or unknown; empty for nobody."),
    Column("x1", _FLOAT, "Left edge of the face in this image.", "pixels"),
    Column("y1", _FLOAT, "Upper edge.", "pixels"),
    Column("x2", _FLOAT, "Right edge.", "pixels"),
    Column("y2", _FLOAT, "Lower edge.", "pixels"),
    Column("score", _FLOAT, "The detector's confidence that this is a face.", "0 to 1"),
    Column("face_female_prob", _FLOAT, "Estimated on this image alone: probability of female.", "0 to 1"),
    Column("face_age_years", _FLOAT, "Estimated on this image alone: age.", "years"),
)
"""Only of runs of images."""
EMBEDDINGS = (
    Column("video_id", _TEXT, "Stable name of the video."),
    Column("tracklet_id", _INT, "The tracklet of the faces table."),
    Column("person_id", _INT, "The person of the people table; -1 where it belongs to none."),
    Column("views", _INT, "How many views were compared."),
    Column("view_px", _FLOAT, "Width of the face in the widest of them.", "pixels"),
    Column("embedding", pa.list_(pa.float32()), "Mean of the views' embeddings."),
)


def people_columns(settings: Settings) -> tuple[Column, ...]:
    """The columns of the people table; an audience has some more.

    >>> [column.name for column in people_columns(Settings(scene="audience"))[-2:]]
    ['dwell_s', 'attraction_ratio']
    """
    return PEOPLE + (AUDIENCE_PEOPLE if settings.scene == "audience" else ())


def timeline_columns(settings: Settings) -> tuple[Column, ...]:
    """The timeline's columns; one per age band of `settings`, and an audience's watchers."""
    watchers = Column(
        "watchers",
        _INT,
        "People who look towards the camera in the bin; empty where that is not known of anybody.",
    )
    return (
        Column("video_id", _TEXT, "Stable name of the video."),
        Column("start_s", _REAL, "Start of the bin.", "s"),
        Column("end_s", _REAL, "End of the bin; the next one begins here.", "s"),
        Column(
            "samples",
            _INT,
            "Analysed frames in the bin; 0: the last one before it still stands, or nothing is known.",
        ),
        Column(
            "faces_mean",
            _FLOAT,
            "Faces per analysed frame, also those that are no person; empty without samples.",
        ),
        Column("people", _INT, "Distinct people seen in the bin."),
        Column("new_people", _INT, "Those of them seen for the first time."),
        Column("female", _INT, "People of perceived gender female."),
        Column("male", _INT, "People of perceived gender male."),
        Column("unknown_gender", _INT, "People whose gender is unknown. The three add up to `people`."),
        *(Column(band.column, _INT, f"People of perceived age {band.name}.") for band in settings.bands),
        Column("unknown_age", _INT, "People whose age is unknown. With the bands it adds up to `people`."),
        Column("clock", _CLOCK, "Live: the start of the bin by this computer's clock; else empty.", "UTC"),
        *([watchers] if settings.scene == "audience" else []),
    )


# --- writing -----------------------------------------------------------------------------------------


def _to_arrow(frame: pd.DataFrame, columns: tuple[Column, ...]) -> pa.Table:
    missing = [column.name for column in columns if column.name not in frame]
    extra = [name for name in frame if name not in {column.name for column in columns}]
    if missing or extra:
        raise ValueError(f"table does not fit its schema: missing {missing}, not in it {extra}")
    schema = pa.schema(
        [pa.field(c.name, c.type, metadata={"meaning": c.meaning, "unit": c.unit}) for c in columns],
        metadata={"analyzer_schema_version": str(SCHEMA_VERSION)},
    )
    if frame.empty:
        return schema.empty_table()
    return pa.Table.from_pandas(frame[[c.name for c in columns]], schema=schema, preserve_index=False)


def write_parquet(path: Path, frame: pd.DataFrame, columns: tuple[Column, ...]) -> None:
    """Write a table as Parquet, one row group, types and meanings from the schema.

    Raises:
        OutputError: It cannot be written.
        ValueError: The table does not fit the schema.
    """
    table = _to_arrow(frame, columns)
    with writing(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=max(1, len(table)))


def _iso_time(moment: pd.Timestamp) -> str:
    return moment.isoformat(timespec="milliseconds")


def no_clock(rows: int) -> pd.Series[pd.Timestamp]:
    """A column of so many moments that are not known."""
    return pd.Series(pd.NaT, index=range(rows), dtype="datetime64[ms, UTC]")


def write_csv(path: Path, frame: pd.DataFrame, columns: tuple[Column, ...]) -> None:
    """Write a table as CSV; text cells cannot be taken for formulas, numbers stay numbers.

    Raises:
        OutputError: It cannot be written.
        ValueError: The table does not fit the schema.
    """
    sheets.write_csv(path, _shown(frame, columns))


def _shown(frame: pd.DataFrame, columns: tuple[Column, ...]) -> pd.DataFrame:
    """A table as people read it: numbers with few decimals, moments as text."""
    table: pd.DataFrame = _to_arrow(frame, columns).to_pandas()
    for column in columns:
        if column.type == _CLOCK:
            table[column.name] = table[column.name].map(_iso_time, na_action="ignore")
        elif column.type == _REAL:
            table[column.name] = table[column.name].round(6)
        elif column.type == _FLOAT:
            table[column.name] = table[column.name].astype(np.float64).round(4)
    return table


def sheet_of(name: str, frame: pd.DataFrame, columns: tuple[Column, ...]) -> Sheet:
    """A table as a sheet of a workbook.

    Raises:
        ValueError: The table does not fit the schema.
    """
    table = _shown(frame, columns)
    plain = table.astype(object).where(table.notna(), None)
    rows = [tuple(map(_plain, row)) for row in plain.itertuples(index=False, name=None)]
    shares = frozenset(column.name for column in columns if column.unit == "0 to 1")
    return Sheet(name, [column.name for column in columns], rows, shares)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def meanings_sheet(tables: dict[str, tuple[Column, ...]]) -> Sheet:
    """What the columns of the other sheets mean."""
    rows = [
        (name, column.name, column.unit, column.meaning)
        for name, columns in tables.items()
        for column in columns
    ]
    return Sheet("columns", ("sheet", "column", "unit", "meaning"), rows)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file.

    Raises:
        OutputError: It cannot be written.
    """
    with writing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n", "utf-8")


def empty_table(columns: tuple[Column, ...]) -> pd.DataFrame:
    """A table without rows."""
    schema = pa.schema([pa.field(column.name, column.type) for column in columns])
    table: pd.DataFrame = schema.empty_table().to_pandas()
    return table


# --- segments ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Recorded:
    """What was recorded while reading: the tables that everything else is derived from."""

    samples: pd.DataFrame
    faces: pd.DataFrame
    embeddings: pd.DataFrame


@dataclass(frozen=True)
class Received:
    """How a sample of a live source arrived."""

    clock_s: float
    """When, in seconds since 1970 (UTC)."""
    gap_s: float
    """Column of the samples table."""
    dropped: int
    """Likewise."""


def segment_tables(
    result: SegmentResult, video_id: str, received: Sequence[Received] | None = None
) -> Recorded:
    """The tables of one segment; `received` tells of each sample of a live source how it arrived.

    Sample, shot and tracklet numbers count within the segment here; `PartStore.collect` makes them count
    within the video. `person_id` is -1, `duration_s` 0: both are derived from the whole video.
    """
    from analyzer.source import shown_name  # late, as all that only analysing needs: reading runs is quick

    samples = pd.DataFrame(
        {
            "video_id": video_id,
            "segment": result.segment,
            "sample": np.arange(len(result.times_s)),
            "time_s": np.array(result.times_s, dtype=np.float64),
            "duration_s": 0.0,
            "shot": np.cumsum(np.array(result.cuts, dtype=np.int64)),
            "carried_s": np.array(result.carried_s, dtype=np.float64),
            "width": np.array([width for width, _ in result.sizes], dtype=np.int64),
            "height": np.array([height for _, height in result.sizes], dtype=np.int64),
            "image": [shown_name(name) for name in result.image_names],
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
            "carried_s": np.repeat(np.array(result.carried_s, dtype=np.float64), counts),
            **{name: boxes[:, column] for column, name in enumerate(("x1", "y1", "x2", "y2"))},
            "score": joined("scores"),
            "landmarks": list(joined("landmarks").reshape(-1, 10)),
            "female_prob": joined("female_prob"),
            "age_years": joined("age_years"),
            "age_spread_years": joined("age_spread_years"),
            "tracklet_id": joined("track_ids"),
            "person_id": np.full(len(boxes), -1),
        }
    )
    looks = result.tracklets
    embeddings = pd.DataFrame(
        {
            "video_id": video_id,
            "tracklet_id": looks.ids,
            "person_id": np.full(len(looks), -1),
            "views": looks.views,
            "view_px": looks.view_px,
            "embedding": list(looks.embeddings),
        }
    )
    return Recorded(samples, faces, embeddings)


@dataclass(frozen=True)
class Part:
    """A segment that was committed."""

    segment: int
    samples: int
    faces: int
    size_bytes: int


class PartStore:
    """The finished segments of an unfinished run: one folder each, committed by rename.

    A part's name holds the key of the work, so that parts of other settings, networks or files are
    neither used nor kept. Parts hold embeddings of faces: the folder is its owner's alone.
    """

    def __init__(self, run_folder: Path, key: str) -> None:
        self.folder = run_folder / ".parts"
        self._key = key

    def _part(self, segment: int) -> Path:
        return self.folder / f"{self._key}-{segment:06d}"

    @property
    def key(self) -> str:
        """Of the work whose parts these are."""
        return self._key

    def commit(
        self, result: SegmentResult, video_id: str, received: Sequence[Received] | None = None
    ) -> Part:
        """Keep a finished segment; `received` as in `segment_tables`.

        Raises:
            OutputError: It cannot be written.
        """
        return self._keep(
            self._part(result.segment),
            result.segment,
            segment_tables(result, video_id, received),
            np.stack(result.edges),
        )

    def commit_empty(self, segment: int) -> Part:
        """Keep that there are no samples in a segment.

        Raises:
            OutputError: It cannot be written.
        """
        nothing = Recorded(empty_table(SAMPLES), empty_table(FACES), empty_table(EMBEDDINGS))
        return self._keep(self._part(segment), segment, nothing, np.empty(0, np.uint8))

    def _keep(self, final: Path, segment: int, tables: Recorded, edges: np.ndarray) -> Part:
        # What was analysed is kept also if Ctrl-C comes while it is written.
        with undisturbed(), output_errors(final), contextlib.ExitStack() as stack:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix="new-", dir=self.folder))
            stack.callback(shutil.rmtree, temporary, ignore_errors=True)  # it takes space that is wanted
            write_parquet(temporary / "samples.parquet", tables.samples, SAMPLES)
            write_parquet(temporary / "faces.parquet", tables.faces, FACES)
            write_parquet(temporary / "embeddings.parquet", tables.embeddings, EMBEDDINGS)
            packed = io.BytesIO()  # writing to a file, NumPy does not say why it could not
            np.save(packed, edges)
            with writing(temporary / "edges.npy") as path:
                path.write_bytes(packed.getbuffer())
            if final.exists():
                final.replace(temporary.with_name(f"old-{temporary.name}"))
            size = sum(path.stat().st_size for path in temporary.iterdir())
            temporary.replace(final)
            sync_folder(self.folder)
        return Part(segment, len(tables.samples), len(tables.faces), size)

    def segments(self) -> list[int]:
        """The numbers of the segments that are kept, ascending. Parts that are not whole are removed."""
        kept: list[int] = []
        for part in sorted(self.folder.glob(f"{self._key}-*")):
            if is_whole(part):
                kept.append(int(part.name.rpartition("-")[2]))
            else:
                shutil.rmtree(part, ignore_errors=True)
        return kept

    def collect(self) -> Recorded:
        """The tables of all kept segments, numbered through."""
        return self._joined(self._listed())[0]

    def _listed(self) -> list[Path]:
        """The parts in the order of time."""
        return [self._part(segment) for segment in self.segments()]

    def _joined(self, parts: Sequence[Path]) -> tuple[Recorded, np.ndarray | None]:
        """The tables of some parts, numbered through, and the first and last of their edges."""
        from analyzer.shots import CutFinder

        samples, faces, looks = [empty_table(SAMPLES)], [empty_table(FACES)], [empty_table(EMBEDDINGS)]
        sample_start = tracklet_start = shot_start = 0
        first_edge: np.ndarray | None = None
        last_edge: np.ndarray | None = None
        for part in parts:
            some, seen, views = (
                pq.read_table(part / f"{name}.parquet").to_pandas()
                for name in ("samples", "faces", "embeddings")
            )
            if some.empty:
                continue
            edges = np.load(part / "edges.npy", allow_pickle=False)
            if last_edge is not None:
                finder = CutFinder()
                finder.is_cut(last_edge)
                shot_start += finder.is_cut(edges[0])
            first_edge, last_edge = edges[0] if first_edge is None else first_edge, edges[1]
            some["sample"] += sample_start
            some["shot"] += shot_start
            seen["sample"] += sample_start
            for table in (seen, views):
                table["tracklet_id"] += tracklet_start
            sample_start += len(some)
            shot_start = int(some["shot"].iloc[-1])
            tracklet_start = int(seen["tracklet_id"].max()) + 1 if len(seen) else tracklet_start
            samples.append(some)
            faces.append(seen)
            looks.append(views)
        both = None if first_edge is None or last_edge is None else np.stack([first_edge, last_edge])
        return Recorded(_concat(samples), _concat(faces), _concat(looks)), both

    def clear(self) -> None:
        """Remove all parts, also those of other keys."""
        shutil.rmtree(self.folder, ignore_errors=True)


def is_whole(part: Path) -> bool:
    """Whether all files of a part can be read."""
    try:
        for name in ("samples", "faces", "embeddings"):
            pq.read_metadata(part / f"{name}.parquet")  # it stands at the end of the file
        np.load(part / "edges.npy", allow_pickle=False)
    except (OSError, EOFError, ValueError, pa.ArrowException):
        return False
    return True


def _concat(frames: list[pd.DataFrame]) -> pd.DataFrame:
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


# --- run folder --------------------------------------------------------------------------------------

_OUTPUTS = (
    "run.json",
    "timeline.csv",
    "timeline.parquet",
    "people.csv",
    "people.parquet",
    "shares.csv",
    "shares.parquet",
    "images.csv",
    "images.parquet",
    "tables.xlsx",
    "samples.parquet",
    "faces.parquet",
    "embeddings.parquet",
    "annotated.mp4",
    "annotated",
)


REPORT_CHARTS = (
    *("timeline", "timeline-ages", "people", "pyramid", "shares"),
    *("at-once", "videos", "groups", "trend", "audience"),
)
"""Names of a report's charts; ``report-<name>.png`` are their files."""
REPORT_TABLES = (
    *("figures", "shares", "screen-time", "pyramid", "moments", "people", "stretches"),
    *("images", "pairs", "trend", "comparison", "audience", "at-once", "attention"),
)
"""Names of a report's tables; ``report-<name>.csv`` are their files."""


def report_files() -> tuple[str, ...]:
    """The names of all files that a report can consist of.

    >>> all(name.startswith(("report.", "report-")) for name in report_files())
    True
    """
    return (
        *(f"report.{form}" for form in REPORT_FORMATS if form not in ("png", "csv")),
        *(f"report-{name}.png" for name in REPORT_CHARTS),
        *(f"report-{name}.csv" for name in REPORT_TABLES),
    )


def publish(staging: Path, run_folder: Path, *, grows: bool = False) -> tuple[str, ...]:
    """Move finished outputs into the run's folder in place of those of an earlier run and its report.

    ``run.json`` goes first and comes last: while it is missing, the folder is not a finished run.

    Args:
        staging: Holds them; in the same file system.
        run_folder: Exists.
        grows: The same run as before, grown: each file takes the place of its former self, and none is
            missing in between.

    Returns:
        The names of the files of an earlier report that were removed.

    Raises:
        OutputError: They cannot be moved.
    """
    reports = () if grows else tuple(name for name in report_files() if (run_folder / name).exists())
    with output_errors(run_folder):
        for name in () if grows else (*_OUTPUTS, *report_files()):
            old = run_folder / name
            if old.is_dir():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
        names = sorted((path.name for path in staging.iterdir()), key=lambda name: name == "run.json")
        for name in names:
            (staging / name).replace(run_folder / name)
        sync_folder(run_folder)
    return reports


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what ``run.json`` says. Tables are read on first use."""

    folder: Path
    info: dict[str, Any]

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Open a run's folder.

        Raises:
            OutputError: It holds no finished run.
        """
        path = Path(folder)
        try:
            info = json.loads((path / "run.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise OutputError(f"{path} holds no finished run: analyse the video again") from error
        return cls(path, info)

    @property
    def complete(self) -> bool:
        """Whether the whole video was read."""
        return bool(self.info["complete"])

    @property
    def video_error(self) -> str:
        """Why the annotated video that was asked for is missing; else empty."""
        return str((self.info.get("annotated") or {}).get("error") or "")

    @property
    def measured(self) -> bool:
        """Whether it was measured how often its networks err, as shares and intervals of 80 % need it."""
        return bool((self.info.get("calibration") or {}).get("measured", True))

    @functools.cached_property
    def timeline(self) -> pd.DataFrame:
        """One row a bin: the columns of `timeline_columns`."""
        return self._read("timeline")

    @functools.cached_property
    def people(self) -> pd.DataFrame:
        """One row a person: the columns of `people_columns`."""
        return self._read("people")

    @functools.cached_property
    def shares(self) -> pd.DataFrame:
        """One row a group: the columns of `SHARES`."""
        return self._read("shares")

    @functools.cached_property
    def images(self) -> pd.DataFrame:
        """One row an image and person: the columns of `IMAGES`; without rows for a video."""
        known = any((self.folder / f"images.{form}").exists() for form in ("parquet", "csv"))
        return self._read("images") if known else empty_table(IMAGES)

    @functools.cached_property
    def faces(self) -> pd.DataFrame:
        """One row a face: the columns of `FACES`."""
        return self._read("faces")

    @functools.cached_property
    def samples(self) -> pd.DataFrame:
        """One row an analysed frame: the columns of `SAMPLES`."""
        return self._read("samples")

    def _read(self, name: str) -> pd.DataFrame:
        parquet = self.folder / f"{name}.parquet"
        if parquet.exists():
            table: pd.DataFrame = pq.read_table(parquet).to_pandas()
            return table
        # An id of digits alone must stay text.
        table = pd.read_csv(
            self.folder / f"{name}.csv", dtype={c.name: str for c in (*PEOPLE, *IMAGES) if c.type == _TEXT}
        )
        if "clock" in table:
            table["clock"] = pd.to_datetime(table["clock"], utc=True, format="ISO8601").dt.as_unit("ms")
        return table


# --- documents ---------------------------------------------------------------------------------------


def documentation() -> str:
    """``docs/records.md``: every table and column, from the schema."""
    lines = [
        "# Tables",
        "",
        "Generated from the schema in `analyzer/records.py` by `make docs`; schema version "
        f"{SCHEMA_VERSION}. Absence has one spelling: an empty cell (NaN) for a measurement, -1 for an id, "
        "`unknown` for a category, a row of zeros for a bin without people.",
        "",
        "CSV is UTF-8 and begins with its mark (BOM), by which spreadsheets know the accents; Python's own "
        "`csv` reads it with `encoding='utf-8-sig'`. With `--format xlsx` the tables are also sheets of "
        "`tables.xlsx`, beside one with the counts, one of what the columns mean, and one of where it comes "
        "from.",
    ]
    tables = {
        "timeline": (timeline_columns(Settings()), "timeline.csv, timeline.parquet", "One row a bin."),
        "people": (PEOPLE, "people.csv, people.parquet", "One row a person."),
        "shares": (
            SHARES,
            "shares.csv, shares.parquet",
            "One row a group; none where fewer than five people were judged.",
        ),
        "images": (
            IMAGES,
            "images.csv, images.parquet, only of runs of images",
            "One row an image and person in it, and one an image without people.",
        ),
        "faces": (FACES, "faces.parquet", "One row a face in an analysed frame."),
        "samples": (SAMPLES, "samples.parquet", "One row an analysed frame, also those without a face."),
        "embeddings": (
            EMBEDDINGS,
            "embeddings.parquet, only with `--keep-embeddings`",
            "One row a tracklet that could be compared with others.",
        ),
    }
    for name, (columns, files, meaning) in tables.items():
        lines += ["", f"## {name}", "", f"{meaning} Files: {files}.", ""]
        lines += ["| column | type | unit | meaning |", "| --- | --- | --- | --- |"]
        lines += [f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in columns]
    lines += [
        "",
        "## What `--scene audience` adds",
        "",
        "[audience.md](audience.md) says how these are measured.",
        "",
        "| table | column | type | unit | meaning |",
        "| --- | --- | --- | --- | --- |",
    ]
    audience = Settings(scene="audience")
    for name, mine, columns in (
        ("people", PEOPLE, people_columns(audience)),
        ("timeline", timeline_columns(Settings()), timeline_columns(audience)),
    ):
        added = [c for c in columns if c not in mine]
        lines += [f"| {name} | `{c.name}` | {c.type} | {c.unit} | {c.meaning} |" for c in added]
    lines += ["", "## Age bands", ""]
    for name, bands in AGE_BANDS.items():
        lines.append(f"- `--age-bands {name}`: " + ", ".join(band.name for band in bands))
    return "\n".join(lines) + "\n"
