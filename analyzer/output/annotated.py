"""The annotated video: a second, fast pass that draws the finished tables over the source.

Top down: `render_video` and `render_images`; the position of each face over time (`_Spans`); the output
(`_Film`, `Mp4`). `analyzer.output.overlay` draws, and `analyzer.output.audio` handles the audio.

The output:

- H.264 4:2:0 with BT.709 colors, upright, square pixels, one even size. Frames of an odd size are padded by a
  row or column; frames of another size than the first are scaled to fit and letterboxed, never distorted.
- Frames that already have this form are not converted: where nothing is drawn, pixels stay as decoded.
- Every frame keeps its own time (ticks of 1/90000 s), counted from the start of the clip.
- Audio is trimmed at the end of the last frame. The last frame lasts until the end of the video or of the
  clip, as in the tables; if that is unknown, as long as the frame before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
import pandas as pd
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from analyzer.errors import MediaError, MediaErrorKind, OutputError
from analyzer.faces import iou
from analyzer.media.frame import Frame
from analyzer.media.images import ImageReader
from analyzer.media.readahead import read_ahead
from analyzer.media.reader import VideoReader
from analyzer.output.audio import open_sound
from analyzer.output.encoder import Mp4
from analyzer.output.overlay import Marks, Painter, Planes, hide
from analyzer.settings import Settings
from analyzer.util.atomic import writing

__all__ = [
    "RenderResult",
    "render_images",
    "render_video",
]

Image = NDArray[np.uint8]

Boxes = NDArray[np.float32]

Ints = NDArray[np.int64]

Floats = NDArray[np.float64]

Progress = Callable[[float], None]

_AHEAD = 4

_JPEG_QUALITY = 92

_JOIN_S = 1.0
"""Boxes move between two sightings at most this far apart, or at most two samples."""

_JOIN_IOU = 0.3

_HIDDEN_S = 0.5
"""A face is hidden for at least this long before its first and after its last sighting."""


@dataclass(frozen=True)
class RenderResult:
    """The file that `render_video` wrote."""

    path: Path
    frames: int
    width: int
    """Pixels, even."""
    height: int
    audio: str
    """``copied`` or ``encoded``, with any losses in parentheses; or ``none: `` and the reason."""


def render_video(
    reader: VideoReader,
    target: Path,
    *,
    faces: pd.DataFrame,
    people: pd.DataFrame,
    samples: pd.DataFrame,
    settings: Settings,
    audio_path: Path | None,
    on_progress: Progress | None = None,
) -> RenderResult:
    """Draw boxes, labels and counts over the video, from ``settings.start_s`` to ``settings.stop_s``.

    The file is written under a temporary name in the same folder and replaces `target` when it is complete;
    on an error it is removed, and an earlier `target` stays.

    Args:
        reader: The open video; its frames are read once.
        target: The file to write, always mp4; its folder must exist.
        faces: The faces table (columns of `analyzer.runs.schema.FACES`), boxes in pixels of the displayed
        frame. people: The people table: ``person_id``, ``gender``, ``age_years``. samples: The samples table:
        ``time_s``, ``width`` and ``height`` of every analyzed frame, including those without faces. settings:
        ``start_s``, ``end_s``, ``blur``, ``threads`` and the sampling rate are used. audio_path: File whose
        first audio track is used; None for the video file itself. The times of both files count from their
        own start. on_progress: Called after every frame with the completed share, 0 to 1; with 1 only at the
        end. It stays 0 while the length of the video is unknown.

    Raises:
        MediaError: The video cannot be read, or has no frame in the range.
        OutputError: The file cannot be written.
    """
    with ExitStack() as stack:
        part = stack.enter_context(writing(target))
        shared = audio_path is None
        sound, silence = open_sound(
            audio_path or reader.path, settings, shared=shared, moved=reader.timeline if shared else None
        )
        if sound is not None:
            stack.callback(sound.close)
        film = _Film(faces, people, samples, settings)
        frames = film.drawn(reader.frames(settings.start_s, settings.stop_s))
        mp4: Mp4 | None = None
        # Decoding, drawing and encoding run in three threads.
        for time_s, frame in stack.enter_context(closing(read_ahead(frames, _AHEAD))):
            if mp4 is None:
                mp4 = stack.enter_context(
                    Mp4(part, (frame.width, frame.height), reader.info, settings, sound)
                )
            mp4.write(frame, time_s - settings.start_s)
            if on_progress is not None:
                on_progress(mp4.share)
        if mp4 is None:
            raise MediaError("The video has no frame in the range.", kind=MediaErrorKind.NO_FRAMES)
        mp4.finish(whole=reader.report().complete)
    if on_progress is not None:
        on_progress(1.0)
    outcome = sound.outcome if sound is not None else silence
    return RenderResult(target, mp4.frames, mp4.width, mp4.height, outcome)


def render_images(
    reader: ImageReader,
    folder: Path,
    *,
    faces: pd.DataFrame,
    people: pd.DataFrame,
    samples: pd.DataFrame,
    settings: Settings,
    on_progress: Progress | None = None,
) -> list[Path]:
    """Write an annotated copy of every image, as JPEG with the name of the image, in the reader's order.

    Images are independent of each other, except for the number of people so far. Copies of images whose names
    differ only in their suffix get different names.

    Args:
        reader: The open images.
        folder: Output folder; created if it does not exist.
        faces: The faces table, as for `render_video`.
        people: The people table, as for `render_video`.
        samples: The samples table; ``image`` is the name of each image.
        settings: ``blur`` is used.
        on_progress: Called after every image with the completed share, 0 to 1.

    Raises:
        MediaError: An image cannot be read.
        OutputError: A copy cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be created ({error.strerror}): choose another folder") from error
    scene = _Scene(faces, samples, settings)
    written: dict[Path, None] = {}
    images = reader.samples(settings.start_s, settings.stop_s)
    with closing(read_ahead(images, _AHEAD)) as ahead:
        for number, sample in enumerate(ahead, 1):
            image = sample.frame.image()
            scene.draw_single(image, people, sample.frame.time_s)
            target = _free_name(folder, Path(sample.image_name).stem, written)
            with writing(target) as part:
                coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1]
                part.write_bytes(coded.tobytes())
            written[target] = None
            if on_progress is not None:
                on_progress(number / max(number, len(samples)))
    return list(written)


def _free_name(folder: Path, stem: str, taken: Container[Path]) -> Path:
    target, number = folder / f"{stem}.jpg", 1
    while target in taken:
        number += 1
        target = folder / f"{stem}-{number}.jpg"
    return target


@dataclass(frozen=True)
class _Spans:
    """N time spans, sorted by start, in each of which a box stands still or moves at constant speed."""

    begin_s: Floats
    """(N,) start in seconds, inclusive."""
    end_s: Floats
    """(N,) end in seconds, exclusive."""
    first: Boxes
    """(N, 4) the box at the start, in pixels."""
    last: Boxes
    """(N, 4) the box at the end, in pixels."""
    person: Ints
    """(N,) person ids, -1 for uncounted faces."""

    @classmethod
    def of(cls, begin_s: Floats, end_s: Floats, first: Boxes, last: Boxes, person: Ints) -> _Spans:
        order = np.argsort(begin_s, kind="stable")
        return cls(begin_s[order], end_s[order], first[order], last[order], person[order])


class _Sweep:
    """The active boxes at increasing times."""

    def __init__(self, spans: _Spans) -> None:
        self._spans = spans
        self._read = 0
        self._active: Ints = np.empty(0, np.int64)

    def at(self, time_s: float) -> tuple[Boxes, Ints]:
        """(M, 4) boxes and (M,) person ids at `time_s`, which must not decrease between calls."""
        spans = self._spans
        now = time_s + 1e-6  # times read from a file may differ in the last digits
        read = int(np.searchsorted(spans.begin_s, now, "right"))
        active = np.concatenate([self._active, np.arange(self._read, read)])
        self._read = read
        self._active = active = active[spans.end_s[active] > now]
        begin, end = spans.begin_s[active], spans.end_s[active]
        way = np.clip((time_s - begin) / (end - begin), 0, 1)[:, None].astype(np.float32)
        boxes: Boxes = spans.first[active] + (spans.last[active] - spans.first[active]) * way
        return boxes, spans.person[active]


class _Scene:
    """The faces table prepared for drawing: boxes at any time, and the people seen so far."""

    def __init__(
        self,
        faces: pd.DataFrame,
        samples: pd.DataFrame,
        settings: Settings,
        size: tuple[int, int] | None = None,
    ) -> None:
        """Prepare the tables.

        Args:
            faces: The faces table.
            samples: The samples table.
            settings: ``blur`` and the sampling rate are used.
            size: Width and height of the output in pixels; None: each sample's own.
        """
        table = faces.sort_values(["segment", "tracklet_id", "time_s"], kind="stable")
        self._time: Floats = table["time_s"].to_numpy(np.float64)
        boxes: Boxes = table[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
        self.boxes = boxes if size is None else _placed(boxes, self._time, samples, size)
        """(N, 4) pixels of the output."""
        self._person: Ints = table["person_id"].to_numpy(np.int64)
        self.uncounted = bool((self._person <= 0).any())
        """Whether some faces belong to no person."""
        self._tracklet: Ints = table["tracklet_id"].to_numpy(np.int64)
        self._segment: Ints = table["segment"].to_numpy(np.int64)
        self._sampled: Floats = np.unique(samples["time_s"].to_numpy(np.float64))
        steps = np.diff(self._sampled)
        self._step = float(np.median(steps)) if len(steps) else 1 / settings.fps
        self._limit = max(_JOIN_S, 2 * self._step) + 1e-6
        self._blur = settings.blur
        self._seen: set[int] = set()
        a, b = self._pairs()
        self._shown = _Sweep(self._shown_spans(a, b))
        self._hidden = _Sweep(self._hidden_spans(a, b)) if settings.blur else None

    def at(self, time_s: float, painter: Painter) -> tuple[Boxes, Marks]:
        """(N, 4) bounds of the ellipses to hide at `time_s`, and the marks to draw."""
        hidden = self._hidden.at(time_s)[0] if self._hidden is not None else np.empty((0, 4), np.float32)
        boxes, persons = self._shown.at(time_s)
        return hidden, self._marks(painter, boxes, persons)

    def draw_single(self, image: Image, people: pd.DataFrame, time_s: float) -> None:
        """Draw the faces of the sample at `time_s` on its image, (H, W, 3) uint8 BGR, in place."""
        here = np.abs(self._time - time_s) < 1e-6
        uncounted = bool((self._person[here] <= 0).any())
        painter = Painter(
            *(image.shape[1], image.shape[0], people, self.boxes[here]),
            yuv=False,
            uncounted=uncounted,
            image=True,
        )
        if self._blur:
            hide([(image, 1)], _cover(self.boxes[here], np.float32(0)))
        painter.draw(image, self._marks(painter, self.boxes[here], self._person[here]))

    def _marks(self, painter: Painter, boxes: Boxes, persons: Ints) -> Marks:
        now = set(persons[persons > 0].tolist())
        self._seen |= now
        return painter.marks(boxes, persons, now, len(self._seen))

    def _pairs(self) -> tuple[Ints, Ints]:
        """Rows a and b, (P,) each, between which a face was tracked; its box is drawn moving from a to b."""
        a = np.arange(max(0, len(self._time) - 1))
        b = a + 1
        same = (self._segment[a] == self._segment[b]) & (self._tracklet[a] == self._tracklet[b])
        same &= self._tracklet[a] >= 0
        c, d = self._meetings(np.r_[True, ~same][: len(self._time)], np.r_[~same, True][: len(self._time)])
        tracked = same & self._close(a, b)
        return np.r_[a[tracked], c], np.r_[b[tracked], d]

    def _meetings(self, head: NDArray[np.bool_], tail: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Rows where a tracklet ends, and where the same person's next tracklet begins in the same place.

        Joining them keeps boxes from blinking at segment boundaries.

        Args:
            head: (N,) whether the row is the first of its tracklet.
            tail: (N,) whether it is the last.
        """
        known = self._person > 0
        row = np.r_[np.flatnonzero(head & known), np.flatnonzero(tail & known)]
        ends = np.arange(len(row)) >= np.count_nonzero(head & known)
        order = np.lexsort((ends, self._time[row], self._person[row]))
        row, ends = row[order], ends[order]
        c, d = row[:-1], row[1:]
        meets = ends[:-1] & ~ends[1:] & (self._person[c] == self._person[d]) & self._close(c, d)
        overlap = [
            iou(self.boxes[i : i + 1], self.boxes[j : j + 1]).item()
            for i, j in zip(c[meets], d[meets], strict=True)
        ]
        in_place = np.array(overlap) >= _JOIN_IOU
        return c[meets][in_place], d[meets][in_place]

    def _close(self, a: Ints, b: Ints) -> NDArray[np.bool_]:
        gap = self._time[b] - self._time[a]
        near: NDArray[np.bool_] = (gap > 0) & (gap <= self._limit)
        return near

    def _shown_spans(self, a: Ints, b: Ints) -> _Spans:
        """The spans in which boxes are drawn: from sample to sample, and a little beyond the last sighting.

        A face that is missing in the next sample left at some time before it: its box is drawn for half the
        interval. A face that was not tracked may still be there, and so may all faces after the last sample:
        their boxes are drawn until the next sample is due.
        """
        end = np.setdiff1d(np.arange(len(self._time)), a)
        stays = (self._tracklet[end] < 0) | (self._time[end] >= self._sampled.max(initial=-math.inf) - 1e-6)
        hold = np.minimum(self._gaps()[1][end], self._step) * np.where(stays, 1.0, 0.5)
        return _Spans.of(
            np.r_[self._time[a], self._time[end]],
            np.r_[self._time[b], self._time[end] + hold],
            np.r_[self.boxes[a], self.boxes[end]],
            np.r_[self.boxes[b], self.boxes[end]],
            np.r_[self._person[a], self._person[end]],
        )

    def _hidden_spans(self, a: Ints, b: Ints) -> _Spans:
        """The spans in which faces are hidden; they start earlier and last longer than those of boxes.

        Between two samples that cannot be joined, both positions are hidden all the time.
        """
        rows = np.arange(len(self._time))
        begin, end = np.setdiff1d(rows, b), np.setdiff1d(rows, a)
        before, after = (np.maximum(1.5 * gaps, _HIDDEN_S) for gaps in self._gaps())
        # Speed is not constant: the faster the face, the wider the margin.
        margin = np.abs(self.boxes[b] - self.boxes[a]).max(axis=1, keepdims=True, initial=0) / 4
        still = _cover(self.boxes, np.float32(0))
        return _Spans.of(
            np.r_[self._time[a], self._time[begin] - before[begin], self._time[end]],
            np.r_[self._time[b], self._time[begin], self._time[end] + after[end]],
            np.r_[_cover(self.boxes[a], margin), still[begin], still[end]],
            np.r_[_cover(self.boxes[b], margin), still[begin], still[end]],
            np.r_[self._person[a], self._person[begin], self._person[end]],
        )

    def _gaps(self) -> tuple[Floats, Floats]:
        """(N,) seconds since the sample before that of each face, and until the sample after it."""
        padded = np.r_[-math.inf, self._sampled, math.inf]
        before = self._time - padded[np.searchsorted(self._sampled, self._time - 1e-6, "left")]
        after = padded[np.searchsorted(self._sampled, self._time + 1e-6, "right") + 1] - self._time
        return (
            np.where(np.isfinite(before), before, self._step),
            np.where(np.isfinite(after), after, self._step),
        )


def _cover(boxes: Boxes, margin: Boxes | np.float32) -> Boxes:
    """(N, 4) bounds of the ellipses that cover faces: around each box, plus a margin.

    Args:
        boxes: (N, 4) pixels.
        margin: (N, 1) pixels, or one number for all.
    """
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = half * np.float32(1.05 * math.sqrt(2)) + 2 + margin
    return np.hstack([middle - reach, middle + reach])


class _Placing(NamedTuple):
    """The position of a source frame in the output frame."""

    scale: float
    left: int
    top: int

    def boxes(self, boxes: Boxes) -> Boxes:
        """(N, 4) boxes in pixels of the output."""
        offset = np.array([self.left, self.top] * 2, np.float32)
        return boxes * np.float32(self.scale) + offset

    @classmethod
    def of(cls, wide: int, high: int, width: int, height: int) -> _Placing:
        """The placing of a frame of `wide` by `high` pixels in an output of `width` by `height` pixels."""
        if (wide + wide % 2, high + high % 2) == (width, height):
            return cls(1, 0, 0)
        scale = min(width / wide, height / high)
        return cls(scale, (width - _scaled(wide, scale)) // 2, (height - _scaled(high, scale)) // 2)


def _scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))


def _placed(boxes: Boxes, times_s: Floats, samples: pd.DataFrame, size: tuple[int, int]) -> Boxes:
    """(N, 4) boxes in pixels of the output, from boxes in pixels of their samples.

    Args:
        boxes: (N, 4) pixels of their samples.
        times_s: (N,) seconds.
        samples: The samples table.
        size: Width and height of the output in pixels.
    """
    known = samples.sort_values("time_s")
    at = np.searchsorted(known["time_s"].to_numpy(np.float64), times_s + 1e-6, "right") - 1
    sizes = (
        known[["width", "height"]].to_numpy(np.int64)[np.maximum(at, 0)] if len(known) else np.empty((0, 2))
    )
    placed = boxes.copy()
    for wide, high in np.unique(sizes, axis=0).tolist():
        these = (sizes == (wide, high)).all(axis=1)
        placed[these] = _Placing.of(wide, high, *size).boxes(boxes[these])
    return placed


def _fit(image: Image, width: int, height: int) -> Image:
    """The image in the size of the output; the same array if it has that size."""
    high, wide = image.shape[:2]
    if (wide, high) == (width, height):
        return image
    scale, left, top = _Placing.of(wide, high, width, height)
    if scale == 1 and not left and not top:
        # A repeated edge keeps other colors from bleeding in through shared chroma samples.
        padded = cv2.copyMakeBorder(image, 0, height - high, 0, width - wide, cv2.BORDER_REPLICATE)
        return padded.astype(np.uint8, copy=False)
    size = _scaled(wide, scale), _scaled(high, scale)
    framed = np.zeros((height, width, 3), np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    framed[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=method)
    return framed


class _Film:
    """Turns decoded frames into annotated output frames: yuv420p, BT.709, of one even size."""

    def __init__(
        self, faces: pd.DataFrame, people: pd.DataFrame, samples: pd.DataFrame, settings: Settings
    ) -> None:
        self._faces, self._people, self._samples, self._settings = faces, people, samples, settings
        self._scaler = VideoReformatter()

    def drawn(self, frames: Iterable[Frame]) -> Generator[tuple[float, av.VideoFrame], None, None]:
        """Yield time in seconds and output frame of every frame; the first sets the size of all."""
        painter: Painter | None = None
        with closing(read_ahead(frames, _AHEAD)) as ahead:
            for frame in ahead:
                if painter is None:
                    width, height = frame.width + frame.width % 2, frame.height + frame.height % 2
                    scene = _Scene(self._faces, self._samples, self._settings, (width, height))
                    painter = Painter(
                        *(width, height, self._people, scene.boxes), yuv=True, uncounted=scene.uncounted
                    )
                    scratch = np.empty((height, width, 3), np.uint8)
                output = self._output(frame, width, height)
                covers, marks = scene.at(frame.time_s, painter)
                if len(covers) or marks:
                    planes = Planes(output)
                    planes.hide(covers)
                    planes.draw(painter, marks, scratch)
                yield frame.time_s, output

    def _output(self, frame: Frame, width: int, height: int) -> av.VideoFrame:
        """The decoder's own frame if it has the form of the output, else a converted and fitted one."""
        native = frame.yuv()
        if native is not None and (native.width, native.height) == (width, height):
            return native
        canvas = _fit(frame.image(), width, height)
        return self._scaler.reformat(
            av.VideoFrame.from_numpy_buffer(canvas, "bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,  # otherwise gray turns green
        )
