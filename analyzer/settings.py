"""Frozen settings: the one home of every default, range and help text.

The command line builds its options from these fields, ``run.json`` records them, and the cache key of a
segment is a hash of those that change its analysis.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from analyzer.errors import SettingsError
from analyzer.util.validation import InvalidValueError, brief, conform, number, one_of, range_text

__all__ = [
    "AGE_BANDS",
    "DEFAULT_OUT",
    "DEFAULT_PRESET",
    "MOST_ENLARGED",
    "PRESETS",
    "REPORT_FORMATS",
    "SAMPLING",
    "AgeBand",
    "Option",
    "Settings",
    "assign_band",
    "budget_s",
    "checked_settings",
    "options",
    "sampling_ways",
]

# Faces are blurred where they are detected and in between: fewer samples would miss many of them.
_BLUR_FPS = 5.0

DEFAULT_OUT = "outputs"
"""Default folder of the runs."""

MIN_ON_SCREEN_S = 1.0
"""People seen for less time in total are not counted by default."""

MOST_ENLARGED = 2.0
"""Factor by which frames smaller than the detector's image are enlarged for it at most."""

REPORT_FORMATS = ("html", "png", "csv", "xlsx", "json", "md", "vtt")
"""Formats of a report."""

DEFAULT_PRESET = "balanced"
PRESETS: dict[str, dict[str, Any]] = {
    "fast": {"fps": 2.5, "deblock": False, "estimate_every_s": 1.0},
    DEFAULT_PRESET: {},
}
"""The fields that each preset changes. docs/presets.md shows the effects, and that slower settings are not
more accurate."""

SAMPLING = ("fps", "every", "keyframes")
"""Settings that choose the sampling; they exclude each other."""

Group = Literal["source", "sampling", "models", "people", "output", "machine"]
"""Groups of options, in the order of the command line's help."""

Changes = Literal["segments", "results", "nothing"]


@dataclass(frozen=True)
class AgeBand:
    """An age band: whole years from `low` to `high`, both included."""

    name: str
    low: float
    high: float

    @property
    def column(self) -> str:
        """Name of its column in the timeline table.

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
    # The bands of YouTube Analytics, preceded by one for children.
    "youtube": _bands("0-12", "13-17", "18-24", "25-34", "35-44", "45-54", "55-64", "65+"),
    # Levi and Hassner 2015. The bands leave gaps: an age belongs to the nearest band.
    "adience": _bands("0-2", "4-6", "8-12", "15-20", "25-32", "38-43", "48-53", "60+"),
}


def assign_band(age_years: float, bands: Sequence[AgeBand]) -> str:
    """Return the name of the band of an age, the nearest one in a gap; ``unknown`` for NaN.

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
    """One field of `Settings`: its type, default, range and meaning."""

    name: str
    type: type
    """Of the value, or of each item where `many`: bool, int, float or str."""
    default: Any
    help: str
    group: Group
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    """Words allowed in place of a number."""
    optional: bool = False
    """Whether None is allowed."""
    many: bool = False
    flag: str = ""
    """Name of the command line's option, where it differs from `name`."""
    changes: Changes = "segments"
    """What another value changes: the analysis of segments and with it everything; only what is derived from
    the segments; or nothing but whether, when or how fast there is a result. A new field changes segments
    until it declares otherwise: then at worst a segment is analyzed again, and never reused wrongly."""
    scene: str = ""
    """The only scene in which it has an effect; in others it is neither recorded nor hashed."""

    def check(self, value: Any) -> Any:
        """Return `value` in the field's type.

        Raises:
            SettingsError: The value has another type, is out of range, or is not one of the choices.
        """
        if value is None and self.optional:
            return None
        if not self.many:
            return self._check_one(value)
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise SettingsError(f"{self.name} must be a list, not {brief(value)}")
        checked = tuple(dict.fromkeys(self._check_one(item) for item in value))
        if not checked:
            raise SettingsError(f"{self.name} needs at least one of {', '.join(self.choices)}")
        return checked

    def _check_one(self, value: Any) -> Any:
        try:
            if self.type in (int, float):
                return number(value, self.type, self.name, self.low, self.high, words=self.words)
            if self.choices:
                return one_of(value, self.choices, self.name)
            return conform(value, self.type, self.name)
        except InvalidValueError as error:
            raise SettingsError(str(error)) from None

    @property
    def described(self) -> str:
        """Type, unit, range and default in one line, as the documents show them.

        >>> Option("fps", float, 5.0, "", "sampling", unit="1/s", low=0.01, high=240).described
        'float in 1/s, between 0.01 and 240; default 5.0'
        """
        kind = " or ".join((self.type.__name__, *map(repr, self.words), *(["None"] if self.optional else [])))
        parts = [f"tuple of {kind}" if self.many else kind]
        if self.unit:
            parts[0] += f" in {self.unit}"
        if self.choices:
            parts.append(("any of " if self.many else "one of ") + ", ".join(self.choices))
        elif self.low is not None or self.high is not None:
            parts.append(range_text(self.low, self.high))
        return f"{', '.join(parts)}; default {self.default!r}"


def _field(default: Any, help: str, group: Group, **meta: Any) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "group": group, **meta})


@dataclass(frozen=True)
class Settings:
    """How a video is analyzed. Frozen and checked on construction; `replace` returns a changed copy.

    Raises:
        SettingsError: A value is out of its range, or two values contradict each other.

    >>> Settings().fps
    5.0
    >>> Settings(fps=-1)
    Traceback (most recent call last):
    analyzer.errors.SettingsError: fps must be between 0.01 and 240, not -1
    """

    # source
    playlist: bool = _field(
        False, "Analyze every video of a playlist or channel.", "source", changes="nothing"
    )
    limit: int | None = _field(
        None,
        "Analyze at most this many videos of a playlist or folder; if images form one run, at most this "
        "many images.",
        "source",
        low=1,
        changes="nothing",
    )
    recursive: bool = _field(False, "Include the subfolders of a folder.", "source", changes="nothing")
    images: bool = _field(
        False,
        "Also analyze images, such as covers, in a folder of videos.",
        "source",
        changes="nothing",
    )
    max_height: int = _field(
        720,
        "Download the smallest format of at most this height.",
        "source",
        unit="pixels",
        low=64,
        high=8640,
        changes="results",
    )
    max_size_mb: int = _field(
        4096,
        "Give up on a download larger than this.",
        "source",
        unit="MB",
        low=1,
        high=1_000_000,
        changes="nothing",
    )
    timeout_s: float = _field(
        20.0,
        "Give up when a server sends too little for this long.",
        "source",
        unit="s",
        low=0.5,
        high=3600,
        flag="timeout",
        changes="nothing",
    )
    reconnect_s: float = _field(
        600.0,
        "Live: keep trying to reconnect to a lost source for this long, then end the run.",
        "source",
        unit="s",
        low=0,
        high=1e7,
        flag="reconnect",
        changes="nothing",
    )
    keep_download: bool = _field(
        False, "Keep the downloaded video in the run's folder.", "source", changes="results"
    )

    # sampling
    fps: float = _field(
        5.0, "Frames to analyze per second of video.", "sampling", unit="1/s", low=0.01, high=240
    )
    every: int | None = _field(
        None,
        "Analyze every N-th frame instead (the classic frame skip), counted from the start of each segment.",
        "sampling",
        unit="frames",
        low=1,
        high=1_000_000,
    )
    keyframes: bool = _field(False, "Decode and analyze keyframes only: fastest, but coarse.", "sampling")
    deblock: bool = _field(
        True,
        "Apply the deblocking filter of the codec; without it, H.264 decodes a fifth faster but coarser.",
        "sampling",
    )
    start_s: float = _field(0.0, "Start at this time.", "sampling", unit="s", low=0, high=1e7, flag="start")
    end_s: float | None = _field(
        None, "Stop at this time.", "sampling", unit="s", low=0, high=1e7, flag="end"
    )
    duration_s: float | None = _field(
        None,
        "Stop after this much of the video; without it, live sources run until Ctrl-C.",
        "sampling",
        unit="s",
        low=0.1,
        high=1e7,
        flag="duration",
    )
    budget: str | None = _field(
        None,
        "Limit the time of the analysis (30s), or the time for each second of video (0.1x), by sampling "
        "less; the annotated video comes on top.",
        "sampling",
        changes="results",
    )
    segment_s: float = _field(
        60.0,
        "Length of the segments that are analyzed and saved independently; rounded up to whole samples.",
        "sampling",
        unit="s",
        low=1,
        high=3600,
        flag="segment",
    )
    max_pixels: int = _field(
        64_000_000,
        "Reject frames and images with more pixels (protects the memory).",
        "sampling",
        unit="pixels",
        low=10_000,
        high=1_000_000_000,
    )

    # models
    detector: str = _field(
        "auto",
        "Face detector: yunet; centerface; ssd and haar, the classic ones of OpenCV; none: every frame is "
        "one face that has already been cropped. auto: yunet, or centerface where yunet is not installed.",
        "models",
        choices=("auto", "yunet", "centerface", "ssd", "haar", "none"),
    )
    detector_size: int | str = _field(
        "auto",
        "Longer side of the image that the detector sees; smaller is faster, larger finds smaller faces. "
        "auto: 640, and less between two full-resolution detections that found no small face; ssd: 300; "
        "scene audience: always 640.",
        "models",
        unit="pixels",
        low=128,
        high=4096,
        words=("auto",),
    )
    min_score: float | str = _field(
        "auto",
        "Drop detections with a lower score; auto: the value that suits the detector (see the models "
        "command).",
        "models",
        low=0.05,
        high=0.99,
        words=("auto",),
    )
    min_face_px: int = _field(
        0, "Drop faces narrower than this.", "models", unit="pixels", low=0, high=4096, flag="min_face"
    )
    attributes: str = _field(
        "auto",
        "Gender and age model: auto (ensemble, or heads-free with --commercial); heads; dlib; "
        "mobilenetv2; levi-hassner, the classic one; or a model of your own, by its name or its .onnx file.",
        "models",
    )
    gender_model: str | None = _field(None, "Gender model, in place of --attributes.", "models")
    age_model: str | None = _field(None, "Age model, in place of --attributes.", "models")
    min_estimate_px: int = _field(
        16,
        "Do not estimate gender and age of faces narrower than this.",
        "models",
        unit="pixels",
        low=1,
        high=1000,
    )
    estimate_every_s: float = _field(
        0.5,
        "Compare the best crop of each tracked face, and estimate its gender and age, once in this many "
        "seconds, half as often for long tracks; 0: every detection.",
        "models",
        unit="s",
        low=0,
        high=3600,
        flag="estimate_every",
    )
    reuse_s: float = _field(
        5.0,
        "Where the frame hardly changes, reuse the detections of the previous sample for at most this "
        "long; 0: never.",
        "models",
        unit="s",
        low=0,
        high=3600,
        flag="reuse",
    )

    # people
    scene: str = _field(
        "video",
        "video: people on screen; audience: people in front of the camera, with their attention and dwell "
        "times.",
        "people",
        choices=("video", "audience"),
    )
    attention_yaw_deg: float = _field(
        22.5,
        "Scene audience: a head turned further to the side is not looking at the camera.",
        "people",
        unit="degrees",
        low=1,
        high=90,
        flag="attention_yaw",
        scene="audience",
        changes="results",
    )
    attention_pitch_deg: float = _field(
        30.0,
        "Scene audience: likewise for a head turned further up or down, which landmarks hardly show.",
        "people",
        unit="degrees",
        low=1,
        high=90,
        flag="attention_pitch",
        scene="audience",
        changes="results",
    )
    attention_min_s: float = _field(
        0.3,
        "Scene audience: ignore shorter gazes.",
        "people",
        unit="s",
        low=0,
        high=3600,
        flag="attention_min",
        scene="audience",
        changes="results",
    )
    left_after_s: float = _field(
        5.0,
        "Scene audience: a person not seen for longer has left; coming back is another visit.",
        "people",
        unit="s",
        low=0,
        high=86400,
        flag="left_after",
        scene="audience",
        changes="results",
    )
    min_confidence: float = _field(
        0.7,
        "Report gender as unknown below this probability.",
        "people",
        low=0.5,
        high=1.0,
        changes="results",
    )

    min_on_screen_s: float = _field(
        MIN_ON_SCREEN_S,
        "Do not count people seen for less time in total; in very short videos, for half of the video.",
        "people",
        unit="s",
        low=0,
        high=86400,
        flag="min_on_screen",
        changes="results",
    )
    min_person_quality: float | str = _field(
        "auto",
        "Do not count people whose faces show this clearly for less than three quarters of --min-on-screen; "
        "auto: 0.55, and 0.14 in images.",
        "people",
        low=0,
        high=1,
        words=("auto",),
        changes="results",
    )
    gender_of_children: bool = _field(
        False,
        "Report the gender of children too, although the models are unreliable on them.",
        "people",
        changes="results",
    )
    keep_embeddings: bool = _field(
        False,
        "Keep the face embeddings (biometric data).",
        "people",
        changes="results",
    )

    # output
    bin_s: float = _field(
        1.0,
        "Length of a row of the timeline.",
        "output",
        unit="s",
        low=0.01,
        high=86400,
        flag="bin",
        changes="results",
    )
    age_bands: str = _field(
        "youtube", "Age bands of the tables.", "output", choices=tuple(AGE_BANDS), changes="results"
    )
    formats: tuple[str, ...] = _field(
        ("csv", "parquet"),
        "Formats of the timeline, people and shares tables; the other tables are always Parquet. xlsx: one "
        "spreadsheet with a sheet for each table.",
        "output",
        choices=("csv", "parquet", "xlsx"),
        flag="format",
        changes="results",
    )

    video: bool = _field(True, "Write the annotated video.", "output", changes="results")
    blur: bool = _field(
        False,
        "Blur the detected faces in the annotated video; a higher --fps catches faster ones.",
        "output",
        changes="results",
    )

    # machine
    commercial: bool = _field(
        False,
        "Refuse models whose license does not clearly allow commercial use, and calibration fitted on "
        "images that do not.",
        "machine",
        changes="results",
    )
    engine: str = _field("openvino", "Inference engine.", "machine", choices=("openvino", "onnxruntime"))
    device: str = _field(
        "cpu",
        "Device of the models; cuda: an NVIDIA graphics card, with ONNX Runtime and float32.",
        "machine",
        choices=("cpu", "cuda"),
    )
    precision: str = _field(
        "auto",
        "Arithmetic of the models: auto is bfloat16, and 8 bits for the face detector centerface, where "
        "engine and processor support it; int8, which auto is without bfloat16, uses 8 bits for "
        "dlib's models too and float32 for the others.",
        "machine",
        choices=("auto", "int8", "f32"),
    )
    workers: int = _field(
        0,
        "Processes that analyze segments of a video in parallel; 0: as many as cores and memory allow.",
        "machine",
        low=0,
        high=256,
        changes="nothing",
    )
    threads: int = _field(
        0,
        "Threads of the models and the decoder; 0: the number of cores.",
        "machine",
        low=0,
        high=512,
        changes="nothing",
    )

    def __post_init__(self) -> None:
        for option in options():
            object.__setattr__(self, option.name, option.check(getattr(self, option.name)))
        for option in options():
            if option.scene not in ("", self.scene) and getattr(self, option.name) != option.default:
                raise SettingsError(f"{option.name} needs scene {option.scene}: set that too")
        if self.every is not None and self.keyframes:
            raise _excluded("every", "keyframes")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise SettingsError(f"end ({self.end_s:g} s) must be later than start ({self.start_s:g} s)")
        if self.end_s is not None and self.duration_s is not None:
            raise _excluded("end", "duration")
        if self.budget is not None:
            budget_s(self.budget, 1.0)
            if self.every is not None or self.keyframes:
                raise SettingsError("budget chooses the sampling: leave out every and keyframes")
            if self.blur:
                raise SettingsError(
                    "blur needs dense sampling, which budget may reduce: leave out one of them"
                )
        if self.blur and not self.video:
            raise SettingsError("blur needs the annotated video, which is switched off")
        if self.blur and (self.keyframes or self.every not in (None, 1) or self.fps < _BLUR_FPS):
            raise SettingsError(f"blur needs dense sampling: fps of at least {_BLUR_FPS:g}, or every 1")

    @classmethod
    def from_preset(cls, preset: str = DEFAULT_PRESET, **changes: Any) -> Self:
        """Return the settings of a preset, with some fields changed.

        Raises:
            SettingsError: The preset or a field does not exist, a value is out of its range, or two values
                contradict each other.

        >>> Settings.from_preset("balanced") == Settings()
        True
        """
        if preset not in PRESETS:
            raise SettingsError(
                f"there is no preset named {brief(preset)}: choose one of {', '.join(PRESETS)}"
            )
        _check_sampling(changes)
        kept = {name: value for name, value in PRESETS[preset].items() if name not in changes}
        return cls().replace(**kept).replace(**changes)

    @property
    def preset(self) -> str | None:
        """Name of the preset that the fields changed by presets match; None if there is none.

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
        """Whether the detector may use a reduced resolution where no face would be too small for it.

        Not with scene audience: head poses are estimated from landmarks, which jitter at lower resolutions
        (docs/audience.md).
        """
        return self.detector_size == "auto" and self.scene != "audience"

    @property
    def stop_s(self) -> float | None:
        """Time at which reading stops: `end_s`, or `duration_s` after the start; None: the end of the video.

        >>> Settings(start_s=5, duration_s=10).stop_s
        15.0
        """
        return self.end_s if self.duration_s is None else self.start_s + self.duration_s

    @property
    def bands(self) -> tuple[AgeBand, ...]:
        """The age bands of the tables."""
        return AGE_BANDS[self.age_bands]

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed.

        Raises:
            SettingsError: A field does not exist, a value is out of its range, or two values contradict each
                other.
        """
        _check_sampling(changes)
        unknown = changes.keys() - {option.name for option in options()}
        if unknown:
            raise SettingsError(f"there is no setting {sorted(unknown)[0]!r}")
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values, without those that have no effect in this scene.

        >>> "left_after_s" in Settings().to_dict(), "left_after_s" in Settings(scene="audience").to_dict()
        (False, True)
        """
        values = {option.name: getattr(self, option.name) for option in self._counting()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}

    def _counting(self) -> list[Option]:
        return [option for option in options() if option.scene in ("", self.scene)]

    def segment_hash(self) -> str:
        """Return a hash of the fields that change the analysis of a segment (12 hex digits).

        >>> Settings().segment_hash() == Settings(bin_s=5, video=False).segment_hash()
        True
        >>> Settings().segment_hash() == Settings(fps=2).segment_hash()
        False
        """
        return self._hash(option.name for option in self._counting() if option.changes == "segments")

    def result_hash(self) -> str:
        """Return a hash of the fields that change the results (12 hex digits).

        >>> Settings().result_hash() == Settings(workers=2, limit=5, timeout_s=9).result_hash()
        True
        >>> Settings().result_hash() == Settings(bin_s=5).result_hash()
        False
        """
        return self._hash(option.name for option in self._counting() if option.changes != "nothing")

    def _hash(self, names: Iterable[str]) -> str:
        values = {name: getattr(self, name) for name in names}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def checked_settings(settings: Any) -> Settings:
    """Settings that a caller gives; None: the defaults.

    Raises:
        TypeError: They are something else.
    """
    if settings is None:
        return Settings()
    if not isinstance(settings, Settings):
        raise TypeError(f"settings is of type {type(settings).__name__}: pass Settings(...)")
    return settings


def sampling_ways(changes: Mapping[str, Any]) -> list[str]:
    """Return those of ``fps``, ``every`` and ``keyframes`` by which `changes` choose the sampling.

    >>> sampling_ways({"fps": 5.0, "every": None, "keyframes": False}), sampling_ways({"every": 3})
    (['fps'], ['every'])
    """
    return [name for name in SAMPLING if name in changes and changes[name] not in (None, False)]


def _check_sampling(changes: Mapping[str, Any]) -> None:
    """Check that at most one way of sampling is named: fields alone do not tell a default from a choice.

    Raises:
        SettingsError: Two are named.
    """
    if len(ways := sampling_ways(changes)) > 1:
        raise _excluded(*ways[:2])


def _excluded(one: str, other: str) -> SettingsError:
    return SettingsError(f"{one} and {other} exclude each other: give one of them")


def budget_s(budget: str, duration_s: float) -> float:
    """Return the time that an analysis may take, in seconds, for a video of `duration_s` seconds.

    Raises:
        SettingsError: `budget` is not a budget.

    >>> budget_s("30s", 600), budget_s("0.1x", 600)
    (30.0, 60.0)
    """
    number, unit = budget[:-1], budget[-1:]
    try:
        value = float(number) if unit in ("s", "x") else math.nan
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise SettingsError(
            f"budget must be in seconds (30s) or relative to the video (0.1x), not {brief(budget)}"
        )
    return value if unit == "s" else value * duration_s


def options() -> tuple[Option, ...]:
    """Return every settings field with its type, default, range and help text."""
    return _OPTIONS


def _describe(field: dataclasses.Field[Any], form: Any) -> Option:
    many = typing.get_origin(form) is tuple
    kinds = typing.get_args(form) or (form,)
    optional = types.NoneType in kinds
    return Option(field.name, kinds[0], field.default, many=many, optional=optional, **field.metadata)


def _described_options() -> str:
    """The options by group, for the docstring of `Settings`."""
    lines = []
    for group in typing.get_args(Group):
        lines += ["", f"Options ({group}):"]
        for option in (one for one in _OPTIONS if one.group == group):
            lines += [f"    {option.name}: {option.help}", f"        ({option.described})"]
    return "\n".join(f"    {line}" if line else "" for line in lines)


_HINTS = typing.get_type_hints(Settings)
_OPTIONS: tuple[Option, ...] = tuple(
    _describe(field, _HINTS[field.name]) for field in dataclasses.fields(Settings)
)
if Settings.__doc__:  # Python leaves docstrings out with -OO
    Settings.__doc__ = f"{Settings.__doc__.rstrip()}\n{_described_options()}\n    "
