"""Frozen settings: every default, range and help text has its one home here.

The command line makes its options from these fields, ``run.json`` records them, and the key of a
segment's part file is a hash of those that change what a segment yields.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from analyzer.errors import SettingsError

__all__ = [
    "AGE_BANDS",
    "DEFAULT_OUT",
    "DEFAULT_PRESET",
    "PRESETS",
    "REPORT_FORMATS",
    "SAMPLING",
    "AgeBand",
    "Option",
    "Settings",
    "assign_band",
    "budget_s",
    "options",
    "sampling_ways",
]

# Faces are hidden where they are found, and in between: with fewer samples, many would be missed.
_BLUR_FPS = 5.0

DEFAULT_OUT = "outputs"
"""Folder of the runs, where none is named."""

MIN_ON_SCREEN_S = 1.0
"""Who is seen for less time in all is not counted, unless told otherwise."""

REPORT_FORMATS = ("html", "png", "csv", "xlsx", "json", "md", "vtt")
"""Forms in which a report is written."""

DEFAULT_PRESET = "balanced"
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"fps": 2.5, "deblock": False, "estimate_every_s": 1.0},
    DEFAULT_PRESET: {},
    "accurate": {"detector_size": 640, "precision": "f32", "estimate_every_s": 0.0, "reuse_s": 0.0},
}
"""What each preset changes of the defaults. docs/presets.md says what it gains and loses."""

SAMPLING = ("fps", "every", "keyframes")
"""Settings that each choose how to sample."""

Group = Literal["source", "reading", "faces", "people", "tables", "video", "engine"]


@dataclass(frozen=True)
class AgeBand:
    """One column of an age table: whole years `low` to `high`, both included."""

    name: str
    low: float
    high: float

    @property
    def column(self) -> str:
        """Name of the timeline's column.

        >>> AgeBand("65+", 65, math.inf).column
        'age_65_plus'
        """
        return "age_" + self.name.replace("-", "_").replace("+", "_plus")


def _bands(*names: str) -> tuple[AgeBand, ...]:
    bands = []
    for name in names:
        low, _, high = name.rstrip("+").partition("-")
        bands.append(AgeBand(name, float(low), float(high) if high else math.inf))
    return tuple(bands)


AGE_BANDS: dict[str, tuple[AgeBand, ...]] = {
    # The bands of YouTube Analytics, with one for children before them.
    "youtube": _bands("0-12", "13-17", "18-24", "25-34", "35-44", "45-54", "55-64", "65+"),
    # Levi and Hassner 2015. They leave gaps: an age is given to the nearest band.
    "adience": _bands("0-2", "4-6", "8-12", "15-20", "25-32", "38-43", "48-53", "60+"),
}


def assign_band(age_years: float, bands: Sequence[AgeBand]) -> str:
    """Name of the band for an age, or ``unknown`` for NaN; in a gap, the nearest band.

    >>> assign_band(34.6, AGE_BANDS["youtube"]), assign_band(34.4, AGE_BANDS["youtube"])
    ('35-44', '25-34')
    >>> assign_band(22.0, AGE_BANDS["adience"]), assign_band(float("nan"), AGE_BANDS["adience"])
    ('15-20', 'unknown')
    """
    if math.isnan(age_years):
        return "unknown"
    age = math.floor(age_years + 0.5)
    return min(bands, key=lambda band: max(band.low - age, age - band.high, 0.0)).name


@dataclass(frozen=True)
class Option:
    """What a settings field means: for the command line, for checks, for the documents."""

    name: str
    type: type
    default: Any
    help: str
    group: Group
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Words that may stand in place of a number."""
    optional: bool = False
    many: bool = False
    flag: str = ""
    segment: bool = False
    """Whether it changes what a segment's analysis yields."""
    result: bool = True
    """Whether it changes what comes out at all, and not only whether, when or how fast."""
    scene: str = ""
    """The scene in which alone it counts; else it is neither recorded nor hashed."""

    def check(self, value: Any) -> Any:
        """Return `value` in the field's type.

        Raises:
            SettingsError: The value has another type, is out of range, or is no choice.
        """
        if value is None and self.optional:
            return None
        if self.many:
            if isinstance(value, str) or not hasattr(value, "__iter__"):
                raise SettingsError(f"{self.name} takes a list, not {value!r}")
            checked = tuple(dict.fromkeys(self._check_one(item) for item in value))
            if not checked:
                raise SettingsError(f"{self.name} needs at least one of {', '.join(self.choices)}")
            return checked
        return self._check_one(value)

    def _check_one(self, value: Any) -> Any:
        if isinstance(value, str) and value in self.words:
            return value
        numeric = self.type in (int, float)
        expected = (int, float) if numeric else self.type
        wrong_type = not isinstance(value, expected) or (numeric and isinstance(value, bool))
        try:
            converted = self.type(value)
        except (TypeError, ValueError, OverflowError):
            wrong_type, converted = True, None
        if wrong_type or (self.type is int and converted != value):
            expected_text = " or ".join((_type_name(self.type), *self.words))
            raise SettingsError(f"{self.name} must be {expected_text}, not {value!r}")
        if self.choices and converted not in self.choices:
            raise SettingsError(f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}")
        if numeric and not (
            math.isfinite(converted)
            and (self.low is None or converted >= self.low)
            and (self.high is None or converted <= self.high)
        ):
            raise SettingsError(f"{self.name} must be {self.range_text}, not {value!r}")
        return converted

    @property
    def range_text(self) -> str:
        """The allowed range in words.

        >>> Option("fps", float, 5.0, "", "reading", low=0.01, high=240).range_text
        'between 0.01 and 240'
        """
        if self.low is not None and self.high is not None:
            return f"between {self.low:g} and {self.high:g}"
        if self.low is not None:
            return f"at least {self.low:g}"
        if self.high is not None:
            return f"at most {self.high:g}"
        return "a finite number"


def _type_name(kind: type) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "text"}[kind]


def _field(default: Any, help: str, group: Group, **meta: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "group": group, **meta})


@dataclass(frozen=True)
class Settings:
    """How a video is analyzed. Frozen; `replace` gives a changed copy, checked again.

    Fields marked ``segment`` change what a segment's analysis yields; the others only change what is
    derived from it, or nothing of it at all.

    Raises:
        SettingsError: On construction, if a value is out of its range or two contradict.

    >>> Settings().fps
    5.0
    >>> Settings(fps=-1)
    Traceback (most recent call last):
    analyzer.errors.SettingsError: fps must be between 0.01 and 240, not -1
    """

    # source
    playlist: bool = _field(False, "Analyze every video of a playlist or channel.", "source", result=False)
    limit: int | None = _field(
        None,
        "With a playlist or folder: at most this many videos; of images that are one run, so many images.",
        "source",
        low=1,
        optional=True,
        result=False,
    )
    recursive: bool = _field(
        False, "With a folder: also take what lies in its subfolders.", "source", result=False
    )
    images: bool = _field(
        False,
        "With a folder of videos: also analyze the images that lie beside them, such as covers.",
        "source",
        result=False,
    )
    max_height: int = _field(
        720,
        "Download the smallest format of at most this height.",
        "source",
        unit="pixels",
        low=64,
        high=8640,
    )
    max_size_mb: int = _field(
        4096, "Give up a download beyond this size.", "source", unit="MB", low=1, high=1_000_000, result=False
    )
    timeout_s: float = _field(
        20.0,
        "Give up when a server sends too little for this long.",
        "source",
        unit="s",
        low=0.5,
        high=3600,
        flag="timeout",
        result=False,
    )
    reconnect_s: float = _field(
        600.0,
        "Live: try so long to reach a source again that has broken off; then the run ends.",
        "source",
        unit="s",
        low=0,
        high=1e7,
        flag="reconnect",
        result=False,
    )
    keep_download: bool = _field(False, "Keep the downloaded video in the run's folder.", "source")

    # reading
    fps: float = _field(
        5.0, "Frames to analyze per second of video.", "reading", unit="1/s", low=0.01, high=240, segment=True
    )
    every: int | None = _field(
        None,
        "Analyze every N-th frame instead (the classic frame skip), counted anew in each segment.",
        "reading",
        unit="frames",
        low=1,
        high=1_000_000,
        optional=True,
        segment=True,
    )
    keyframes: bool = _field(
        False, "Decode and analyze only keyframes: fastest, coarse.", "reading", segment=True
    )
    deblock: bool = _field(
        True,
        "Smooth the edges of blocks when decoding, as the codec means it; without, H.264 is decoded a fifth "
        "faster and coarser.",
        "reading",
        segment=True,
    )
    start_s: float = _field(
        0.0, "Begin at this time.", "reading", unit="s", low=0, high=1e7, flag="start", segment=True
    )
    end_s: float | None = _field(
        None,
        "Stop at this time.",
        "reading",
        unit="s",
        low=0,
        high=1e7,
        optional=True,
        flag="end",
        segment=True,
    )
    duration_s: float | None = _field(
        None,
        "Stop after so much of the video; a live source is else followed until Ctrl-C.",
        "reading",
        unit="s",
        low=0.1,
        high=1e7,
        optional=True,
        flag="duration",
        segment=True,
    )
    budget: str | None = _field(
        None,
        "Take at most so long for the analysis (30s), or for each second of video (0.1x), by sampling less; "
        "the annotated video comes on top.",
        "reading",
        optional=True,
    )
    segment_s: float = _field(
        60.0,
        "Length of the stretches that are analyzed and saved on their own; rounded up to whole samples.",
        "reading",
        unit="s",
        low=1,
        high=3600,
        flag="segment",
        segment=True,
    )
    max_pixels: int = _field(
        64_000_000,
        "Refuse pictures with more pixels (protects the memory).",
        "reading",
        unit="pixels",
        low=10_000,
        high=1_000_000_000,
    )

    # faces
    detector: str = _field(
        "centerface",
        "Finds the faces: centerface; yunet, faster; ssd and haar, the classic ones of OpenCV; none: every "
        "picture is one face, cut out already.",
        "faces",
        choices=("centerface", "yunet", "ssd", "haar", "none"),
        segment=True,
    )
    detector_size: int | str = _field(
        "auto",
        "Longer side of the picture that the detector sees; smaller is faster, larger finds smaller faces. "
        "auto: 640, and less between two looks at 640 that found no small face; ssd: 300; scene audience: "
        "always 640.",
        "faces",
        unit="pixels",
        low=128,
        high=4096,
        words=("auto",),
        segment=True,
    )
    min_score: float | str = _field(
        "auto",
        "Detections with a lower score are dropped; auto: what suits the detector (models show).",
        "faces",
        low=0.05,
        high=0.99,
        words=("auto",),
        segment=True,
    )
    min_face_px: int = _field(
        0,
        "Faces narrower than this are dropped.",
        "faces",
        unit="pixels",
        low=0,
        high=4096,
        flag="min_face",
        segment=True,
    )
    attributes: str = _field(
        "dlib",
        "Judges gender and age: dlib; levi-hassner, the classic networks; a network of yours, by its name or "
        "its .onnx file.",
        "faces",
        segment=True,
    )
    gender_model: str | None = _field(
        None, "Judges gender in place of --attributes.", "faces", optional=True, segment=True
    )
    age_model: str | None = _field(
        None, "Judges age in place of --attributes.", "faces", optional=True, segment=True
    )
    min_estimate_px: int = _field(
        32,
        "Faces narrower than this say nothing about gender and age.",
        "faces",
        unit="pixels",
        low=1,
        high=1000,
        segment=True,
    )
    embed_every_s: float = _field(
        1.0,
        "Of each followed face the best view in so many seconds is compared with other faces.",
        "faces",
        unit="s",
        low=0.01,
        high=3600,
        flag="compare_every",
        segment=True,
    )
    estimate_every_s: float = _field(
        0.5,
        "Of each followed face the best view in so many seconds is judged for gender and age, in the long "
        "run fewer; 0: every sighting.",
        "faces",
        unit="s",
        low=0,
        high=3600,
        flag="judge_every",
        segment=True,
    )
    reuse_s: float = _field(
        5.0,
        "Where the picture hardly changes, faces are taken over from the sample before, for so long at most; "
        "0: never.",
        "faces",
        unit="s",
        low=0,
        high=3600,
        flag="carry",
        segment=True,
    )

    # people
    scene: str = _field(
        "video",
        "What the pictures show: video, people on screen; audience, people in front of the camera, of whom "
        "is measured who looks, for how long.",
        "people",
        choices=("video", "audience"),
        segment=True,
    )
    attention_yaw_deg: float = _field(
        22.5,
        "With scene audience: a head turned further to a side does not look towards the camera.",
        "people",
        unit="degrees",
        low=1,
        high=90,
        flag="attention_yaw",
        scene="audience",
    )
    attention_pitch_deg: float = _field(
        30.0,
        "With scene audience: likewise a head turned further up or down, which hardly shows.",
        "people",
        unit="degrees",
        low=1,
        high=90,
        flag="attention_pitch",
        scene="audience",
    )
    attention_min_s: float = _field(
        0.3,
        "With scene audience: shorter glances do not count.",
        "people",
        unit="s",
        low=0,
        high=3600,
        flag="attention_min",
        scene="audience",
    )
    left_after_s: float = _field(
        5.0,
        "With scene audience: who is not seen for longer has left; coming back is another visit.",
        "people",
        unit="s",
        low=0,
        high=86400,
        flag="left_after",
        scene="audience",
    )
    min_confidence: float = _field(
        0.7, "Gender stays unknown below this probability.", "people", low=0.5, high=1.0
    )

    min_on_screen_s: float = _field(
        MIN_ON_SCREEN_S,
        "Who is seen for less time in all is not counted as a person; in a very short video, for half of it.",
        "people",
        unit="s",
        low=0,
        high=86400,
        flag="min_on_screen",
    )
    min_person_score: float | str = _field(
        "auto",
        "Who never has this detection score is not counted as a person; auto: 0.6, in images and for large "
        "faces that are seen for long 0.5.",
        "people",
        low=0.05,
        high=0.99,
        words=("auto",),
    )
    gender_of_children: bool = _field(
        False,
        "State the gender of children too, on whom the networks are unreliable.",
        "people",
    )
    keep_embeddings: bool = _field(
        False, "Keep the embeddings by which faces were compared (biometric data).", "people"
    )

    # tables
    bin_s: float = _field(
        1.0, "Length of a row of the timeline.", "tables", unit="s", low=0.01, high=86400, flag="bin"
    )
    age_bands: str = _field("youtube", "Age bands of the tables.", "tables", choices=tuple(AGE_BANDS))
    formats: tuple[str, ...] = _field(
        ("csv", "parquet"),
        "Formats of the timeline, people and shares tables; xlsx: one spreadsheet with a sheet each.",
        "tables",
        choices=("csv", "parquet", "xlsx"),
        flag="format",
    )

    # video
    video: bool = _field(True, "Write the annotated video.", "video")
    blur: bool = _field(
        False,
        "Hide the faces that are found in the annotated video; higher --fps finds faster ones.",
        "video",
    )

    # engine
    commercial: bool = _field(
        False,
        "Refuse networks whose license does not clearly allow commercial use, and do without what was fitted "
        "on pictures that are not free for it.",
        "engine",
    )
    engine: str = _field(
        "openvino", "What runs the networks.", "engine", choices=("openvino", "onnxruntime"), segment=True
    )
    device: str = _field(
        "cpu",
        "Where the networks run; cuda: a graphics card of NVIDIA, by ONNX Runtime and in float32.",
        "engine",
        choices=("cpu", "cuda"),
        segment=True,
    )
    precision: str = _field(
        "auto",
        "Arithmetic of the networks: auto is 8 bits for the face detector and bfloat16 for the others, "
        "as far as engine and processor have them; int8 is float32 for the others.",
        "engine",
        choices=("auto", "int8", "f32"),
        segment=True,
    )
    workers: int = _field(
        0,
        "Processes that analyze segments of a video side by side; 0: fitted to cores and memory.",
        "engine",
        low=0,
        high=256,
        result=False,
    )
    threads: int = _field(
        0,
        "Threads for the networks and the decoder; 0: as many as cores.",
        "engine",
        low=0,
        high=512,
        result=False,
    )

    def __post_init__(self) -> None:
        for option in options():
            object.__setattr__(self, option.name, option.check(getattr(self, option.name)))
        for option in options():
            if option.scene not in ("", self.scene) and getattr(self, option.name) != option.default:
                raise SettingsError(f"{option.name} counts only with scene {option.scene}: choose that too")
        if self.every is not None and self.keyframes:
            raise _excluded("every", "keyframes")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise SettingsError(f"end ({self.end_s:g} s) must be later than start ({self.start_s:g} s)")
        if self.end_s is not None and self.duration_s is not None:
            raise _excluded("end", "duration")
        if self.budget is not None:
            budget_s(self.budget, 1.0)
            if self.every is not None or self.keyframes:
                raise SettingsError("budget chooses the sampling itself: leave out every and keyframes")
            if self.blur:
                raise SettingsError(
                    "blur needs close sampling, which budget may give up: leave out one of them"
                )
        if self.blur and not self.video:
            raise SettingsError("blur hides faces in the annotated video, which is switched off")
        if self.blur and (self.keyframes or self.every not in (None, 1) or self.fps < _BLUR_FPS):
            raise SettingsError(
                f"blur hides the faces that are found: it needs fps of at least {_BLUR_FPS:g}, or every 1"
            )

    @classmethod
    def from_preset(cls, preset: str = DEFAULT_PRESET, **changes: Any) -> Self:
        """The settings of a preset, with some fields changed.

        Raises:
            SettingsError: There is no such preset, a name is unknown, a value is out of its range, or two
                contradict.

        >>> Settings.from_preset("balanced") == Settings()
        True
        """
        if preset not in PRESETS:
            raise SettingsError(f"there is no preset named {preset!r}: choose one of {', '.join(PRESETS)}")
        _check_sampling(changes)
        kept = {name: value for name, value in PRESETS[preset].items() if name not in changes}
        return cls().replace(**kept).replace(**changes)

    @property
    def preset(self) -> str | None:
        """The preset that these settings are, all else being as it may; None where they are none.

        >>> Settings.from_preset("fast", bin_s=5).preset, Settings(fps=3).preset
        ('fast', None)
        """
        fields = sorted({name for changes in PRESETS.values() for name in changes})
        for name, changes in PRESETS.items():
            wanted = type(self)(scene=self.scene, **changes)
            if all(getattr(self, one) == getattr(wanted, one) for one in fields):
                return name
        return None

    @property
    def thread_count(self) -> int:
        """`threads`, or the number of cores that this process may use."""
        if self.threads:
            return self.threads
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    @property
    def adapts_size(self) -> bool:
        """Whether faces are looked for in smaller pictures where none would then be too small.

        Of an audience it is told from landmarks which way heads are turned, and those of smaller pictures
        jump: see docs/audience.md.
        """
        return self.detector_size == "auto" and self.scene != "audience"

    @property
    def stop_s(self) -> float | None:
        """Where reading ends: `end_s`, or `duration_s` after the start; None: with the video.

        >>> Settings(start_s=5, duration_s=10).stop_s
        15.0
        """
        return self.end_s if self.duration_s is None else self.start_s + self.duration_s

    @property
    def bands(self) -> tuple[AgeBand, ...]:
        """The age bands of the tables."""
        return AGE_BANDS[self.age_bands]

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed.

        Raises:
            SettingsError: A name is unknown, a value is out of its range, or two contradict.
        """
        _check_sampling(changes)
        unknown = changes.keys() - {option.name for option in options()}
        if unknown:
            raise SettingsError(f"there is no setting named {sorted(unknown)[0]!r}")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values, without those that do not count in this scene.

        >>> "left_after_s" in Settings().to_dict(), "left_after_s" in Settings(scene="audience").to_dict()
        (False, True)
        """
        values = {option.name: getattr(self, option.name) for option in self._counting()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def _counting(self) -> list[Option]:
        return [option for option in options() if option.scene in ("", self.scene)]

    def segment_hash(self) -> str:
        """Hash of the fields that change what a segment's analysis yields (12 hex digits).

        >>> Settings().segment_hash() == Settings(bin_s=5, video=False).segment_hash()
        True
        >>> Settings().segment_hash() == Settings(fps=2).segment_hash()
        False
        """
        return self._hash(option.name for option in options() if option.segment)

    def result_hash(self) -> str:
        """Hash of the fields that change what comes out (12 hex digits).

        >>> Settings().result_hash() == Settings(workers=2, limit=5, timeout_s=9).result_hash()
        True
        >>> Settings().result_hash() == Settings(bin_s=5).result_hash()
        False
        """
        return self._hash(option.name for option in self._counting() if option.result)

    def _hash(self, names: Iterable[str]) -> str:
        values = {name: getattr(self, name) for name in names}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def sampling_ways(changes: Mapping[str, Any]) -> list[str]:
    """Those of ``fps``, ``every`` and ``keyframes`` by which changes of settings choose how to sample.

    >>> sampling_ways({"fps": 5.0, "every": None, "keyframes": False}), sampling_ways({"every": 3})
    (['fps'], ['every'])
    """
    return [name for name in SAMPLING if name in changes and changes[name] not in (None, False)]


def _check_sampling(changes: Mapping[str, Any]) -> None:
    """That what is asked for by name is not ignored: fields alone do not tell a default from a wish.

    Raises:
        SettingsError: Two ways of sampling are asked for.
    """
    if len(ways := sampling_ways(changes)) > 1:
        raise _excluded(*ways[:2])


def _excluded(one: str, other: str) -> SettingsError:
    return SettingsError(f"{one} and {other} exclude each other: give one of them")


def budget_s(budget: str, duration_s: float) -> float:
    """How long an analysis may take, in seconds, for a video of so many.

    Raises:
        SettingsError: It is no budget.

    >>> budget_s("30s", 600), budget_s("0.1x", 600)
    (30.0, 60.0)
    """
    number, unit = budget[:-1], budget[-1:]
    try:
        value = float(number) if unit in ("s", "x") else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise SettingsError(f"budget must be seconds or a share of the video, as 30s or 0.1x, not {budget!r}")
    return value if unit == "s" else value * duration_s


def options() -> tuple[Option, ...]:
    """Every settings field with its type, default, range and help text."""
    return _OPTIONS


def _describe(field: dataclasses.Field[Any]) -> Option:
    meta = dict(field.metadata)
    text = str(field.type)
    many = text.startswith("tuple")
    base = text.removeprefix("tuple[").split("|")[0].split(",")[0].strip()
    kind = {"int": int, "float": float, "bool": bool, "str": str}[base]
    return Option(name=field.name, type=kind, default=field.default, many=many, **meta)


_OPTIONS: tuple[Option, ...] = tuple(_describe(field) for field in dataclasses.fields(Settings))
assert {option.group for option in _OPTIONS} <= set(get_args(Group))
