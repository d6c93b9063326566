"""The choice of formats to download."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "choose_formats",
    "protocol_of",
]

# Protocols that yt-dlp downloads by itself; others need an ffmpeg executable or are not finite.
_PROTOCOLS = ("https", "http", "http_dash_segments", "m3u8_native", "m3u8")

_ENOUGH_AUDIO_KBPS = 64


# In order of decoding speed; compared without regard to case.
_CODECS = ("avc|h264", "vp0?9", "hev|hvc|h265", "av0?1")


def choose_formats(
    formats: Sequence[Mapping[str, Any]], *, max_height: int, want_audio: bool, duration_s: float | None
) -> list[Mapping[str, Any]]:
    """Choose the smallest formats that suffice: video, and audio if it is a separate file.

    The video is the tallest of at most `max_height`, else the lowest above it, else (where the site
    declares no heights) the best. Of the same height, the smallest download is chosen, because the
    transfer costs more than decoding. Ties are common, because many sites declare no sizes; the codec
    that decodes fastest breaks them.

    Args:
        formats: yt-dlp's, the best last.
        max_height: In pixels; the shorter side counts, as with upright videos.
        want_audio: Whether sound is needed.
        duration_s: In seconds, to estimate sizes from bit rates.

    Returns:
        No, one or two formats; the video's first.
    """
    usable = [each for each in formats if (each.get("protocol") or "https") in _PROTOCOLS]
    videos = [each for each in usable if each.get("vcodec") != "none"]
    sounds = [each for each in usable if each.get("vcodec") == "none" and each.get("acodec") != "none"]

    def size(each: Mapping[str, Any]) -> float:
        known = each.get("filesize") or each.get("filesize_approx")
        return float(known or (each.get("tbr") or math.inf) * 125 * (duration_s or 60))

    def common(each: Mapping[str, Any]) -> tuple[float, ...]:
        """First of all: formats that are known to be bad come last, the original language first."""
        bad = each.get("__needs_testing") or (each.get("preference") or 0) < -1
        return (bool(bad), -(each.get("language_preference") or -1))

    def sound_rank(each: Mapping[str, Any]) -> tuple[float, ...]:
        rate = each.get("abr") or each.get("tbr") or _ENOUGH_AUDIO_KBPS
        worth = (0, size(each)) if rate >= _ENOUGH_AUDIO_KBPS else (1, -rate)
        return (*common(each), *worth, each.get("ext") != "m4a", _PROTOCOLS.index(protocol_of(each)))

    sound = min(sounds, key=sound_rank, default=None) if want_audio else None

    def image_rank(index: int) -> tuple[float, ...]:
        each = videos[index]
        silent = each.get("acodec") == "none"
        side = min((each[key] for key in ("width", "height") if each.get(key)), default=None)
        fit = (2, -index) if side is None else (0, -side) if side <= max_height else (1, side)
        total = size(each) + (size(sound) if silent and sound is not None else 0)
        codec = each.get("vcodec") or ""
        return (
            *common(each),
            *fit,
            want_audio and silent and sound is None,
            total,
            silent is want_audio,
            each.get("fps") or 0,
            next((at for at, known in enumerate(_CODECS) if re.match(known, codec, re.I)), len(_CODECS)),
            _PROTOCOLS.index(protocol_of(each)),
        )

    if not videos:
        return []
    video = videos[min(range(len(videos)), key=image_rank)]
    if sound is not None and video.get("acodec") == "none":
        return [video, sound]
    return [video]


def protocol_of(each: Mapping[str, Any]) -> str:
    return str(each.get("protocol") or "https")
