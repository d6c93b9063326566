"""Face detectors, behind the one protocol `analyzer.faces.FaceDetector`.

CenterFace and YuNet run by our own runtime; the classic ones, the SSD and the Haar cascade, by OpenCV, the
only one that reads their files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ModelError
from analyzer.faces import Faces, face_widths
from analyzer.settings import Settings
from analyzer.vision import catalog
from analyzer.vision.catalog import Model
from analyzer.vision.quantize import Ranges
from analyzer.vision.runtime import BATCHES, lacks_memory, load_network, telling_line

__all__ = [
    "RANGES_FILE",
    "CenterFace",
    "Detector",
    "Haar",
    "Ssd",
    "WholePicture",
    "YuNet",
    "decode_centerface",
    "decode_yunet",
    "load_detector",
]

Float = NDArray[np.float32]
Image = NDArray[np.uint8]


def _points(*shares: list[float]) -> Float:
    return np.array(shares, np.float32)


RANGES_FILE = Path(__file__).with_name("centerface_int8.json")
"""Written by benchmarks/fit_int8.py."""

# Where eyes, nose and mouth lie on average in the boxes of detectors that do not find them: measured by
# benchmarks/fit_points.py.
_POINTS = {
    "ssd": _points([0.254, 0.444], [0.741, 0.439], [0.49, 0.632], [0.298, 0.782], [0.698, 0.777]),
    "haar": _points([0.302, 0.382], [0.698, 0.377], [0.494, 0.6], [0.335, 0.775], [0.662, 0.769]),
    "none": _points([0.3, 0.339], [0.686, 0.326], [0.491, 0.525], [0.335, 0.701], [0.658, 0.692]),
}
_MULTIPLE = 32
_CENTERFACE_STRIDE = 4
_YUNET_STRIDES = (8, 16, 32)
_NMS_IOU = 0.3


class Detector(ABC):
    """What all detectors share: sizes, scores, and boxes in pixels of the full frame.

    The frame is scaled to `settings.detector_size` on its longer side (auto: `auto_px`), never enlarged.

    Raises:
        ModelError: On construction: its files are missing or damaged.
    """

    model: ClassVar[Model]
    auto_px: ClassVar[int] = 640
    """Longer side of the picture where the size is left to the program."""
    auto_score: ClassVar[float]
    """Least score where it is left to the program."""
    reducible: ClassVar[bool] = False
    points_in_box: ClassVar[Float | None] = None
    engine = f"opencv {cv2.__version__} CPU"

    def __init__(self, settings: Settings) -> None:
        self._size = self.auto_px if isinstance(settings.detector_size, str) else settings.detector_size
        self._min_face_px = settings.min_face_px
        self.min_score = self.auto_score if isinstance(settings.min_score, str) else settings.min_score

    @property
    def provenance(self) -> dict[str, Any]:
        """What ``run.json`` says of it and of what runs it."""
        return {**self.model.provenance(), "engine": self.engine, "min_score": self.min_score}

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        """Width and height in pixels of the picture this detector wants of a `width` x `height` frame.

        Args:
            width, height: Of the frame.
            reduction: By how much less closely it is to be looked at.
        """
        factor = min(1.0, self._size / max(width, height)) / reduction
        return max(1, round(width * factor)), max(1, round(height * factor))

    def detect(self, images: Sequence[Image], sizes: Sequence[tuple[int, int]]) -> list[Faces]:
        """Find the faces in pictures scaled to `input_size`, best first.

        Args:
            images: (H, W, 3) uint8 BGR, all of one size.
            sizes: For each, the width and height of the full frame; boxes come back in its pixels.

        Raises:
            ModelError: The detector failed.
        """
        if not images:
            return []
        try:
            found = self._find(images)
        except (RuntimeError, cv2.error) as error:
            words = f"the face detector failed on {images[0].shape} pictures: {telling_line(error)}"
            raise ModelError(words, no_memory=lacks_memory(error)) from error
        height, width = images[0].shape[:2]
        scaled = [
            _rescale(faces, size[0] / width, size[1] / height)
            for faces, size in zip(found, sizes, strict=True)
        ]
        return [faces[face_widths(faces.boxes) >= self._min_face_px] for faces in scaled]

    @abstractmethod
    def _find(self, images: Sequence[Image]) -> list[Faces]:
        """The faces of each picture, best first, in its own pixels and inside of it."""


class _InMultiples(Detector):
    """Each side of the picture is rounded up to a multiple of 32."""

    reducible = True

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        factor = min(1.0, self._size / max(width, height)) / reduction
        return _round_up(width * factor), _round_up(height * factor)


class CenterFace(_InMultiples):
    """CenterFace (Xu et al. 2019): one pass of a MobileNetV2, anchor free, with five landmarks."""

    model = catalog.CENTERFACE
    auto_score = 0.35

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._network = load_network(
            catalog.weights(self.model),
            settings,
            name=self.model.name,
            batch=BATCHES[settings.device][self.model.role],
            ranges=Ranges.load(RANGES_FILE, self.model.sha256),
        )
        self.engine = self._network.engine

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        outputs = self._network.run(images)
        height, width = images[0].shape[:2]
        return [
            decode_centerface([output[index] for output in outputs], width, height, self.min_score)
            for index in range(len(images))
        ]


class YuNet(_InMultiples):
    """YuNet (Wu et al. 2023): a very small network, anchor free, with five landmarks."""

    model = catalog.YUNET
    auto_score = 0.6

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Its file rearranges outputs for one picture at a time.
        self._network = load_network(catalog.weights(self.model), settings, name=self.model.name, batch=1)
        self.engine = self._network.engine

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        outputs = self._network.run(images)
        height, width = images[0].shape[:2]
        return [
            decode_yunet([output[index] for output in outputs], width, height, self.min_score)
            for index in range(len(images))
        ]


class Ssd(Detector):
    """The face detector of OpenCV's samples: an SSD (Liu et al. 2016) on a reduced ResNet-10.

    The picture is stretched to a square; it gives no landmarks.
    """

    model = catalog.SSD
    auto_px = 300
    auto_score = 0.7
    points_in_box = _POINTS["ssd"]
    engine = f"{Detector.engine} f32"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        weights, structure = (catalog.read(self.model, file) for file in self.model.files)
        try:
            self._network = cv2.dnn.readNetFromTensorflow(
                np.frombuffer(weights, np.uint8), np.frombuffer(structure, np.uint8)
            )
        except cv2.error as error:
            raise ModelError(f"OpenCV cannot load the network {self.model.name}: {error.err}") from error

    def input_size(self, width: int, height: int, reduction: float = 1.0) -> tuple[int, int]:
        side = max(1, round(self._size / reduction))
        return side, side

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        found = []
        for image in images:
            self._network.setInput(cv2.dnn.blobFromImage(image, mean=(104, 117, 123)))
            rows = self._network.forward().reshape(-1, 7)  # picture, class, score, x1, y1, x2, y2
            height, width = image.shape[:2]
            boxes = rows[:, 3:] * np.array([width, height] * 2, np.float32)
            found.append(_best(boxes, rows[:, 2], width, height, self.min_score))
        return found


class Haar(Detector):
    """The cascade of Viola and Jones (2001) that comes with OpenCV; it gives no landmarks.

    Its score is made of the number n of windows that agree: n / (n + 5), so that the classic least number,
    5, is 0.5.
    """

    model = catalog.HAAR
    auto_score = 0.5
    points_in_box = _POINTS["haar"]

    _LEAST_PX = 24
    _STEP = 1.1
    _HALF = 5

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        text = catalog.weights(self.model).decode()
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)
        self._cascade = cv2.CascadeClassifier()
        if not self._cascade.read(storage.getFirstTopLevelNode()):
            raise ModelError(f"OpenCV cannot load the cascade {self.model.name}")
        self._least = max(1, int(np.ceil(self._HALF * self.min_score / (1 - self.min_score) - 1e-9)))

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        found = []
        for image in images:
            grey = cv2.equalizeHist(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
            found_at, counts = self._cascade.detectMultiScale2(
                grey, scaleFactor=self._STEP, minNeighbors=self._least, minSize=(self._LEAST_PX,) * 2
            )
            corners = np.asarray(found_at, np.float32).reshape(-1, 4)
            agreeing = np.asarray(counts, np.float32).reshape(-1)
            height, width = image.shape[:2]
            boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
            found.append(_best(boxes, agreeing / (agreeing + self._HALF), width, height, 0.0))
        return found


class WholePicture(Detector):
    """No detector: the whole picture is one face that is cut out already."""

    model = catalog.NONE
    auto_px = 320
    auto_score = 0.5
    points_in_box = _POINTS["none"]
    engine = "none"

    def _find(self, images: Sequence[Image]) -> list[Faces]:
        return [Faces.build(boxes=[[0, 0, image.shape[1], image.shape[0]]], scores=[1.0]) for image in images]


_DETECTORS: dict[str, type[Detector]] = {
    one.model.name: one for one in (CenterFace, YuNet, Ssd, Haar, WholePicture)
}


def load_detector(settings: Settings) -> Detector:
    """Load the detector that `settings` names.

    Raises:
        ModelError: Its files are missing or damaged.
    """
    return _DETECTORS[settings.detector](settings)


def _round_up(side: float) -> int:
    # Rounded first: 640.0000000000001 is 640.
    return max(_MULTIPLE, int(np.ceil(round(side, 6) / _MULTIPLE)) * _MULTIPLE)


def _best(boxes: Float, scores: Float, width: int, height: int, min_score: float) -> Faces:
    """Those of a score above `min_score`, best first, clipped to the picture; none that are empty."""
    limits = np.array([width, height] * 2, np.float32)
    boxes = np.clip(boxes, 0, limits)
    kept = np.flatnonzero((scores > min_score) & (boxes[:, :2] < boxes[:, 2:]).all(axis=1))
    order = kept[np.argsort(-scores[kept], kind="stable")]
    return Faces.build(boxes=boxes[order], scores=np.clip(scores[order], 0, 1))


def decode_centerface(outputs: list[NDArray[np.float32]], width: int, height: int, min_score: float) -> Faces:
    """Turn CenterFace's four maps into faces, best first.

    Args:
        outputs: heat map (1, h, w), log sizes (2, h, w) y x, offsets (2, h, w) y x, landmarks (10, h, w)
            as y x pairs in units of the box; h and w are a quarter of the picture's.
        width, height: Of the picture that the network saw, in pixels.
        min_score: Lower scores are dropped.

    Returns:
        Faces in pixels of that picture, clipped to it, overlapping ones removed (IoU 0.3).
    """
    heat, sizes, offsets, points = outputs
    rows, columns = np.nonzero(heat[0] > min_score)
    if not len(rows):
        return Faces.empty()
    cells = np.stack([columns, rows]).astype(np.float32)
    extents = np.exp(sizes[::-1, rows, columns]) * _CENTERFACE_STRIDE
    corners = (cells + offsets[::-1, rows, columns] + 0.5) * _CENTERFACE_STRIDE - extents / 2
    limits = np.array([[width], [height]], np.float32)
    low = np.clip(corners, 0, limits)
    boxes = np.concatenate([low, np.minimum(low + extents, limits)]).T
    scores = heat[0, rows, columns].clip(0, 1)
    # (10, n) as y x pairs -> (n, 5, 2) as x y
    units = points[:, rows, columns].T.reshape(-1, 5, 2)[:, :, ::-1]
    landmarks = units * extents.T[:, None, :] + low.T[:, None, :]
    corner_and_size = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxes(corner_and_size.tolist(), scores.tolist(), min_score, _NMS_IOU)
    chosen = np.asarray(kept, dtype=np.int64).ravel()
    return Faces.build(boxes=boxes[chosen], scores=scores[chosen], landmarks=landmarks[chosen])


def decode_yunet(outputs: Sequence[Float], width: int, height: int, min_score: float) -> Faces:
    """Turn YuNet's twelve arrays into faces, best first.

    Args:
        outputs: For the strides 8, 16 and 32 each: probability of the class (C, 1), of there being an object
            (C, 1), boxes (C, 4) as middle and logarithm of the size, in strides and from the cell on, and
            landmarks (C, 10) likewise; in the order class, object, box, landmarks. C are the cells, row by
            row.
        width, height: Of the picture that the network saw, in pixels.
        min_score: Lower scores are dropped. A score is the geometric mean of both probabilities.

    Returns:
        Faces in pixels of that picture, clipped to it, overlapping ones removed (IoU 0.3).
    """
    boxes, scores, points = [], [], []
    for index, stride in enumerate(_YUNET_STRIDES):
        classes, objects, box, landmarks = outputs[index::3]
        score = np.sqrt(np.clip(classes[:, 0], 0, 1) * np.clip(objects[:, 0], 0, 1))
        cells = np.flatnonzero(score > min_score)
        rows, columns = np.divmod(cells, width // stride)
        corner = np.stack([columns, rows], axis=1).astype(np.float32)
        middle = (corner + box[cells, :2]) * stride
        half = np.exp(box[cells, 2:]) * stride / 2
        boxes.append(np.concatenate([middle - half, middle + half], axis=1))
        points.append((landmarks[cells].reshape(-1, 5, 2) + corner[:, None]) * stride)
        scores.append(score[cells])
    every_box, every_score = np.concatenate(boxes), np.concatenate(scores)
    if not len(every_score):
        return Faces.empty()
    corner_and_size = np.concatenate([every_box[:, :2], every_box[:, 2:] - every_box[:, :2]], axis=1)
    # Overlaps are those of whole pixels, as in OpenCV's own detector.
    whole = corner_and_size.astype(np.int64)
    kept = cv2.dnn.NMSBoxes(whole.tolist(), every_score.tolist(), min_score, _NMS_IOU)
    chosen = np.asarray(kept, dtype=np.int64).ravel()
    clipped = np.clip(every_box[chosen], 0, np.array([width, height] * 2, np.float32))
    return Faces.build(boxes=clipped, scores=every_score[chosen], landmarks=np.concatenate(points)[chosen])


def _rescale(faces: Faces, x: float, y: float) -> Faces:
    factors = np.array([x, y], np.float32)
    return faces.replace(boxes=faces.boxes * np.tile(factors, 2), landmarks=faces.landmarks * factors)
