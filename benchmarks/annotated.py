"""The README's image of an annotated video: a frame of the demo.

python -m benchmarks.annotated [FILE]
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2

from analyzer import analyze
from analyzer.media.reader import VideoReader
from analyzer.settings import Settings
from testkit import demo

ROOT = Path(__file__).parents[1]
_AT_S, _WIDTH, _QUALITY = 16.0, 960, 88


def main() -> None:
    """Write docs/annotated.jpg, or the file given."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "annotated.jpg"
    with tempfile.TemporaryDirectory() as temporary:
        video = Path(temporary) / "demo.mp4"
        demo.write_demo(video)
        run = analyze(video, out=temporary)
        with VideoReader(run.folder / "annotated.mp4", Settings()) as reader:
            frame = next(reader.frames(_AT_S))
            height = round(_WIDTH * frame.height / frame.width)
            image = cv2.resize(frame.image(), (_WIDTH, height), interpolation=cv2.INTER_AREA)
    if not cv2.imwrite(str(target), image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
        raise SystemExit(f"{target} cannot be written")


if __name__ == "__main__":
    main()
