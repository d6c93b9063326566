"""Live in the browser: analyzed frames a second, and the time from a frame to its boxes.

    python -m benchmarks.live --seconds 30

Starts a server, sends it frames of 640x360 pixels with three faces as a page does, one at a time, and prints
what came back. Wall times mean something on an idle machine only; the processor's time per frame does on any.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from websockets.sync.client import connect

from testkit.demo import portraits
from testkit.live_servers import jpegs
from testkit.web import TOKEN, serving

_SIDE = 190
_SETTLED = 20
"""Frames that are not counted: models warm up, and new faces are estimated at once."""


def three_faces() -> list[bytes]:
    """Frames in which three faces sway."""
    collins, hopper = (cv2.resize(face, (_SIDE, _SIDE)) for face in portraits())
    frames = []
    for step in range(20):
        image = np.full((360, 640, 3), 90, np.uint8)
        for number, face in enumerate((collins, hopper, collins[:, ::-1])):
            left = 15 + 210 * number + round(6 * np.sin(step / 20 * 2 * np.pi + number))
            image[80 : 80 + _SIDE, left : left + _SIDE] = face
        frames.append(image)
    return jpegs(frames)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0)
    seconds = parser.parse_args().seconds
    frames, latencies, cpu = three_faces(), list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as server:
        address = server.url.replace("http", "ws", 1) + "/api/live"
        headers = {"Authorization": f"Bearer {TOKEN}", "Origin": server.url}
        began = time.monotonic()
        with connect(address, additional_headers=headers) as socket:
            assert json.loads(socket.recv(300))["type"] == "ready"
            ready_s = time.monotonic() - began
            sent = faces = 0
            began = time.monotonic()
            while sent < _SETTLED or time.monotonic() - began < seconds:
                if sent == _SETTLED:
                    began = time.monotonic()
                start = time.monotonic()
                socket.send(frames[sent % len(frames)])
                answer = json.loads(socket.recv(60))
                assert answer["type"] == "faces", answer
                sent += 1
                if sent > _SETTLED:
                    latencies.append(time.monotonic() - start)
                    cpu.append(answer["cpu_ms"])
                    faces += len(answer["faces"])
            wall_s = time.monotonic() - began
    print(f"ready after {ready_s:.1f} s")
    print(f"{len(latencies) / wall_s:.1f} frames a second, {faces / len(latencies):.2f} faces each")
    slow = statistics.quantiles(latencies, n=20)[-1]
    print(f"frame to boxes: median {1000 * statistics.median(latencies):.0f} ms, 95 % {1000 * slow:.0f} ms")
    print(
        f"processor time: mean {statistics.mean(cpu):.1f} ms a frame, median {statistics.median(cpu):.1f} ms"
    )


if __name__ == "__main__":
    main()
