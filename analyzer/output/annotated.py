"""The annotated video: a second, cheap pass that draws the finished tables over the source.

Three parts, top down: `render_video` and `render_images`; where each face is at any moment (`_Spans`); and
what is written (`_Film`, `Mp4`). `analyzer.output.overlay` draws, `analyzer.output.audio` handles the sound.

Decided here, once:

- The picture is H.264 4:2:0 with BT.709 colors, upright, with square pixels, of one even size: an odd
  picture is padded by one row or column, a picture of another size than the first is scaled to fit and framed
  in black, never distorted.
- A picture that is like that already is not converted: where nothing is drawn it stays as it was decoded.
- Every frame keeps its own time (ticks of 1/90000 s), counted from the start of the cut.
- Sound ends with the picture: what is longer is cut at the end of the last frame. The last frame stands until
  the end of the video or of the cut, as in the tables; where that is unknown, as long as the one before it.
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
"""Boxes move between two sightings that are not further apart, or at most two samples."""


_JOIN_IOU = 0.3


_HIDDEN_S = 0.5
"""A face is hidden for at least this long before its first and after its last sighting."""


@dataclass(frozen=True)
class RenderResult:
    """What `render_video` wrote."""

    path: Path
    frames: int
    width: int
    """Pixels, even."""
    height: int
    audio: str
    """``copied`` or ``encoded``, then in brackets what was lost on the way, if anything; or ``none: `` and
    the reason."""


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

    `target` appears when it is whole: what is being written has another name in the same folder, and is
    removed if anything goes wrong. A finished file of an earlier time stays until then.

    Args:
        reader: The open video; its frames are read once.
        target: The file to write, mp4 whatever its name says; its folder must exist.
        faces: The faces table (columns of `analyzer.runs.schema.FACES`), boxes in pixels of the frame shown.
        people: The people table: ``person_id``, ``gender``, ``age_years``.
        samples: The samples table: ``time_s``, ``width`` and ``height`` of every analyzed frame, also of
            those without faces.
        settings: ``start_s``, ``end_s``, ``blur``, ``threads`` and the sampling rate are used.
        audio_path: File whose first sound track is used; None for the video file itself. Both files count
            their time from their own beginning.
        on_progress: Called after every frame with the share that is done, 0 to 1; 1 once, at the end. It
            stays 0 while the length of the video is unknown.

    Raises:
        MediaError: The video cannot be read, or has no picture in the range.
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
        # Decoding, drawing and encoding go on in three threads.
        for time_s, picture in stack.enter_context(closing(read_ahead(frames, _AHEAD))):
            if mp4 is None:
                mp4 = stack.enter_context(
                    Mp4(part, (picture.width, picture.height), reader.info, settings, sound)
                )
            mp4.write(picture, time_s - settings.start_s)
            if on_progress is not None:
                on_progress(mp4.share)
        if mp4 is None:
            raise MediaError("The video has no picture in the range.", kind=MediaErrorKind.NO_FRAMES)
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
    """Write an annotated copy of every picture: JPEG, named after the picture, in the reader's order.

    Each picture stands on its own: nothing is carried from one to the next but the number of people so far.
    Two pictures that differ only in their ending get different names.

    Args:
        reader: The open pictures.
        folder: Where to write; made if it is missing.
        faces: The faces table, as for `render_video`.
        people: The people table, likewise.
        samples: The samples table; ``image`` holds the name of each picture.
        settings: ``blur`` is used.
        on_progress: Called after every picture with the share that is done, 0 to 1.

    Raises:
        MediaError: A picture cannot be read.
        OutputError: A copy cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made ({error.strerror}): choose another folder") from error
    scene = _Scene(faces, samples, settings)
    written: dict[Path, None] = {}
    pictures = reader.samples(settings.start_s, settings.stop_s)
    with closing(read_ahead(pictures, _AHEAD)) as shots:
        for number, shot in enumerate(shots, 1):
            image = shot.frame.image()
            scene.draw_single(image, people, shot.frame.time_s)
            target = _free_name(folder, Path(shot.image_name).stem, written)
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
    """N stretches of time, sorted by beginning, in each of which a box stands still or moves evenly."""

    begin_s: Floats
    """(N,) seconds, included."""
    end_s: Floats
    """(N,) seconds, not included."""
    first: Boxes
    """(N, 4) pixels: the box at the beginning."""
    last: Boxes
    """(N, 4) pixels: the box at the end."""
    person: Ints
    """(N,) -1 for nobody."""

    @classmethod
    def of(cls, begin_s: Floats, end_s: Floats, first: Boxes, last: Boxes, person: Ints) -> _Spans:
        order = np.argsort(begin_s, kind="stable")
        return cls(begin_s[order], end_s[order], first[order], last[order], person[order])


class _Sweep:
    """Hands out the boxes of one moment after another; the moments must not run backwards."""

    def __init__(self, spans: _Spans) -> None:
        self._spans = spans
        self._read = 0
        self._active: Ints = np.empty(0, np.int64)

    def at(self, time_s: float) -> tuple[Boxes, Ints]:
        """(M, 4) boxes and (M,) persons that are to be seen at `time_s`."""
        spans = self._spans
        now = time_s + 1e-6  # times that went through a file may differ in the last digits
        read = int(np.searchsorted(spans.begin_s, now, "right"))
        active = np.concatenate([self._active, np.arange(self._read, read)])
        self._read = read
        self._active = active = active[spans.end_s[active] > now]
        begin, end = spans.begin_s[active], spans.end_s[active]
        way = np.clip((time_s - begin) / (end - begin), 0, 1)[:, None].astype(np.float32)
        boxes: Boxes = spans.first[active] + (spans.last[active] - spans.first[active]) * way
        return boxes, spans.person[active]


class _Scene:
    """The faces table as something to be drawn: what is where at any moment, and who has been seen so far."""

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
        """Whether some faces are no person's."""
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
        """What is to be hidden at the moment `time_s`, (N, 4) bounds of ellipses, and what to be drawn."""
        hidden = self._hidden.at(time_s)[0] if self._hidden is not None else np.empty((0, 4), np.float32)
        boxes, persons = self._shown.at(time_s)
        return hidden, self._marks(painter, boxes, persons)

    def draw_single(self, image: Image, people: pd.DataFrame, time_s: float) -> None:
        """Draw only what was found in the sample at `time_s`, into its picture, (H, W, 3) uint8 BGR."""
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
        """Rows a and b, (P,) each, between which a face was followed: drawn as moving from a to b."""
        a = np.arange(max(0, len(self._time) - 1))
        b = a + 1
        same = (self._segment[a] == self._segment[b]) & (self._tracklet[a] == self._tracklet[b])
        same &= self._tracklet[a] >= 0
        c, d = self._meetings(np.r_[True, ~same][: len(self._time)], np.r_[~same, True][: len(self._time)])
        followed = same & self._close(a, b)
        return np.r_[a[followed], c], np.r_[b[followed], d]

    def _meetings(self, head: NDArray[np.bool_], tail: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Rows where a tracklet ends, and where the same person's next one begins in the same place.

        Without joining them boxes would blink where segments meet.

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
        """Where boxes are drawn: from sample to sample, and a little beyond the last.

        A face that is gone in the next sample left at some moment before it: its box stands for half the
        way. A face that was not followed may well be there again, and nothing is known to end after the
        last sample: these stand until the next sample is due.
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
        """Where faces are hidden: wherever one was seen, from earlier and for longer than boxes are drawn.

        Between two samples that cannot be joined, the last place and the next are both hidden all the way.
        """
        rows = np.arange(len(self._time))
        begin, end = np.setdiff1d(rows, b), np.setdiff1d(rows, a)
        before, after = (np.maximum(1.5 * gaps, _HIDDEN_S) for gaps in self._gaps())
        # Nobody moves evenly: the faster, the more room.
        room = np.abs(self.boxes[b] - self.boxes[a]).max(axis=1, keepdims=True, initial=0) / 4
        still = _cover(self.boxes, np.float32(0))
        return _Spans.of(
            np.r_[self._time[a], self._time[begin] - before[begin], self._time[end]],
            np.r_[self._time[b], self._time[begin], self._time[end] + after[end]],
            np.r_[_cover(self.boxes[a], room), still[begin], still[end]],
            np.r_[_cover(self.boxes[b], room), still[begin], still[end]],
            np.r_[self._person[a], self._person[begin], self._person[end]],
        )

    def _gaps(self) -> tuple[Floats, Floats]:
        """For every face, (N,) seconds since the sample before its own and until the one after."""
        padded = np.r_[-math.inf, self._sampled, math.inf]
        before = self._time - padded[np.searchsorted(self._sampled, self._time - 1e-6, "left")]
        after = padded[np.searchsorted(self._sampled, self._time + 1e-6, "right") + 1] - self._time
        return (
            np.where(np.isfinite(before), before, self._step),
            np.where(np.isfinite(after), after, self._step),
        )


def _cover(boxes: Boxes, room: Boxes | np.float32) -> Boxes:
    """(N, 4) the bounds of the ellipses that cover faces: each goes round its box, and `room` pixels more.

    Args:
        boxes: (N, 4) pixels.
        room: (N, 1) pixels, or one number for all.
    """
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]) / 2
    reach = half * np.float32(1.05 * math.sqrt(2)) + 2 + room
    return np.hstack([middle - reach, middle + reach])


class _Placing(NamedTuple):
    """Where the source's picture lies in the output's."""

    scale: float
    left: int
    top: int

    def boxes(self, boxes: Boxes) -> Boxes:
        """(N, 4) boxes in pixels of the output."""
        offset = np.array([self.left, self.top] * 2, np.float32)
        return boxes * np.float32(self.scale) + offset

    @classmethod
    def of(cls, wide: int, high: int, width: int, height: int) -> _Placing:
        """Of a frame `wide` and `high` in an output of `width` and `height` pixels."""
        if (wide + wide % 2, high + high % 2) == (width, height):
            return cls(1, 0, 0)
        scale = min(width / wide, height / high)
        return cls(scale, (width - _scaled(wide, scale)) // 2, (height - _scaled(high, scale)) // 2)


def _scaled(length: int, scale: float) -> int:
    return max(1, round(length * scale))


def _placed(boxes: Boxes, times_s: Floats, samples: pd.DataFrame, size: tuple[int, int]) -> Boxes:
    """(N, 4) boxes in pixels of the output: each was found in a sample of a size of its own.

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
    """The picture in the output's size; the same array if it has that size."""
    high, wide = image.shape[:2]
    if (wide, high) == (width, height):
        return image
    scale, left, top = _Placing.of(wide, high, width, height)
    if scale == 1 and not left and not top:
        # Repeating the edge keeps a foreign color from bleeding in through the shared color samples.
        padded = cv2.copyMakeBorder(image, 0, height - high, 0, width - wide, cv2.BORDER_REPLICATE)
        return padded.astype(np.uint8, copy=False)
    size = _scaled(wide, scale), _scaled(high, scale)
    framed = np.zeros((height, width, 3), np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    framed[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=method)
    return framed


class _Film:
    """Turns decoded frames into the pictures of the output, drawn on: yuv420p, BT.709, of one even size."""

    def __init__(
        self, faces: pd.DataFrame, people: pd.DataFrame, samples: pd.DataFrame, settings: Settings
    ) -> None:
        self._faces, self._people, self._samples, self._settings = faces, people, samples, settings
        self._scaler = VideoReformatter()

    def drawn(self, frames: Iterable[Frame]) -> Generator[tuple[float, av.VideoFrame], None, None]:
        """Time in seconds and picture of every frame; the first one gives the size of all."""
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
                picture = self._picture(frame, width, height)
                covers, marks = scene.at(frame.time_s, painter)
                if len(covers) or marks:
                    planes = Planes(picture)
                    planes.hide(covers)
                    planes.draw(painter, marks, scratch)
                yield frame.time_s, picture

    def _picture(self, frame: Frame, width: int, height: int) -> av.VideoFrame:
        """The decoder's own picture where it is already as the output's are, else converted and fitted."""
        native = frame.yuv()
        if native is not None and (native.width, native.height) == (width, height):
            return native
        canvas = _fit(frame.image(), width, height)
        return self._scaler.reformat(
            av.VideoFrame.from_numpy_buffer(canvas, "bgr24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU709,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BILINEAR | Interpolation.ACCURATE_RND,  # else gray turns green
        )
