"""The annotated video: a second, fast pass that draws the finished tables over the source.

Top down: `render_video` and `render_images`; the output (`_Film`, `Mp4`). `analyzer.output.motion` says
where faces are at any time, `analyzer.output.overlay` draws, and `analyzer.output.audio` handles the audio.

The output:

- H.264 4:2:0 with BT.709 colors, upright, square pixels, one even size. Frames of an odd size are padded by a
  row or column; frames of another size than the first are scaled to fit and letterboxed, never distorted.
- Frames that already have this form are not converted: where nothing is drawn, pixels stay as decoded.
- Every frame keeps its own time (ticks of 1/90000 s), counted from the start of the clip.
- Audio is trimmed at the end of the last frame. The last frame lasts until the end of the video or of the
  clip, as in the tables; if that is unknown, as long as the frame before it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
import pandas as pd
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from analyzer.errors import MediaError, MediaErrorKind, OutputError
from analyzer.media.frame import Frame
from analyzer.media.images import ImageReader
from analyzer.media.readahead import read_ahead
from analyzer.media.reader import VideoReader
from analyzer.output.audio import open_sound
from analyzer.output.encoder import Mp4
from analyzer.output.motion import Motion, Placing, Sweep, cover, scaled
from analyzer.output.overlay import Marks, Painter, Planes, hide
from analyzer.settings import Settings
from analyzer.util.atomic import writing

__all__ = [
    "RenderResult",
    "convert_video",
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
    film = _Film(faces, people, samples, settings)
    return _encode(
        reader, target, film.drawn, settings=settings, audio_path=audio_path, on_progress=on_progress
    )


def convert_video(
    reader: VideoReader, target: Path, *, settings: Settings, on_progress: Progress | None = None
) -> RenderResult:
    """Write the video in the form of an annotated one, which every player and browser plays, undrawn.

    Args:
        reader: The open video; its frames are read once.
        target: The file to write, as for `render_video`.
        settings: ``start_s``, ``end_s`` and ``threads`` are used.
        on_progress: As for `render_video`.

    Raises:
        MediaError: The video cannot be read, or has no frame in the range.
        OutputError: The file cannot be written.
    """
    return _encode(reader, target, _Form().plain, settings=settings, audio_path=None, on_progress=on_progress)


def _encode(
    reader: VideoReader,
    target: Path,
    made: Callable[[Iterable[Frame]], Generator[tuple[float, av.VideoFrame], None, None]],
    *,
    settings: Settings,
    audio_path: Path | None,
    on_progress: Progress | None,
) -> RenderResult:
    """Write the output frames that `made` makes of the frames of a video."""
    with ExitStack() as stack:
        part = stack.enter_context(writing(target))
        shared = audio_path is None
        sound, silence = open_sound(
            audio_path or reader.path, settings, shared=shared, moved=reader.timeline if shared else None
        )
        if sound is not None:
            stack.callback(sound.close)
        frames = made(reader.frames(settings.start_s, settings.stop_s))
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
            raise MediaError("the video has no frame in the range", kind=MediaErrorKind.NO_FRAMES)
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
        motion = Motion(faces, samples, settings.fps, size)
        self._time, self.boxes, self._person = motion.times_s, motion.boxes, motion.persons
        self.uncounted = bool((self._person <= 0).any())
        """Whether some faces belong to no person."""
        self._blur = settings.blur
        self._seen: set[int] = set()
        self._shown = Sweep(motion.shown())
        self._hidden = Sweep(motion.hidden()) if settings.blur else None

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
            hide([(image, 1)], cover(self.boxes[here], np.float32(0)))
        painter.draw(image, self._marks(painter, self.boxes[here], self._person[here]))

    def _marks(self, painter: Painter, boxes: Boxes, persons: Ints) -> Marks:
        now = set(persons[persons > 0].tolist())
        self._seen |= now
        return painter.marks(boxes, persons, now, len(self._seen))


def _fit(image: Image, width: int, height: int) -> Image:
    """The image in the size of the output; the same array if it has that size."""
    high, wide = image.shape[:2]
    if (wide, high) == (width, height):
        return image
    scale, left, top = Placing.of(wide, high, width, height)
    if scale == 1 and not left and not top:
        # A repeated edge keeps other colors from bleeding in through shared chroma samples.
        padded = cv2.copyMakeBorder(image, 0, height - high, 0, width - wide, cv2.BORDER_REPLICATE)
        return padded.astype(np.uint8, copy=False)
    size = scaled(wide, scale), scaled(high, scale)
    framed = np.zeros((height, width, 3), np.uint8)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    framed[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=method)
    return framed


class _Form:
    """Turns decoded frames into output frames: yuv420p, BT.709, of one even size."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def plain(self, frames: Iterable[Frame]) -> Generator[tuple[float, av.VideoFrame], None, None]:
        """Yield time in seconds and output frame of every frame; the first sets the size of all."""
        size: tuple[int, int] | None = None
        with closing(read_ahead(frames, _AHEAD)) as ahead:
            for frame in ahead:
                size = size or (frame.width + frame.width % 2, frame.height + frame.height % 2)
                yield frame.time_s, self._output(frame, *size)

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


class _Film(_Form):
    """Draws on the output frames."""

    def __init__(
        self, faces: pd.DataFrame, people: pd.DataFrame, samples: pd.DataFrame, settings: Settings
    ) -> None:
        super().__init__()
        self._faces, self._people, self._samples, self._settings = faces, people, samples, settings

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
