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

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")

_NAMED = 5
"""The most unreadable images that a sentence names."""

# Pillow warns of large images, which have a limit here, and of harmless faults in metadata. Once at import:
# filters belong to the process, and images are read in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageReader(BaseReader):
    """Reads image files with the interface of `VideoReader`, one second apart, each its own segment.

    Raises:
        MediaError: On construction, if none of the images can be read.
        SourceError: On construction, if the only image does not exist.
    """

    def __init__(self, paths: Sequence[Path], settings: Settings) -> None:
        super().__init__(settings)
        self._paths = tuple(Path(path) for path in paths)
        self.info = self._first_info()

    def frames(self, start_s: float = 0.0, end_s: float | None = None) -> Iterator[Frame]:
        """Yield the images whose index is in the range, within that of the settings.

        Raises:
            MediaError: While iterating, if none of several images could be read.
        """
        return (sample.frame for sample in self.samples(start_s, end_s))

    def samples(self, start_s: float = 0.0, end_s: float | None = None) -> Generator[Sample, None, None]:
        """Yield the images whose index is in the range as samples; unreadable ones are skipped and reported.

        Raises:
            MediaError: While iterating, if none of the images could be read.
        """
        start, end = self._range(start_s, end_s)
        return self._read([i for i in range(len(self._paths)) if start <= i < end])

    def segment_bounds(self, segment: int) -> tuple[float, float]:
        """Start and end of a segment in seconds, to be passed to `samples` unchanged."""
        return float(segment), float(segment + 1)

    def _first_info(self) -> VideoInfo:
        problem: MediaError | SourceError | None = None
        for path in self._paths:
            try:
                image, codec = _load_image(path, self._settings.max_pixels)
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
            raise MediaError("there are no images to read", kind=MediaErrorKind.EMPTY)
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
                    image, _ = _load_image(self._paths[index], self._settings.max_pixels)
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
            self._report = _report_on(len(indices), done, bad, last)

    def report_on(self, read: Set[int]) -> ReadReport:
        """Report on all images, if some were read in an earlier run.

        Args:
            read: The indices of the images that could be read, then or now.
        """
        start, end = self._range(0.0, None)
        asked = [index for index in range(len(self._paths)) if start <= index < end]
        bad = [short_name(self._paths[index]) for index in asked if index not in read]
        return _report_on(len(asked), len(asked), bad, max(read, default=None))


def _report_on(asked: int, done: int, bad: Sequence[str], last: int | None) -> ReadReport:
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
    """Say in a sentence why an image cannot be read; empty if it can."""
    try:
        _load_image(path, max_pixels)
    except (MediaError, SourceError) as error:
        return str(error)
    return ""


def further_pages(path: Path) -> int:
    """Count the pages of a TIFF after the first, which alone is read; reduced copies do not count."""
    try:
        with path.open("rb") as file:
            if file.read(4) not in _TIFF_HEADS:
                return 0
    except OSError:
        return 0
    pages = 0
    try:
        with PillowImage.open(path, formats=("TIFF",)) as opened:
            for page in range(1, getattr(opened, "n_frames", 1)):
                opened.seek(page)
                pages += not int(getattr(opened, "tag_v2", {}).get(_SUBFILE_TYPE, 0)) & _REDUCED
    except Exception:  # noqa: BLE001 - damaged behind the first page
        return pages
    return pages


def _load_image(path: Path, max_pixels: int) -> tuple[Image, str]:
    """Decode an image: (H, W, 3) uint8 BGR, upright; and the name of its codec. Its header is checked first.

    Raises:
        MediaError: It is not an image in an allowed format, is damaged, or has more than `max_pixels` pixels.
        SourceError: There is no such file.
    """
    check_file(path)
    name = short_name(path)
    try:
        with PillowImage.open(path, formats=_FORMATS) as opened:
            _check_header(opened, name, max_pixels)
            image = image_bgr(ImageOps.exif_transpose(opened))
            return image, (opened.format or "").lower()
    except MediaError:
        raise
    except PillowImage.DecompressionBombError as error:
        raise MediaError(
            f"{name} has more than the limit of {max_pixels} pixels (max_pixels)",
            kind=MediaErrorKind.TOO_LARGE,
        ) from error
    except UnidentifiedImageError as error:
        with path.open("rb") as file:
            head = file.read(12)
        if is_heif(head):
            raise heif_error(path) from error
        if head.startswith((b"II*\0", b"MM\0*")):
            raise MediaError(
                f"{name} is a TIFF in a form that is not supported; save it with 8 or 16 bits per color",
                kind=MediaErrorKind.CODEC,
            ) from error
        raise MediaError(
            f"{name} is not an image in a known format; use a JPEG, PNG, WebP, BMP or TIFF file",
            kind=MediaErrorKind.NOT_MEDIA,
        ) from error
    except Exception as error:  # on damaged files Pillow raises almost anything
        raise MediaError(f"{name} is damaged; get the file again", kind=MediaErrorKind.DAMAGED) from error


def _check_header(opened: PillowImage.Image, name: str, max_pixels: int) -> None:
    if opened.width * opened.height > max_pixels:
        raise MediaError(
            f"{name} has {opened.width}x{opened.height} pixels, more than the limit of {max_pixels} "
            "(max_pixels)",
            kind=MediaErrorKind.TOO_LARGE,
        )
    if opened.format == "WEBP" and getattr(opened, "is_animated", False):
        raise MediaError(
            f"{name} is an animated WebP, which is not supported; convert it to MP4 first",
            kind=MediaErrorKind.NOT_MEDIA,
        )
    if opened.format == "PNG" and getattr(opened, "is_animated", False):
        raise MediaError(
            f"{name} is an animated PNG; rename it to end in .apng to analyze it as a video",
            kind=MediaErrorKind.NOT_MEDIA,
        )


def _as_frame(image: Image) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, "bgr24")
