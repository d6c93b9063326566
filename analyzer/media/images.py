"""Image files, read as samples."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Sequence, Set
from fractions import Fraction
from pathlib import Path

import av
import av.error
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from analyzer.errors import MediaError, MediaErrorKind, SourceError
from analyzer.media.colors import image_bgr
from analyzer.media.demuxer import VideoInfo, check_file, heif_error, is_heif
from analyzer.media.frame import Frame, Image, Sample
from analyzer.media.geometry import Geometry
from analyzer.media.read_report import ReadReport
from analyzer.media.reader import BaseReader
from analyzer.settings import Settings
from analyzer.util.text import counted, short_name

__all__ = [
    "ImageReader",
    "further_pages",
    "image_problem",
]

_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


_SUBFILE_TYPE, _REDUCED = 254, 1


_PICTURE_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")


_NAMED = 5
"""So many unreadable images are named in a sentence."""


class ImageReader(BaseReader):
    """Reads single pictures with the interface of `VideoReader`, one second apart, each its own segment.

    Raises:
        MediaError: On construction, if not one of the pictures can be read.
        SourceError: On construction, if the only picture does not exist.
    """

    def __init__(self, paths: Sequence[Path], settings: Settings) -> None:
        super().__init__(settings)
        self._paths = tuple(Path(path) for path in paths)
        self.info = self._look()

    def frames(self, start_s: float = 0.0, end_s: float | None = None) -> Iterator[Frame]:
        """Every picture whose index lies in the range, within the cut of the settings.

        Raises:
            MediaError: While iterating: none of several pictures could be read.
        """
        return (sample.frame for sample in self.samples(start_s, end_s))

    def samples(self, start_s: float = 0.0, end_s: float | None = None) -> Generator[Sample, None, None]:
        """Every picture whose index lies in the range as a sample; a bad one is left out and reported.

        Raises:
            MediaError: While iterating: none of the pictures could be read.
        """
        start, end = self._range(start_s, end_s)
        return self._read([i for i in range(len(self._paths)) if start <= i < end])

    def segment_bounds(self, segment: int) -> tuple[float, float]:
        """Start and end in seconds of a segment, to be given to `samples` as they are."""
        return float(segment), float(segment + 1)

    def _look(self) -> VideoInfo:
        problem: MediaError | SourceError | None = None
        for path in self._paths:
            try:
                image, codec = _load_picture(path, self._settings.max_pixels)
                return VideoInfo(
                    width=image.shape[1],
                    height=image.shape[0],
                    duration_s=float(len(self._paths)),
                    fps=Fraction(1),
                    codec=codec,
                    container="images",
                    pix_fmt=None,
                    audio_codec=None,
                )
            except (MediaError, SourceError) as error:
                problem = problem or error
        if problem is None:
            raise MediaError("There are no images to read.", kind=MediaErrorKind.EMPTY)
        raise problem

    def _read(self, indices: list[int]) -> Generator[Sample, None, None]:
        bad: list[str] = []
        last: int | None = None
        problem: Exception | None = None
        done = 0
        try:
            for index in indices:
                if self._closed:
                    return
                try:
                    image, _ = _load_picture(self._paths[index], self._settings.max_pixels)
                except (MediaError, SourceError) as error:
                    problem = problem or error
                    bad.append(short_name(self._paths[index]))
                else:
                    last = index
                    shape = Geometry(image.shape[1], image.shape[0])
                    frame = Frame(float(index), True, _as_frame(image), shape, self._scaler)
                    yield Sample(frame, index, 0, self._paths[index].name)
                done += 1
            if last is None and problem is not None:
                raise problem
        finally:
            self._report = _report_on_pictures(len(indices), done, bad, last)

    def report_on(self, read: Set[int]) -> ReadReport:
        """How all pictures were read of which some had been read in an earlier run.

        Args:
            read: The indices of those that could be read, then or now.
        """
        start, end = self._range(0.0, None)
        asked = [index for index in range(len(self._paths)) if start <= index < end]
        bad = [short_name(self._paths[index]) for index in asked if index not in read]
        return _report_on_pictures(len(asked), len(asked), bad, max(read, default=None))


def _report_on_pictures(asked: int, done: int, bad: Sequence[str], last: int | None) -> ReadReport:
    reason = "" if done == asked else f"reading was stopped after {counted(done, 'image')}"
    if bad:
        more = f" and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
        names = ", ".join(bad[:_NAMED])
        reason = f"{len(bad)} of {counted(asked, 'image')} could not be read: {names}{more}"
    return ReadReport(
        frames=done - len(bad),
        bad_packets=len(bad),
        packets=done,
        repaired_times=0,
        last_s=None if last is None else float(last),
        complete=not reason,
        reason=reason,
    )


def image_problem(path: Path, max_pixels: int) -> str:
    """Why a picture cannot be read, in a sentence; empty if it can."""
    try:
        _load_picture(path, max_pixels)
    except (MediaError, SourceError) as error:
        return str(error)
    return ""


def further_pages(path: Path) -> int:
    """How many pages a TIFF has behind the first, which alone is read; smaller copies of pages are none."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in _TIFF_HEADS:
                return 0
    except OSError:
        return 0
    pages = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with PillowImage.open(path, formats=("TIFF",)) as picture:
                for page in range(1, getattr(picture, "n_frames", 1)):
                    picture.seek(page)
                    pages += not int(getattr(picture, "tag_v2", {}).get(_SUBFILE_TYPE, 0)) & _REDUCED
    except Exception:  # noqa: BLE001 - damaged behind the first page
        return pages
    return pages


def _load_picture(path: Path, max_pixels: int) -> tuple[Image, str]:
    """Decode a picture: (H, W, 3) uint8 BGR, upright; and the name of its codec. Its header is checked first.

    Raises:
        MediaError: It is no picture of the allowed formats, or damaged, or has more than `max_pixels` pixels.
        SourceError: There is no such file.
    """
    check_file(path)
    name = short_name(path)
    try:
        with warnings.catch_warnings():
            # Pillow warns above a limit of its own, and of harmless faults in metadata.
            warnings.simplefilter("ignore")
            with PillowImage.open(path, formats=_PICTURE_FORMATS) as picture:
                _check_header(picture, name, max_pixels)
                image = image_bgr(ImageOps.exif_transpose(picture))
                return image, (picture.format or "").lower()
    except MediaError:
        raise
    except PillowImage.DecompressionBombError as error:
        raise MediaError(
            f"{name} has more than the limit of {max_pixels} pixels (max_pixels).",
            kind=MediaErrorKind.TOO_LARGE,
        ) from error
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            head = file.read(12)
        if is_heif(head):
            raise heif_error(path) from error
        if head.startswith((b"II*\0", b"MM\0*")):
            raise MediaError(
                f"{name} is a TIFF in a form that is not read here; save it with 8 or 16 bits a color.",
                kind=MediaErrorKind.CODEC,
            ) from error
        raise MediaError(
            f"{name} is not a picture in a known format; give a JPEG, PNG, WebP, BMP or TIFF file.",
            kind=MediaErrorKind.NOT_MEDIA,
        ) from error
    except Exception as error:  # on damaged files Pillow raises almost anything
        raise MediaError(f"{name} is damaged; get the file again.", kind=MediaErrorKind.DAMAGED) from error


def _check_header(picture: PillowImage.Image, name: str, max_pixels: int) -> None:
    if picture.width * picture.height > max_pixels:
        raise MediaError(
            f"{name} has {picture.width}x{picture.height} pixels, more than the limit of {max_pixels} "
            "(max_pixels).",
            kind=MediaErrorKind.TOO_LARGE,
        )
    if picture.format == "WEBP" and getattr(picture, "is_animated", False):
        raise MediaError(
            f"{name} is an animated WebP, which is not supported; convert it to MP4 first.",
            kind=MediaErrorKind.NOT_MEDIA,
        )
    if picture.format == "PNG" and getattr(picture, "is_animated", False):
        raise MediaError(
            f"{name} is an animated PNG; rename it to end in .apng, and it is analyzed as the video it is.",
            kind=MediaErrorKind.NOT_MEDIA,
        )


def _as_frame(image: Image) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, "bgr24")
