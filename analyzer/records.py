"""What is written: the schema of every table (once), part files, the run folder, the timeline.

CSV, Parquet and ``docs/records.md`` all come from `TABLES`. Everything is written to a temporary name in
the same folder, flushed to the disk and renamed, so a file that has its final name is whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Column:
    """One column of a table: `type` is what Parquet stores, `meaning` is what the documents say."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""


_FLOAT, _REAL, _INT, _TEXT = pa.float32(), pa.float64(), pa.int64(), pa.string()

SAMPLES = (
    Column("video_id", _TEXT, "Stable name of the video."),
    Column("segment", _INT, "Segment that the sample belongs to, from 0."),
    Column("sample", _INT, "Number of the analysed frame within the video, from 0."),
    Column("time_s", _REAL, "When it is shown, from the container's own time stamps.", "s"),
    Column("duration_s", _REAL, "For how long it stands: until the next sample, at most.", "s"),
    Column("image", _TEXT, "File name, where the sample is a picture of a folder; else empty."),
)
FACES = (
    Column("video_id", _TEXT, "Stable name of the video."),
    Column("segment", _INT, "Segment that the sample belongs to, from 0."),
    Column("sample", _INT, "Number of the analysed frame within the video, from 0."),
    Column("time_s", _REAL, "When it is shown, from the container's own time stamps.", "s"),
    Column("x1", _FLOAT, "Left edge of the face in the upright picture.", "pixels"),
    Column("y1", _FLOAT, "Upper edge.", "pixels"),
    Column("x2", _FLOAT, "Right edge.", "pixels"),
    Column("y2", _FLOAT, "Lower edge.", "pixels"),
    Column("score", _FLOAT, "The detector's confidence that this is a face.", "0 to 1"),
    Column(
        "landmarks",
        pa.list_(pa.float32(), 10),
        "x y of eye, eye, nose tip, mouth corner, mouth corner; each pair left to right in the picture.",
        "pixels",
    ),
    Column(
        "female_prob",
        _FLOAT,
        "Probability of the perceived gender female; empty where the face was not judged.",
        "0 to 1",
    ),
    Column("age_years", _FLOAT, "Perceived age (expectation); empty where the face was not judged.", "years"),
    Column("age_spread_years", _FLOAT, "Standard deviation of the network's own age distribution.", "years"),
    Column("tracklet_id", _INT, "The face followed within one segment; -1 where it was not followed."),
    Column("person_id", _INT, "The person of the people table; -1 where the face belongs to none."),
)
