"""The schema of every table: CSV, Parquet and docs/records.md are all generated from it."""

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
    "LINKS",
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
    """One column of a table: its type in Parquet, and its meaning and unit in the documents."""

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""


FLOAT, REAL, _INT, TEXT, _BOOL = pa.float32(), pa.float64(), pa.int64(), pa.string(), pa.bool_()

CLOCK = pa.timestamp("ms", tz="UTC")


_DETECTION_AGE = Column(
    "detection_age_s",
    REAL,
    "0: faces were detected in this sample. Otherwise the frame had hardly changed, and the faces are those "
    "detected this long before.",
    "s",
)


SAMPLES = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("segment", _INT, "Segment that the sample belongs to, from 0."),
    Column("sample", _INT, "Number of the analyzed frame within the video, from 0."),
    Column("time_s", REAL, "Presentation time, from the time stamps of the container.", "s"),
    Column(
        "duration_s",
        REAL,
        "How long it is displayed: until the next sample, unless frames in between were lost.",
        "s",
    ),
    Column("shot", _INT, "Shot that the sample belongs to, from 0."),
    _DETECTION_AGE,
    Column(
        "width",
        _INT,
        "Width of the frame as a player shows it: upright, with square pixels. Boxes of faces are in these "
        "pixels.",
        "pixels",
    ),
    Column("height", _INT, "Height of the frame, likewise; both can change within a video.", "pixels"),
    Column("image", TEXT, "File name, if the sample is an image; otherwise empty."),
    Column(
        "clock", CLOCK, "Live: when it was received, by the clock of the computer; otherwise empty.", "UTC"
    ),
    Column(
        "gap_s",
        REAL,
        "Live: time since the previous sample in which no frame arrived, or in which frames were replaced by "
        "newer ones after such a gap; it belongs to the `duration_s` of no sample. Otherwise 0.",
        "s",
    ),
    Column(
        "dropped",
        _INT,
        "Live: due frames since the previous sample that were not analyzed because newer ones had arrived. "
        "Otherwise 0.",
    ),
)


FACES = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("segment", _INT, "Segment that the sample belongs to, from 0."),
    Column("sample", _INT, "Number of the analyzed frame within the video, from 0."),
    Column("time_s", REAL, "Presentation time, from the time stamps of the container.", "s"),
    _DETECTION_AGE,
    Column("x1", FLOAT, "Left edge of the face in the frame as a player shows it.", "pixels"),
    Column("y1", FLOAT, "Upper edge.", "pixels"),
    Column("x2", FLOAT, "Right edge.", "pixels"),
    Column("y2", FLOAT, "Lower edge.", "pixels"),
    Column("score", FLOAT, "The detector's confidence that this is a face.", "0 to 1"),
    Column(
        "landmarks",
        pa.list_(pa.float32(), 10),
        "x y of eye, eye, nose tip, mouth corner, mouth corner; each pair left to right in the frame; NaN if "
        "the detector finds none. Found in an enlarged crop where `quality` is given, otherwise by the "
        "detector.",
        "pixels",
    ),
    Column(
        "quality",
        FLOAT,
        "How clearly the face shows: the score of a second detection in an enlarged crop, 0 if that finds no "
        "face; empty if it was not cropped in this sample.",
        "0 to 1",
    ),
    Column(
        "female_prob",
        FLOAT,
        "Probability of the perceived gender female; empty if it was not estimated in this sample.",
        "0 to 1",
    ),
    Column(
        "age_years",
        FLOAT,
        "Perceived age (expectation); empty if it was not estimated in this sample.",
        "years",
    ),
    Column(
        "age_std_years", FLOAT, "Standard deviation of the age distribution that the model gives.", "years"
    ),
    Column("tracklet_id", _INT, "Track of the face within one shot of one segment."),
    Column("person_id", _INT, "The person of the people table; -1 if the face belongs to none."),
    Column(
        "linked_person_id",
        _INT,
        "The person before corrections (docs/corrections.md); without corrections the same as `person_id`.",
    ),
)


LINKS = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("tracklet_id", _INT, "A tracklet of the faces table."),
    Column("other_tracklet_id", _INT, "One of the tracklets that it was linked with."),
    Column(
        "kind",
        TEXT,
        "position: the second begins where and when the first ends; appearance: the people they belong to at "
        "this step look alike.",
    ),
    Column(
        "distance",
        FLOAT,
        "appearance: distance of the embeddings of the two, corrected for the noise of few crops. The people "
        "table has links up to 0.43, in images up to 0.48; longer ones are plausible, but were not made. "
        "position: distance of the embeddings, empty if one cannot be compared.",
    ),
)
"""The steps of the linking, in the order in which they were made: of positions, then of appearance."""


PEOPLE = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("person_id", _INT, "Number of the person within the video, from 1, by first appearance."),
    Column("first_s", REAL, "First seen.", "s"),
    Column("last_s", REAL, "Last seen: end of the last sample that shows the person.", "s"),
    Column("on_screen_s", REAL, "Sum of the durations of the samples that show the person.", "s"),
    Column("appearances", _INT, "Continuous appearances; a gap of more than 2 s starts a new one."),
    Column("samples", _INT, "Analyzed frames that show the person."),
    Column("gender", TEXT, "Perceived gender: female, male, or unknown below the stated confidence."),
    Column(
        "female_prob",
        FLOAT,
        "Mean probability of female; empty if it could not be estimated.",
        "0 to 1",
    ),
    Column("age_years", FLOAT, "Mean perceived age; empty if it could not be estimated.", "years"),
    Column(
        "age_low",
        FLOAT,
        "Lower bound of the age: of the 80 % interval, if that was measured (docs/accuracy.md).",
        "years",
    ),
    Column("age_high", FLOAT, "Upper bound of the age, likewise.", "years"),
    Column("age_band", TEXT, "Age band of `age_years`, or unknown."),
    Column("face_px_median", FLOAT, "Median width of the face.", "pixels"),
    Column(
        "frontal_share",
        FLOAT,
        "Share of the samples in which the face is frontal; empty without landmarks.",
        "0 to 1",
    ),
    Column("estimated_samples", _INT, "Samples in which gender and age were estimated."),
    Column(
        "name", TEXT, "Name that a correction has given the person (docs/corrections.md); otherwise empty."
    ),
    Column("gender_source", TEXT, "confirmed: a correction states `gender`; otherwise estimated."),
    Column(
        "age_source",
        TEXT,
        "confirmed: a correction states the age. `age_low` and `age_high` are then what it states, and "
        "`age_years` the estimate between the two. Otherwise estimated.",
    ),
    Column("corrected", _BOOL, "Whether a correction concerns the person."),
)


AUDIENCE_PEOPLE = (
    Column("watcher", _BOOL, "Whether the person faced the camera; empty if unknown."),
    Column(
        "attention_s",
        REAL,
        "How long the person faced the camera; empty if unknown.",
        "s",
    ),
    Column(
        "dwell_s",
        REAL,
        "Of a watcher: from first seen until leaving, summed over all visits; otherwise empty.",
        "s",
    ),
    Column("attraction_ratio", REAL, "`attention_s` as a share of `dwell_s`.", "0 to 1"),
)
"""What `--scene audience` adds to `PEOPLE`."""


SHARES = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("dimension", TEXT, "Dimension of the shares: gender or age."),
    Column("group", TEXT, "The group: female, male; or an age band."),
    Column("people_share", FLOAT, "Estimated share of the people.", "0 to 1"),
    Column("people_low", FLOAT, "Lower bound of its 95 % interval.", "0 to 1"),
    Column("people_high", FLOAT, "Upper bound.", "0 to 1"),
    Column("time_share", FLOAT, "Estimated share of the time that people are on screen.", "0 to 1"),
    Column("time_low", FLOAT, "Lower bound of its 95 % interval.", "0 to 1"),
    Column("time_high", FLOAT, "Upper bound.", "0 to 1"),
)


IMAGES = (
    Column("video_id", TEXT, "Stable name of the folder or set of images."),
    Column("image", TEXT, "File name. Every image has a row, readable or not."),
    Column("readable", _BOOL, "Whether the image could be read; if not, the other columns are empty."),
    Column("reason", TEXT, "Why it could not be read, in a sentence; empty if it could."),
    Column("sample", _INT, "Number of the image in the samples and faces tables; -1 if it was not read."),
    Column("width", _INT, "Width of the upright image; empty if unknown.", "pixels"),
    Column("height", _INT, "Height, likewise.", "pixels"),
    Column(
        "people", _INT, "People in the image; it has one row for each of them, or one row if there are none."
    ),
    Column("faces", _INT, "Faces in the image, including those not counted as people."),
    Column("person_id", _INT, "The person of the people table; -1 for an image without people."),
    Column("person_images", _INT, "Images that show this person; 0 without a person."),
    Column(
        "gender",
        TEXT,
        "Gender of the person, from all images: female, male or unknown; empty without a person.",
    ),
    Column(
        "age_years", FLOAT, "Age of the person, from all images; empty if it could not be estimated.", "years"
    ),
    Column(
        "age_low",
        FLOAT,
        "Lower bound of the age: of the 80 % interval, if that was measured (docs/accuracy.md).",
        "years",
    ),
    Column("age_high", FLOAT, "Upper bound of the age, likewise.", "years"),
    Column("age_band", TEXT, "Age band of `age_years`, or unknown; empty without a person."),
    Column("x1", FLOAT, "Left edge of the face in this image.", "pixels"),
    Column("y1", FLOAT, "Upper edge.", "pixels"),
    Column("x2", FLOAT, "Right edge.", "pixels"),
    Column("y2", FLOAT, "Lower edge.", "pixels"),
    Column("score", FLOAT, "The detector's confidence that this is a face.", "0 to 1"),
    Column("face_female_prob", FLOAT, "Estimated on this image alone: probability of female.", "0 to 1"),
    Column("face_age_years", FLOAT, "Estimated on this image alone: age.", "years"),
)
"""Of runs of images only."""


EMBEDDINGS = (
    Column("video_id", TEXT, "Stable name of the video."),
    Column("tracklet_id", _INT, "The tracklet of the faces table."),
    Column("person_id", _INT, "The person of the people table; -1 if it belongs to none."),
    Column("crops", _INT, "Crops that the embedding is computed from."),
    Column("crop_px", FLOAT, "Width of the face in the widest of them.", "pixels"),
    Column("embedding", pa.list_(pa.float32()), "Mean of the embeddings of the crops."),
)


def people_columns(settings: Settings) -> tuple[Column, ...]:
    """Return the columns of the people table; scene audience adds some.

    >>> [column.name for column in people_columns(Settings(scene="audience"))[-2:]]
    ['dwell_s', 'attraction_ratio']
    """
    return PEOPLE + (AUDIENCE_PEOPLE if settings.scene == "audience" else ())


def timeline_columns(settings: Settings) -> tuple[Column, ...]:
    """Return the columns of the timeline: one for each age band; scene audience adds watchers."""
    watchers = Column(
        "watchers",
        _INT,
        "People who face the camera in the bin; empty if unknown for all.",
    )
    return (
        Column("video_id", TEXT, "Stable name of the video."),
        Column("start_s", REAL, "Start of the bin.", "s"),
        Column("end_s", REAL, "End of the bin, where the next one starts.", "s"),
        Column(
            "samples",
            _INT,
            "Samples in the bin; 0: an earlier one is still displayed, or nothing is known.",
        ),
        Column(
            "faces_mean",
            FLOAT,
            "Faces per sample, including those not counted as people; empty without samples.",
        ),
        Column("people", _INT, "Distinct people seen in the bin."),
        Column("new_people", _INT, "People seen for the first time."),
        Column("female", _INT, "People of perceived gender female."),
        Column("male", _INT, "People of perceived gender male."),
        Column("unknown_gender", _INT, "People of unknown gender; the three add up to `people`."),
        *(Column(band.column, _INT, f"People of perceived age {band.name}.") for band in settings.bands),
        Column("unknown_age", _INT, "People of unknown age; with the bands it adds up to `people`."),
        Column(
            "clock", CLOCK, "Live: start of the bin by the clock of the computer; otherwise empty.", "UTC"
        ),
        *([watchers] if settings.scene == "audience" else []),
    )
