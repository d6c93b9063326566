"""The pixels that models expect."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DLIB_PIXELS", "Pixels"]


@dataclass(frozen=True)
class Pixels:
    """The pixels that a model expects: (value - mean) / scale, in its order of colors.

    >>> Pixels(scale=(255.0,) * 3).even_scale, Pixels(scale=(57.0, 57.0, 58.0)).even_scale
    (255.0, None)
    """

    rgb: bool = False
    """Whether red comes first; else blue, as in our images."""
    means: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """In its order of colors."""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """In its order of colors."""
    channels_last: bool = False
    """Whether it takes (N, H, W, 3), as TensorFlow models do; else (N, 3, H, W)."""

    @property
    def even_scale(self) -> float | None:
        """The scale, if it is the same for all colors."""
        return self.scale[0] if len(set(self.scale)) == 1 else None


DLIB_PIXELS = Pixels(rgb=True, means=(122.781998, 117.000999, 104.297997), scale=(256.0,) * 3)
"""The pixels that dlib's models expect."""
