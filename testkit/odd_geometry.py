"""Odd files that store pixels differently than they are shown: shape, direction, views, colors, transparency.

Each is made from the reference clip so that a player shows the reference again.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, cast

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image as Pillow

from testkit.odd_files import OddFile

__all__ = [
    "CASES",
    "Bits",
    "as_hdr",
    "display_matrix",
    "encode",
    "frame_packing",
    "guarded",
    "orientation",
    "with_message",
    "with_orientation",
]

Image = NDArray[np.uint8]
Change = Callable[[Image], NDArray[Any]]

ONE = 1 << 16
FAST = {"preset": "ultrafast", "crf": "16"}


def decoded(path: Path) -> Iterator[Image]:
    """(H, W, 3) uint8 RGB of each frame, as stored."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def encode(
    path: Path,
    images: Iterable[NDArray[Any]],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pixels: str = "rgb24",
    fps: int = 30,
    aspect: Fraction | None = None,
    matrix: tuple[int, ...] | None = None,
    options: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
    finish: Callable[[av.VideoFrame], object] = lambda frame: None,
    format: str | None = None,
) -> Path:
    """Encode images as they are to be stored.

    Args:
        path: What to write.
        images: (H, W, C), in the format `pixels`.
        codec, pix_fmt, options: Of the encoder.
        pixels: What the images hold.
        fps: Frames a second.
        aspect: Width of a pixel divided by its height.
        matrix: Display matrix of the container, nine numbers.
        metadata: Tags of the stream.
        finish: Called with each frame as it goes to the encoder.
        format: Format of the container, if the name does not imply it.
    """
    with av.open(str(path), "w", format=format) as container:
        stream = cast(
            av.VideoStream,
            container.add_stream(codec, rate=fps, options=FAST if options is None else options),
        )
        stream.pix_fmt = pix_fmt
        stream.metadata.update(metadata or {})
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if matrix is not None:
            stream.set_display_matrix(list(matrix))
        for number, image in enumerate(images):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), pixels)
            if frame.format.name != pix_fmt:
                frame = frame.reformat(format=pix_fmt)
            finish(frame)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def changed(images: Iterable[Image], change: Change) -> Iterator[NDArray[Any]]:
    return (change(image) for image in images)


def squeezed(across: float, down: float) -> Change:
    """To these shares of width and height."""

    def change(image: Image) -> Image:
        size = round(image.shape[1] * across), round(image.shape[0] * down)
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)

    return change


# --- shape and direction ---


def _shaped(name: str, shares: tuple[float, float], aspect: Fraction, folder: Path, reference: Path) -> Path:
    return encode(folder / name, changed(decoded(reference), squeezed(*shares)), aspect=aspect)


def _shape_changes(folder: Path, reference: Path) -> Path:
    """As of a channel that goes over from one shape of pixels to another."""
    images = list(decoded(reference))
    half, parts = len(images) // 2, []
    for number, (shares, aspect) in enumerate([((1 / 2, 1), Fraction(2)), ((1, 1 / 2), Fraction(1, 2))]):
        part = images[:half] if number == 0 else images[half:]
        path = folder / f"part{number}.ts"
        parts.append(encode(path, changed(part, squeezed(*shares)), aspect=aspect).read_bytes())
    path = folder / "shape_changes.ts"
    path.write_bytes(b"".join(parts))
    return path


def display_matrix(a: int, b: int, c: int, d: int) -> tuple[int, ...]:
    """Nine numbers: a stored point (x, y) is shown at (ax + cy, bx + dy)."""
    return a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30


def _directed(
    name: str, change: Change, matrix: tuple[int, ...], folder: Path, reference: Path, **how: Any
) -> Path:
    """`change` undoes what the matrix does."""
    return encode(folder / name, changed(decoded(reference), change), matrix=matrix, **how)


def _turned_and_narrow(folder: Path, reference: Path) -> Path:
    def change(image: Image) -> Image:
        return np.asarray(np.rot90(squeezed(1, 1 / 2)(image)))

    return _directed(
        "turned_and_narrow.mp4",
        change,
        display_matrix(0, 1, -1, 0),
        folder,
        reference,
        aspect=Fraction(2),
    )


# --- cropping ---


def framed(left: int, top: int, right: int, bottom: int) -> Change:
    """Add a border of noise of a width in pixels."""

    def change(image: Image) -> Image:
        height, width = image.shape[:2]
        random = np.random.default_rng(5)
        whole = random.integers(0, 256, (height + top + bottom, width + left + right, 3), np.uint8)
        whole[top : top + height, left : left + width] = image
        return whole

    return change


def with_clap(path: Path, source: Path, size: tuple[int, int], middle: tuple[int, int]) -> Path:
    """Copy an MP4 with its index at the end, with the clean aperture that it says.

    Args:
        path: What to write.
        source: Of one track.
        size: Width and height of the aperture.
        middle: How far its middle lies to the right of that of the frame and below it, in halves of pixels.
    """
    numbers = [size[0], 1, size[1], 1, middle[0], 2, middle[1], 2]
    box = (40).to_bytes(4, "big") + b"clap" + b"".join(n.to_bytes(4, "big", signed=True) for n in numbers)
    data = bytearray(source.read_bytes())
    at = data.index(b"moov") - 4
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        at = data.index(name, at) - 4
        length = int.from_bytes(data[at : at + 4], "big")
        data[at : at + 4] = (length + len(box)).to_bytes(4, "big")
    end = at + length
    path.write_bytes(data[:end] + box + data[end:])
    return path


def with_pixel_crop(path: Path, source: Path, crop: tuple[int, int, int, int]) -> Path:
    """Copy a Matroska file with a declared cropping: left, top, right, bottom, up to 255 pixels each."""
    names = (0x54CC, 0x54BB, 0x54DD, 0x54AA)
    extra = b"".join(
        name.to_bytes(2, "big") + b"\x81" + bytes([n]) for name, n in zip(names, crop, strict=True)
    )
    path.write_bytes(_grown(source.read_bytes(), [0x18538067, 0x1654AE6B, 0xAE, 0xE0], extra))
    return path


def _grown(data: bytes, names: list[int], extra: bytes) -> bytes:
    """Elements in which the innermost of `names` has got something more at its end."""
    if not names:
        return data + extra
    at = 0
    while True:
        name_bytes = 9 - data[at].bit_length()
        length_bytes = 9 - data[at + name_bytes].bit_length()
        begin = at + name_bytes + length_bytes
        raw = int.from_bytes(data[at + name_bytes : begin], "big")
        end = begin + (raw & ((1 << 7 * length_bytes) - 1))
        if int.from_bytes(data[at : at + name_bytes], "big") == names[0]:
            inner = _grown(data[begin:end], names[1:], extra)
            length = (raw + len(extra)).to_bytes(length_bytes, "big")
            return data[: at + name_bytes] + length + inner + data[end:]
        at = end


def _clean(folder: Path, reference: Path) -> Path:
    plain = encode(folder / "plain.mp4", changed(decoded(reference), framed(32, 16, 0, 48)))
    width, height = _still(reference).shape[1::-1]
    return with_clap(folder / "clean.mp4", plain, (width, height), (32, -32))


def _cropped_matroska(folder: Path, reference: Path) -> Path:
    plain = encode(folder / "plain.mkv", changed(decoded(reference), framed(0, 64, 32, 64)))
    return with_pixel_crop(folder / "crop.mkv", plain, (0, 64, 32, 64))


def _cropped_turned(folder: Path, reference: Path) -> Path:
    def change(image: Image) -> Image:
        return framed(16, 32, 48, 64)(np.rot90(image))

    plain = encode(
        folder / "plain.mp4", changed(decoded(reference), change), matrix=display_matrix(0, 1, -1, 0)
    )
    height, width = _still(reference).shape[:2]
    return with_clap(folder / "turned.mp4", plain, (height, width), (-32, -32))


# --- messages of the stream ---


class Bits:
    """Writes numbers bit by bit."""

    def __init__(self) -> None:
        self._text = ""

    def put(self, value: int, count: int) -> Bits:
        """Write a number of some bits."""
        self._text += f"{value:0{count}b}"
        return self

    def golomb(self, value: int) -> Bits:
        """Write an Exp-Golomb number, ue(v)."""
        written = f"{value + 1:b}"
        self._text += "0" * (len(written) - 1) + written
        return self

    def done(self) -> bytes:
        """The bytes, closed as messages are."""
        text = self._text if len(self._text) % 8 == 0 else self._text + "1"
        text += "0" * (-len(text) % 8)
        return int(text, 2).to_bytes(len(text) // 8, "big")


def orientation(
    *, turn: int = 0, across: int = 0, down: int = 0, holds: int = 1, hevc: bool = False, cancel: bool = False
) -> bytes:
    """A display orientation message; `turn` is in degrees anticlockwise, after the flips."""
    if cancel:
        return bytes([47]) + _sized(Bits().put(1, 1).done())
    bits = Bits().put(0, 1).put(across, 1).put(down, 1).put(round(turn * 65536 / 360), 16)
    bits = bits.put(holds, 1) if hevc else bits.golomb(holds).put(0, 1)
    return bytes([47]) + _sized(bits.done())


def frame_packing(arrangement: int, *, right_first: bool = False, hevc: bool = False) -> bytes:
    """A frame packing message: 3 side by side, 4 one above the other."""
    bits = Bits().golomb(0).put(0, 1).put(arrangement, 7).put(0, 1).put(2 if right_first else 1, 6)
    bits.put(0, 6).put(0, 16).put(0, 8)
    bits = bits.put(1, 1).put(0, 1) if hevc else bits.golomb(1).put(0, 1)
    return bytes([45]) + _sized(bits.done())


def _sized(payload: bytes) -> bytes:
    return bytes([len(payload)]) + payload


def guarded(raw: bytes) -> bytes:
    """The bytes of a unit, with a 3 wherever zeros could be taken for the beginning of the next."""
    out = bytearray()
    for byte in raw:
        if byte <= 3 and out.endswith(b"\0\0"):
            out.append(3)
        out.append(byte)
    return bytes(out)


def with_message(
    path: Path, source: Path, message: Callable[[int, bool], bytes | None], *, hevc: bool = False
) -> Path:
    """Copy a video with start codes (a transport stream), with messages put before its frames.

    Args:
        path: What to write.
        source: H.264 or HEVC.
        message: Gives the message of a packet by its number and whether it is a keyframe.
        hevc: Which of the two.
    """
    header = bytes([39 << 1, 1]) if hevc else bytes([6])
    slices = range(32) if hevc else range(1, 6)
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(one for one in old.demux(video=0) if one.size):
            said = message(number, packet.is_keyframe)
            made = packet
            if said is not None:
                data = bytes(packet)
                unit = b"\0\0\0\x01" + header + guarded(said + b"\x80")
                at = _first_slice(data, slices, hevc=hevc)
                made = av.Packet(data[:at] + unit + data[at:])
                made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
                made.is_keyframe = packet.is_keyframe
            made.stream = stream
            new.mux(made)
    return path


def _first_slice(data: bytes, slices: range, *, hevc: bool) -> int:
    at = data.find(b"\0\0\x01")
    while at >= 0:
        kind = (data[at + 3] >> 1) & 0x3F if hevc else data[at + 3] & 0x1F
        if kind in slices:
            return at - 1 if at and data[at - 1] == 0 else at
        at = data.find(b"\0\0\x01", at + 3)
    raise ValueError("there is no picture in the packet")


def _filtered(name: str, change: Change, how: str, folder: Path, reference: Path) -> Path:
    plain = encode(folder / "plain.ts", changed(decoded(reference), change), options=FAST | {"g": "30"})
    return with_orientation(folder / name, plain, how)


def with_orientation(path: Path, plain: Path, how: str) -> Path:
    """A copy of an H.264 video with what FFmpeg's own filter writes of its keyframes, such as "rotate=90"."""
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        edit = BitStreamFilterContext(f"h264_metadata=display_orientation=insert:{how}", old.streams.video[0])
        packets = (one for one in old.demux(video=0) if one.size)
        for packet in itertools.chain(packets, [None]):
            for made in edit.filter(packet):
                made.stream = stream
                new.mux(made)
    return path


def _said(
    name: str, change: Change, message: bytes, folder: Path, reference: Path, *, codec: str = "libx264"
) -> Path:
    hevc = codec == "libx265"
    options = {"preset": "ultrafast", "x265-params": "log-level=none"} if hevc else FAST
    plain = encode(folder / "plain.ts", changed(decoded(reference), change), codec=codec, options=options)
    return with_message(folder / name, plain, lambda _, key: message if key else None, hevc=hevc)


# --- two views ---


def packed(*, across: bool, whole: bool) -> Change:
    """The frame twice, side by side or one above the other; not `whole`: both in the size of one."""

    def change(image: Image) -> Image:
        if not whole:
            image = squeezed(*((1 / 2, 1) if across else (1, 1 / 2)))(image)
        return np.concatenate([image, image], axis=1 if across else 0)

    return change


def _two_views(name: str, change: Change, folder: Path, reference: Path, **how: Any) -> Path:
    return encode(folder / name, changed(decoded(reference), change), **how)


# --- colors ---

_FROM_709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])


def as_hdr(image: Image, transfer: ColorTrc, white_nits: float = 203.0) -> NDArray[np.uint16]:
    """(H, W, 3) uint16 RGB of BT.2020 in PQ or HLG, of (H, W, 3) uint8 RGB of an ordinary screen."""
    light = (image / 255.0) ** 2.2 @ _FROM_709.T
    if transfer == ColorTrc.SMPTE2084:
        power = (light * white_nits / 10_000) ** (2610 / 16384)
        signal = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        shown = light * white_nits / 1000
        luma = np.maximum(shown @ (0.2627, 0.6780, 0.0593), 1e-9)[..., None]
        scene = np.clip(shown * luma ** (1 / 1.2 - 1), 0, 1)
        bright = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        signal = np.where(scene <= 1 / 12, np.sqrt(3 * scene), bright)
    return np.asarray(np.rint(np.clip(signal, 0, 1) * 65535), np.uint16)


def _hdr(name: str, transfer: ColorTrc, folder: Path, reference: Path, *, codec: str, **how: Any) -> Path:
    def finish(frame: av.VideoFrame) -> None:
        frame.color_trc, frame.color_primaries = transfer, ColorPrimaries.BT2020
        frame.colorspace, frame.color_range = Colorspace.BT2020, ColorRange.MPEG

    path = folder / name
    with av.open(str(path), "w") as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=30, options=how.pop("options", FAST)))
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries = transfer, ColorPrimaries.BT2020
        context.colorspace, context.color_range = Colorspace.BT2020, ColorRange.MPEG
        for number, image in enumerate(decoded(reference)):
            if number == 0:
                stream.height, stream.width = image.shape[:2]
            deep = av.VideoFrame.from_ndarray(as_hdr(image, transfer), "rgb48le")
            frame = deep.reformat(
                format="yuv420p10le", dst_colorspace=Colorspace.BT2020, dst_color_range=ColorRange.MPEG
            )
            finish(frame)
            frame.pts, frame.time_base = number, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


# --- transparency ---


def left_hidden(image: Image) -> Image:
    """(H, W, 4): the left half cannot be seen, though its colors are there."""
    opacity = np.full(image.shape[:2], 255, np.uint8)
    opacity[:, : image.shape[1] // 2] = 0
    return np.dstack([image, opacity])


def _transparent(name: str, folder: Path, reference: Path, *, every: int = 1, **how: Any) -> Path:
    images = itertools.islice(decoded(reference), 0, None, every)
    return encode(
        folder / name, changed(images, left_hidden), pixels="rgba", fps=30 // every, **{"options": {}, **how}
    )


# --- images ---


def _still(reference: Path) -> Image:
    return next(decoded(reference))


def _float_tiff(folder: Path, reference: Path) -> Path:
    path = folder / "float.tif"
    gray = cv2.cvtColor(_still(reference), cv2.COLOR_RGB2GRAY)
    Pillow.fromarray((gray / 255).astype(np.float32)).save(path)
    return path


def _wide_tiff(folder: Path, reference: Path) -> Path:
    path = folder / "integers.tif"
    gray = cv2.cvtColor(_still(reference), cv2.COLOR_RGB2GRAY)
    Pillow.fromarray(gray.astype(np.int32) * 200_000).save(path)
    return path


def _printers_tiff(folder: Path, reference: Path) -> Path:
    path = folder / "cmyk.tif"
    Pillow.fromarray(_still(reference)).convert("CMYK").save(path)
    return path


def _mirrored_jpeg(folder: Path, reference: Path) -> Path:
    path = folder / "mirrored.jpg"
    exif = Pillow.Exif()
    exif[0x0112] = 7  # to be transposed over the other diagonal
    Pillow.fromarray(np.ascontiguousarray(np.rot90(_still(reference), 2).transpose(1, 0, 2))).save(
        path, quality=95, exif=exif
    )
    return path


def _hidden_picture(name: str, folder: Path, reference: Path) -> Path:
    path = folder / name
    exact = {"lossless": True, "exact": True} if path.suffix == ".webp" else {}
    Pillow.fromarray(left_hidden(_still(reference))).save(path, **exact)
    return path


SQUARE = "pixels that are not square"
DIRECTED = "display matrix that turns or mirrors"
CUT_OFF = "borders that the container crops"
SPOKEN = "display orientation message of the stream"
STEREO = "side-by-side 3D"
HDR = "HDR"
CLEAR = "transparency"
PICTURES = "images stored differently than shown"
_X265 = {"preset": "ultrafast", "crf": "16", "x265-params": "log-level=none"}
_PICTURE: dict[str, Any] = {"duration_s": 1.0}


def _flip(*axes: int) -> Change:
    return lambda image: np.flip(image, axes)


def _rot(quarters: int) -> Change:
    """Anticlockwise."""
    return lambda image: np.rot90(image, quarters)


def _across(image: Image) -> Image:
    return image.transpose(1, 0, 2)


def _over(image: Image) -> Image:
    return np.rot90(image, 2).transpose(1, 0, 2)


CASES = (
    OddFile(SQUARE, "sar_1_2_mp4", partial(_shaped, "a.mp4", (1, 1 / 2), Fraction(1, 2))),
    OddFile(SQUARE, "sar_2_1_mkv", partial(_shaped, "a.mkv", (1 / 2, 1), Fraction(2))),
    OddFile(
        SQUARE,
        "sar_pal_wide_ts",
        partial(_shaped, "a.ts", (9 / 16, 4 / 5), Fraction(64, 45)),
        size=(1024, 576),
    ),
    OddFile(SQUARE, "sar_nonsense_mp4", partial(_shaped, "a.mp4", (1, 1), Fraction(1, 1000))),
    OddFile(SQUARE, "sar_changes_ts", _shape_changes),
    OddFile(DIRECTED, "matrix_hflip_mp4", partial(_directed, "a.mp4", _flip(1), display_matrix(-1, 0, 0, 1))),
    OddFile(DIRECTED, "matrix_vflip_mov", partial(_directed, "a.mov", _flip(0), display_matrix(1, 0, 0, -1))),
    OddFile(DIRECTED, "matrix_90_mp4", partial(_directed, "a.mp4", _rot(1), display_matrix(0, 1, -1, 0))),
    OddFile(
        DIRECTED, "matrix_transpose_mp4", partial(_directed, "a.mp4", _across, display_matrix(0, 1, 1, 0))
    ),
    OddFile(DIRECTED, "matrix_over_mp4", partial(_directed, "a.mp4", _over, display_matrix(0, -1, -1, 0))),
    OddFile(DIRECTED, "matrix_90_sar_2_1_mp4", _turned_and_narrow),
    OddFile(CUT_OFF, "clap_mp4", _clean),
    OddFile(CUT_OFF, "clap_90_mp4", _cropped_turned),
    OddFile(CUT_OFF, "pixel_crop_mkv", _cropped_matroska),
    OddFile(SPOKEN, "sei_180_ts", partial(_filtered, "a.ts", _rot(2), "rotate=180")),
    OddFile(SPOKEN, "sei_90_mp4", partial(_filtered, "a.mp4", _rot(3), "rotate=90")),
    OddFile(SPOKEN, "sei_hflip_mkv", partial(_filtered, "a.mkv", _flip(1), "flip=horizontal")),
    OddFile(
        SPOKEN,
        "sei_hevc_90_ts",
        partial(_said, "a.ts", _rot(3), orientation(turn=90, hevc=True), codec="libx265"),
    ),
    OddFile(
        STEREO,
        "stereo_half_mkv",
        partial(
            _two_views, "a.mkv", packed(across=True, whole=False), metadata={"stereo_mode": "left_right"}
        ),
    ),
    OddFile(
        STEREO,
        "stereo_whole_mkv",
        partial(_two_views, "a.mkv", packed(across=True, whole=True), metadata={"stereo_mode": "right_left"}),
    ),
    OddFile(
        STEREO,
        "stereo_h264_ts",
        partial(_said, "a.ts", packed(across=True, whole=False), frame_packing(3)),
    ),
    OddFile(
        STEREO,
        "stereo_top_bottom_mp4",
        partial(
            _two_views,
            "a.mp4",
            packed(across=False, whole=False),
            options={**FAST, "x264-params": "frame-packing=4"},
        ),
    ),
    OddFile(
        HDR,
        "pq_hevc_mp4",
        partial(_hdr, "a.mp4", ColorTrc.SMPTE2084, codec="libx265", options=_X265),
        run={"video.transfer": "pq"},
    ),
    OddFile(
        HDR,
        "hlg_hevc_mov",
        partial(_hdr, "a.mov", ColorTrc.ARIB_STD_B67, codec="libx265", options=_X265),
        run={"video.transfer": "hlg"},
    ),
    OddFile(
        HDR,
        "pq_h264_mkv",
        partial(_hdr, "a.mkv", ColorTrc.SMPTE2084, codec="libx264"),
        run={"video.transfer": "pq"},
    ),
    OddFile(
        CLEAR,
        "alpha_vp9_webm",
        partial(
            _transparent,
            "a.webm",
            codec="libvpx-vp9",
            pix_fmt="yuva420p",
            options={"deadline": "realtime", "cpu-used": "8"},
            every=3,
        ),
        people=1,
    ),
    OddFile(
        CLEAR,
        "alpha_prores_mov",
        partial(_transparent, "a.mov", codec="prores_ks", pix_fmt="yuva444p10le", every=3),
        people=1,
    ),
    OddFile(
        CLEAR, "alpha_png_mov", partial(_transparent, "a.mov", codec="png", pix_fmt="rgba", every=6), people=1
    ),
    OddFile(
        CLEAR, "alpha_apng", partial(_transparent, "a.apng", codec="apng", pix_fmt="rgba", every=3), people=1
    ),
    OddFile(PICTURES, "float_tiff", _float_tiff, **_PICTURE),
    OddFile(PICTURES, "int32_tiff", _wide_tiff, **_PICTURE),
    OddFile(PICTURES, "cmyk_tiff", _printers_tiff, **_PICTURE),
    OddFile(PICTURES, "exif_mirrored_jpeg", _mirrored_jpeg, **_PICTURE),
    OddFile(PICTURES, "alpha_png", partial(_hidden_picture, "a.png"), people=1, **_PICTURE),
    OddFile(PICTURES, "alpha_webp", partial(_hidden_picture, "a.webp"), people=1, **_PICTURE),
    OddFile(PICTURES, "alpha_tiff", partial(_hidden_picture, "a.tif"), people=1, **_PICTURE),
)
