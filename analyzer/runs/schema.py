"""What is written: the schema of every table (once), part files, the run folder, the timeline.

CSV, Parquet and ``docs/records.md`` all come from `TABLES`. Everything is written to a temporary name in
the same folder, flushed to the disk and renamed, so a file that has its final name is whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from analyzer.settings import Settings

__all__ = [
    "AUDIENCE_PEOPLE",
    "CLOCK",
    "EMBEDDINGS",
    "FACES",
    "FLOAT",
    "IMAGES",
    "PEOPLE",
    "REAL",
    "SAMPLES",
    "SHARES",
    "TEXT",
    "Column",
    "people_columns",
    "timeline_columns",
]


@dataclass(frozen=True)
class Column:
    """One column of a table: `type` is what Parquet stores, `meaning` is what the documents say."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""


FLOAT, REAL, _INT, TEXT, _BOOL = pa.float32(), pa.float64(), pa.int64(), pa.string(), pa.bool_()


CLOCK = pa.timestamp("ms", tz="UTC")


_CARRIED = Column(
    "detection_age_s",
    REAL,
    "0: faces were looked for in this sample. Else the picture had hardly changed, and the faces are those "
    "found so many seconds earlier.",
    "s",
)


SAMPLES = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("segment", _INT, "Segment that the sample belongs to, from 0."),
    Column("sample", _INT, "Number of the analyzed frame within the video, from 0."),
    Column("time_s", REAL, "When it is shown, from the container's own time stamps.", "s"),
    Column(
        "duration_s",
        REAL,
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
    Column("image", TEXT, "File name, where the sample is a picture of a folder; else empty."),
    Column("clock", CLOCK, "Live: when it was received, by this computer's clock; else empty.", "UTC"),
    Column(
        "gap_s",
        REAL,
        "Live: seconds before it, since the sample before, of which no picture arrived, and those after "
        "them whose pictures were overtaken; they belong to no sample's `duration_s`. Else 0.",
        "s",
    ),
    Column(
        "dropped",
        _INT,
        "Live: pictures since the sample before that were due but not analyzed, as newer ones had arrived. "
        "Else 0.",
    ),
)


FACES = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("segment", _INT, "Segment that the sample belongs to, from 0."),
    Column("sample", _INT, "Number of the analyzed frame within the video, from 0."),
    Column("time_s", REAL, "When it is shown, from the container's own time stamps.", "s"),
    _CARRIED,
    Column("x1", FLOAT, "Left edge of the face in the frame as a player shows it.", "pixels"),
    Column("y1", FLOAT, "Upper edge.", "pixels"),
    Column("x2", FLOAT, "Right edge.", "pixels"),
    Column("y2", FLOAT, "Lower edge.", "pixels"),
    Column("score", FLOAT, "The detector's confidence that this is a face.", "0 to 1"),
    Column(
        "landmarks",
        pa.list_(pa.float32(), 10),
        "x y of eye, eye, nose tip, mouth corner, mouth corner; each pair left to right in the picture; not "
        "numbers where the detector finds none.",
        "pixels",
    ),
    Column(
        "female_prob",
        FLOAT,
        "Probability of the perceived gender female; empty where this sighting was not judged.",
        "0 to 1",
    ),
    Column(
        "age_years", FLOAT, "Perceived age (expectation); empty where this sighting was not judged.", "years"
    ),
    Column("age_std_years", FLOAT, "Standard deviation of the network's own age distribution.", "years"),
    Column("tracklet_id", _INT, "The face followed within one shot of one segment."),
    Column("person_id", _INT, "The person of the people table; -1 where the face belongs to none."),
)


PEOPLE = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("person_id", _INT, "Number of the person within the video, from 1, by first appearance."),
    Column("first_s", REAL, "First seen.", "s"),
    Column("last_s", REAL, "Last seen: end of the last sample that shows the person.", "s"),
    Column("on_screen_s", REAL, "Sum of the durations of the samples that show the person.", "s"),
    Column("appearances", _INT, "Continuous stretches on screen; a gap of over 2 s begins a new one."),
    Column("samples", _INT, "Analyzed frames that show the person."),
    Column("gender", TEXT, "Perceived gender: female, male, or unknown below the stated confidence."),
    Column(
        "female_prob",
        FLOAT,
        "Mean probability of female; empty where no sighting could be judged.",
        "0 to 1",
    ),
    Column("age_years", FLOAT, "Mean perceived age; empty where no sighting could be judged.", "years"),
    Column(
        "age_low",
        FLOAT,
        "Lower end of the interval of the age: of 80 % where that was measured (docs/accuracy.md).",
        "years",
    ),
    Column("age_high", FLOAT, "Upper end of the interval of the age, likewise.", "years"),
    Column("age_band", TEXT, "Age band of `age_years`, or unknown."),
    Column("face_px_median", FLOAT, "Median width of the face.", "pixels"),
    Column(
        "frontal_share",
        FLOAT,
        "Share of sightings that look towards the camera; empty where the detector finds no landmarks.",
        "0 to 1",
    ),
    Column("estimated_samples", _INT, "Sightings on which gender and age were judged."),
)


AUDIENCE_PEOPLE = (
    Column("watcher", _BOOL, "Whether the person looked towards the camera; empty where that is not known."),
    Column(
        "attention_s",
        REAL,
        "For how long the face was directed towards the camera; empty where that is not known.",
        "s",
    ),
    Column(
        "dwell_s",
        REAL,
        "Of a watcher: from first seen until leaving, all visits added up; else empty.",
        "s",
    ),
    Column("attraction_ratio", REAL, "`attention_s` as a share of `dwell_s`.", "0 to 1"),
)
"""What `--scene audience` adds to `PEOPLE`."""


SHARES = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("dimension", TEXT, "What is shared out: gender or age."),
    Column("group", TEXT, "The group: female, male; or an age band."),
    Column("people_share", FLOAT, "Estimated share of the people.", "0 to 1"),
    Column("people_low", FLOAT, "Lower end of its 95 % interval.", "0 to 1"),
    Column("people_high", FLOAT, "Upper end.", "0 to 1"),
    Column("time_share", FLOAT, "Estimated share of the time that people are on screen.", "0 to 1"),
    Column("time_low", FLOAT, "Lower end of its 95 % interval.", "0 to 1"),
    Column("time_high", FLOAT, "Upper end.", "0 to 1"),
)


IMAGES = (
    Column("video_id", TEXT, "Stable name of the folder or of the images that were named together."),
    Column("image", TEXT, "File name. Every image that was asked for has a row."),
    Column("readable", _BOOL, "Whether the image could be read; if not, nothing else is known of it."),
    Column("reason", TEXT, "Why it could not be read, in a sentence; empty where it could."),
    Column("sample", _INT, "Number of the image in the samples and faces tables, -1 if it was not read."),
    Column("width", _INT, "Of the upright image; empty where it is not known.", "pixels"),
    Column("height", _INT, "Likewise.", "pixels"),
    Column("people", _INT, "People in the image: so many rows it has, and one where there is nobody."),
    Column("faces", _INT, "Faces found in it, also those that are not counted as people."),
    Column("person_id", _INT, "The person of the people table; -1 in the row of an image without people."),
    Column("person_images", _INT, "How many of the images show this person; 0 for nobody."),
    Column("gender", TEXT, "Of the person, from all images: female, male or unknown; empty for nobody."),
    Column("age_years", FLOAT, "Of the person, from all images; empty where it is not known.", "years"),
    Column(
        "age_low",
        FLOAT,
        "Lower end of the interval of the age: of 80 % where that was measured (docs/accuracy.md).",
        "years",
    ),
    Column("age_high", FLOAT, "Upper end of the interval of the age, likewise.", "years"),
    Column("age_band", TEXT, "Age band of `age_years`, or unknown; empty for nobody."),
    Column("x1", FLOAT, "Left edge of the face in this image.", "pixels"),
    Column("y1", FLOAT, "Upper edge.", "pixels"),
    Column("x2", FLOAT, "Right edge.", "pixels"),
    Column("y2", FLOAT, "Lower edge.", "pixels"),
    Column("score", FLOAT, "The detector's confidence that this is a face.", "0 to 1"),
    Column("face_female_prob", FLOAT, "Estimated on this image alone: probability of female.", "0 to 1"),
    Column("face_age_years", FLOAT, "Estimated on this image alone: age.", "years"),
)
"""Only of runs of images."""


EMBEDDINGS = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("tracklet_id", _INT, "The tracklet of the faces table."),
    Column("person_id", _INT, "The person of the people table; -1 where it belongs to none."),
    Column("crops", _INT, "How many crops were compared."),
    Column("crop_px", FLOAT, "Width of the face in the widest of them.", "pixels"),
    Column("embedding", pa.list_(pa.float32()), "Mean of the crops' embeddings."),
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
        Column("video_id", TEXT, "Stable name of the video."),
        Column("start_s", REAL, "Start of the bin.", "s"),
        Column("end_s", REAL, "End of the bin; the next one begins here.", "s"),
        Column(
            "samples",
            _INT,
            "Analyzed frames in the bin; 0: the last one before it still stands, or nothing is known.",
        ),
        Column(
            "faces_mean",
            FLOAT,
            "Faces per analyzed frame, also those that are no person; empty without samples.",
        ),
        Column("people", _INT, "Distinct people seen in the bin."),
        Column("new_people", _INT, "Those of them seen for the first time."),
        Column("female", _INT, "People of perceived gender female."),
        Column("male", _INT, "People of perceived gender male."),
        Column("unknown_gender", _INT, "People whose gender is unknown. The three add up to `people`."),
        *(Column(band.column, _INT, f"People of perceived age {band.name}.") for band in settings.bands),
        Column("unknown_age", _INT, "People whose age is unknown. With the bands it adds up to `people`."),
        Column("clock", CLOCK, "Live: the start of the bin by this computer's clock; else empty.", "UTC"),
        *([watchers] if settings.scene == "audience" else []),
    )
