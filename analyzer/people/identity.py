"""Re-identification: which tracklets are the same person, across segments, losses, shots and re-entries.

There are two kinds of links. If one tracklet ends and another starts in the same shot, shortly after and
where the first was heading, they are one (time and position). Otherwise embeddings decide: those of the
tracklets are clustered by average linkage, bottom up; two faces in one sample are never one person.

How far an embedding can be trusted depends on how clearly the face shows (`Faces.quality`). Unclear faces are
linked by time and position only. A person is counted who shows clearly, to the aligner and to the detector.

The clustering is a tree that is cut at three heights: for the people table where the two kinds of error are
balanced, for `people_high` where only certain links remain, for `people_low` where all plausible ones are
made.

In images of a folder, time and position mean nothing: only embeddings decide.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analyzer.analysis.best_crops import EMBEDDED_PX, FULL_PX
from analyzer.analysis.tracking import LOST_AFTER_S, lost_after_s
from analyzer.faces import buffered_iou
from analyzer.settings import MIN_ON_SCREEN_S
from analyzer.util.text import counted
from analyzer.vision.calibration import logit

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "COMPARABLE",
    "HEIGHTS",
    "IMAGE_HEIGHTS",
    "Linked",
    "link_tracklets",
    "one_face_each",
]

CERTAIN, LIKELY, PLAUSIBLE = HEIGHTS = 0.36, 0.43, 0.6
"""Heights, in units of the embedding's distance, at which the tree is cut (docs/design.md)."""

CROP_NOISE = 0.05
"""By how much each of two crops adds to the squared distance between the people on them. The mean of N crops
adds an Nth of it; what is expected is subtracted, so that tracklets of any length have the same heights."""

UNCLEAR, _UNCLEAR_QUALITY = 0.04, 0.5
"""Of two crops that do not show clearly, much is alike whoever they show. So each of two tracklets that never
reach the second, a quality, adds the first to their squared distance, and ever less up to `CLEAR_QUALITY`."""

ELSEWHERE = 0.06
"""Added to the squared distance of two tracklets of one shot that are not at one place: people who walk by
one camera are equally small, dark and blurred, and so alike. Not where one is the `PICTURE` of the other."""

RIVAL = 0.93
"""From `CERTAIN` on, two groups of tracklets are likely one person only if they are nearer than this share of
the distance to the nearest person seen together with one of them (as in Lowe's ratio test): masks, drawings
on faces and the like make all people of a video alike. People nearer than `CERTAIN` do not count there: they
may be twins, or the same face on a screen."""

IMAGE_HEIGHTS = 0.38, 0.48, PLAUSIBLE
"""As `HEIGHTS`, for images of a folder, where the distances of single faces are taken as they are."""

CHILD_DISTANCE, CHILD_YEARS = 0.08, (3.0, 10.0)
"""In images of a folder, the squared distance between two faces grows by the first for each that looks like
the first age or younger, and by ever less up to the second. Embeddings hardly tell small children apart: of
pairs of different labeled children, 45 % of those estimated below 2 years are nearer than the middle one of
`IMAGE_HEIGHTS`, 8 % of those from 4 to 6, and 0.1 % of adults."""

COMPARABLE = 0.3
"""Embeddings of tracklets that never reach this quality are not compared."""

CONTRADICTION, CLEAR_QUALITY = 0.55, 0.7
"""Tracklets that meet in time and position are two people if their embeddings are farther apart, unless no
other face is near and one of the two never reaches the second, a quality: half covered and turned faces are
far from clear crops of the same person."""

UNCLEAR_CONTRADICTION = 0.75
"""As `CONTRADICTION`, where it is excepted."""

LINK_MARGIN, LINK_IOU = 0.3, 0.1
"""Time and position: boxes widened by the first, a share of their size, overlap by at least the second."""

ALONE_S, ALONE_MARGIN = 0.65, 1.0
"""Where no other tracklet is near that could be meant, one continues another so far away (as `LINK_MARGIN`),
if no more than so many seconds lie between them: in the frames of a moving camera a face jumps."""

SLIP = 0.5
"""Share of the samples of the shorter of two clusters in which both may be present, if they certainly are one
person: where people cross, a tracklet may contain some faces of another person."""

NESTED = 0.35
"""Two faces in one sample of which one covers this share of the other may be one face that was detected
twice."""

PICTURE = 3.0
"""Two faces in one sample of which one is this many times as wide as the other may be one person: somebody on
a stage, and on the screen behind."""

PERSON_S = MIN_ON_SCREEN_S
"""A person is seen for this long in total (in very short videos, for half of the video)."""

PERSON_QUALITY, CLEAR_SHARE = 0.55, 0.75
"""A person reaches this quality for this share of that time."""

IMAGE_QUALITY = 0.14
"""As `PERSON_QUALITY`, in images of a folder, where one face is enough."""

SCORE_WEIGHT, SURE_SCORE = 0.19, 0.83
"""Who is counted depends on the quality plus the first times the log odds of the detection score, which add
nothing at the second: the aligner looks at an enlarged crop, the detector at the whole frame, as a viewer
does. The weight is the ratio of both in a logistic regression on detections labeled as faces or not
(docs/design.md)."""

PLAIN_QUALITY, PLAIN_PX = 0.6, 64
"""A low score takes nothing away from this quality and width on: the aligner's crop shows no more than the
frame does, and of labeled detections so clear none was no face, whatever the score."""

_SCORES = 0.05, 0.95
"""Scores beyond these count as these: not all detectors' scores have the same ends."""

IMAGE_FIRM_QUALITY, IMAGE_FAINT_QUALITY = PERSON_QUALITY, 0.1
"""As `FIRM_QUALITY` and `FAINT_QUALITY`, in images of a folder."""

FIRM_TIMES, FIRM_QUALITY = 2.0, 0.8
"""`people_low` counts whoever is seen for this multiple of the time, and this clearly."""

FAINT_TIMES, FAINT_QUALITY = 0.4, 0.2
"""`people_high` counts, with certain links only, whoever is seen for this share of the time, and this
clearly."""

_UNLIKELY = np.nextafter(np.float32(LIKELY**2), np.float32(1), dtype=np.float32)

_BLOCK = 1024

Float = NDArray[np.float32]

Real = NDArray[np.float64]

Int = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Linked:
    """The people of a video."""

    person_ids: Int
    """(faces,) int64: person numbers from 1 in the order of first appearance; -1 for faces that are not
    counted as a person."""
    low: int
    """Number of people if all plausible links are made, and only those who are firmly seen count; people seen
    together who are nearer than `CERTAIN` count as one (not in images)."""
    high: int
    """Number of people if only certain links are made, and those seen less clearly count too."""
    reason: str
    """Why the two differ, in a sentence."""
    uncounted: pd.DataFrame
    """Clusters of faces that are not counted, a row for each: `reason` (`brief`, `faint` or `both`), `faces`,
    `seen_s`, `quality` (corrected by the score, as far as it is reached for long enough) and `width_px` (the
    median)."""
    links: pd.DataFrame
    """The steps of the linking, a row for each: `tracklet_id`, `other_tracklet_id`, `kind` and `distance`, up
    to `PLAUSIBLE`."""


@dataclass(frozen=True, eq=False)
class _Nodes:
    """N groups of tracklets, to be clustered."""

    mean: Float
    """(N, D) float32: mean embedding."""
    square: Float
    """(N,) float32: mean squared length of the embeddings."""
    weight: Float
    """(N,) float32."""
    meets: sparse.csr_array
    """(N, N) int32: in how many samples two nodes are both present, and so are two people."""
    samples: Int
    """(N,) number of samples in which each is present."""
    shots: sparse.csr_array
    """(N, shots) float32: the share of its weight that each has in each shot."""
    places: sparse.csr_array
    """(N, places) float32: likewise, at each place of a shot (`_places`)."""
    width: Float
    """(N,) mean width of the faces in pixels."""
    rival: Float
    """(N,) squared distance of the nearest node that is another person (`RIVAL`), infinite for none."""

    def merged(self, into: Int) -> _Nodes:
        """Merge nodes with the same number in `into`, (N,)."""
        from scipy import sparse

        count = int(into.max()) + 1
        ones = np.ones(len(into), np.float32)
        gather = sparse.csr_array((ones, (into, np.arange(len(into)))), shape=(count, len(into)))
        weight = gather @ self.weight
        mean = (gather @ (self.mean * self.weight[:, None])) / weight[:, None]
        square = (gather @ (self.square * self.weight)) / weight
        meets = sparse.csr_array((gather @ self.meets @ gather.T).astype(np.int32))
        samples = np.bincount(into, weights=self.samples).astype(np.int64)
        rival = np.full(count, np.inf, np.float32)
        np.minimum.at(rival, into, self.rival)
        shares = _shares_of_sum(into, self.weight)
        return _Nodes(
            mean.astype(np.float32),
            square.astype(np.float32),
            weight,
            meets,
            samples,
            sparse.csr_array(shares @ self.shots),
            sparse.csr_array(shares @ self.places),
            (shares @ self.width).astype(np.float32),
            rival,
        )


@dataclass(frozen=True)
class _Rule:
    """What counts as a person: seen for `least_s`, and for a share of that with at least this `quality`."""

    least_s: float
    quality: float

    def long(self, seen: _Seen) -> NDArray[np.bool_]:
        """Return (C,) whether each cluster was seen for long enough."""
        return np.asarray(seen.seconds >= self.least_s)

    def clear(self, seen: _Seen) -> NDArray[np.bool_]:
        """Return (C,) whether each cluster was seen clearly enough."""
        return np.asarray(seen.quality >= self.quality)

    def counts(self, seen: _Seen) -> NDArray[np.bool_]:
        """Return (C,) whether each cluster is a person."""
        return self.long(seen) & self.clear(seen)


def link_tracklets(
    faces: pd.DataFrame,
    samples: pd.DataFrame,
    embeddings: pd.DataFrame,
    *,
    min_on_screen_s: float = PERSON_S,
    min_quality: float | None = None,
) -> Linked:
    """Assign faces to people.

    A person is seen for `PERSON_S` seconds in total, and for a share of that with `PERSON_QUALITY`, corrected
    by the score (`SCORE_WEIGHT`); other faces are not counted. In images of a folder, one face with
    `IMAGE_QUALITY` is enough, and only embeddings decide. Where no face was aligned, the detection score
    takes the place of the quality.

    Args:
        faces: Rows of the faces table in the order of time; `person_id` is not read.
        samples: Rows of the samples table, with `shot`.
        embeddings: Of the tracklets that have one: `tracklet_id`, `embedding` (a vector each), `crop_px` and
            `crops`.
        min_on_screen_s: In place of `PERSON_S`.
        min_quality: In place of `PERSON_QUALITY` and `IMAGE_QUALITY`.
    """
    if faces.empty:
        return Linked(np.empty(0, np.int64), 0, 0, "no one was seen", _no_clusters(), _link_table([], [], []))
    tracklets = _Tracklets.of(faces, samples)
    images = not samples["image"].eq("").all()
    appearance = _appearance(embeddings, tracklets, 0.0 if images else CROP_NOISE)
    chains, meetings = np.arange(len(tracklets.ids)), list[_Meeting]()
    least_s = min(min_on_screen_s, samples["duration_s"].sum() / 2) - 1e-6
    if images:
        appearance = dataclasses.replace(appearance, noise=-_childhood(faces, tracklets))
        heights, quality = IMAGE_HEIGHTS, IMAGE_QUALITY
    else:
        heights, quality = HEIGHTS, PERSON_QUALITY
        times = samples["time_s"].to_numpy()
        interval_s = float(np.median(np.diff(times))) if len(times) > 1 else LOST_AFTER_S
        chains, meetings = _continued(tracklets, appearance, lost_after_s(interval_s))
    rule = _Rule(least_s, quality if min_quality is None else min_quality)
    faint = _Rule(FAINT_TIMES * least_s, min(FAINT_QUALITY, rule.quality))
    firm = _Rule(FIRM_TIMES * least_s, max(FIRM_QUALITY, rule.quality))
    if images:
        # One image shows a face for as long as it ever will.
        faint = _Rule(least_s, min(IMAGE_FAINT_QUALITY, rule.quality))
        firm = _Rule(least_s, max(IMAGE_FIRM_QUALITY, rule.quality))
    merges, reached = _tree(tracklets, chains, appearance, images=images)
    certain, likely, plausible = (_cut(chains, merges[reached <= height**2]) for height in heights)
    people = _people(likely, tracklets, rule)
    person_ids = _numbered(_one_each(people[tracklets.number], tracklets))
    clusters = (
        _people(certain, tracklets, faint),
        _people(certain, tracklets, rule),
        people,
        _people(plausible, tracklets, rule),
        _people(plausible, tracklets, firm),
    )
    # Two faces in one image are never one person.
    surest = clusters[-1] if images else _seen_twice(clusters[-1], appearance)
    return Linked(
        person_ids,
        *_range(clusters, surest, tracklets, appearance),
        _uncounted(likely, tracklets, rule),
        _links(tracklets, meetings, merges, reached, appearance),
    )


def one_face_each(faces: pd.DataFrame, samples: pd.DataFrame, owners: Int) -> Int:
    """Return the person of each face, -1 for the second faces of a person in a sample.

    As after linking, the face stays that belongs to a tracklet that can be compared, or to the longest.

    Args:
        faces: Rows of the faces table in the order of time.
        samples: Rows of the samples table.
        owners: (faces,) the person whose tracklet each face belongs to, -1 for none.
    """
    return _one_each(owners, _Tracklets.of(faces, samples)) if len(faces) else owners


@dataclass(frozen=True, eq=False)
class _Tracklets:
    """T tracklets in the order of their first face, and their ends."""

    ids: Int
    """(T,) `tracklet_id`."""
    number: Int
    """(faces,) the tracklet of each face, 0 to T - 1."""
    sample: Int
    """(faces,) the sample of each face."""
    lengths: Int
    """(T,) number of samples."""
    duration_s: Real
    """(faces,) duration of the sample of each face."""
    quality: Float
    """(faces,) of the nearest aligned face of the tracklet in time, 0 if there is none or the face is too
    narrow for alignment; the detection score if no face was aligned at all."""
    clearness: Float
    """(faces,) `quality` corrected by the detection score (`SCORE_WEIGHT`), 0 to 1."""
    best_quality: Float
    """(T,) the highest `quality`."""
    box: Float
    """(faces, 4) pixels."""
    first_s: Real
    """(T,)"""
    last_s: Real
    """(T,)"""
    until_s: Real
    """(T,) end of the last sample, however long that is displayed."""
    shot: Int
    """(T,)"""
    first_box: Float
    """(T, 4) pixels."""
    last_box: Float
    """(T, 4) pixels."""
    speed: Float
    """(T, 4) pixels per second at the end."""

    @classmethod
    def of(cls, faces: pd.DataFrame, samples: pd.DataFrame) -> _Tracklets:
        ids, first, number = np.unique(faces["tracklet_id"], return_index=True, return_inverse=True)
        place = np.empty(len(ids), np.int64)
        order = np.argsort(first, kind="stable")
        place[order] = np.arange(len(ids))
        number = place[number]
        rows = np.argsort(number, kind="stable")  # grouped by tracklet, each in the order of time
        starts = np.searchsorted(number[rows], np.arange(len(ids)))
        ends = np.append(starts[1:], len(rows)) - 1
        head, tail, before = rows[starts], rows[ends], rows[np.maximum(ends - 1, starts)]
        boxes = faces[["x1", "y1", "x2", "y2"]].to_numpy(np.float32)
        times = faces["time_s"].to_numpy(np.float64)
        of_sample = samples.set_index("sample")
        last_sample = faces["sample"].to_numpy()[tail]
        until_s = (of_sample["time_s"] + of_sample["duration_s"]).loc[last_sample].to_numpy()
        elapsed = np.where(tail == before, np.inf, times[tail] - times[before])
        quality = _quality(faces, number, rows)
        return cls(
            ids=ids[order],
            number=number,
            sample=faces["sample"].to_numpy(np.int64),
            lengths=ends - starts + 1,
            duration_s=of_sample["duration_s"].loc[faces["sample"]].to_numpy(np.float64),
            quality=quality,
            clearness=_clearness(quality, faces),
            best_quality=np.maximum.reduceat(quality[rows], starts),
            box=boxes,
            first_s=times[head],
            last_s=times[tail],
            until_s=until_s,
            shot=of_sample["shot"].loc[last_sample].to_numpy(np.int64),
            first_box=boxes[head],
            last_box=boxes[tail],
            speed=((boxes[tail] - boxes[before]) / elapsed[:, None]).astype(np.float32),
        )


def _quality(faces: pd.DataFrame, number: Int, rows: Int) -> Float:
    """Return `_Tracklets.quality`.

    Args:
        faces: The faces table.
        number: (faces,) the tracklet of each.
        rows: (faces,) their order by tracklet and time.
    """
    quality = faces["quality"].to_numpy(np.float32)
    known = rows[np.isfinite(quality[rows])]
    if not len(known):
        return faces["score"].to_numpy(np.float32)
    times = faces["time_s"].to_numpy(np.float64)
    # All tracklets on one axis, too far apart to be taken for each other.
    at = number * (3 * np.ptp(times) + 1) + times
    after = np.searchsorted(at[known], at).clip(max=len(known) - 1)
    before = (after - 1).clip(min=0)
    nearest = known[np.where(np.abs(at[known[before]] - at) <= np.abs(at[known[after]] - at), before, after)]
    wide = (faces["x2"] - faces["x1"]).to_numpy() >= EMBEDDED_PX  # narrower ones are not aligned
    like = (number[nearest] == number) & (wide | np.isfinite(quality))
    return np.where(like, quality[nearest], 0).astype(np.float32)


def _clearness(quality: Float, faces: pd.DataFrame) -> Float:
    """Return `_Tracklets.clearness`.

    Args:
        quality: `_Tracklets.quality`.
        faces: The faces table.
    """
    if not faces["quality"].notna().any():
        return quality  # it is the score already
    scores: Real = faces["score"].to_numpy(np.float64).clip(*_SCORES)
    correction = SCORE_WEIGHT * (logit(scores) - logit(np.array(SURE_SCORE)))
    plain = (quality >= PLAIN_QUALITY) & ((faces["x2"] - faces["x1"]).to_numpy() >= PLAIN_PX)
    corrected = quality + np.where(plain, correction.clip(min=0), correction)
    return np.where(quality > 0, corrected.clip(0, 1), 0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class _Appearance:
    """Embeddings of T tracklets."""

    known: NDArray[np.bool_]
    """(T,) whether it can be compared."""
    vector: Float
    """(T, D) float32, 0 if it is unknown."""
    weight: Float
    """(T,) how well it is known."""
    noise: Float
    """(T,) squared distance by which it is expected to be too large; below 0 where it is too small."""

    def contradicts(self, one: int, other: int) -> bool:
        """Return whether both are known and farther apart than `CONTRADICTION`."""
        apart = float(np.linalg.norm(self.vector[one] - self.vector[other]))
        return bool(self.known[one] and self.known[other]) and apart > CONTRADICTION


def _appearance(table: pd.DataFrame, tracklets: _Tracklets, crop_noise: float) -> _Appearance:
    """Return what is known of the tracklets; `crop_noise` as `CROP_NOISE`."""
    ids = tracklets.ids
    known = np.zeros(len(ids), bool)
    weight, noise = np.zeros((2, len(ids)), np.float32)
    place = pd.Series(np.arange(len(ids)), index=ids).loc[table["tracklet_id"]].to_numpy()
    quality = tracklets.best_quality[place]
    comparable = quality >= COMPARABLE
    table, place, quality = table[comparable], place[comparable], quality[comparable]
    if table.empty:
        return _Appearance(known, np.zeros((len(ids), 1), np.float32), weight, noise)
    embeddings = np.stack(list(table["embedding"])).astype(np.float32)
    vector = np.zeros((len(ids), embeddings.shape[1]), np.float32)
    known[place] = True
    vector[place] = embeddings
    width = np.minimum(table["crop_px"].to_numpy(np.float32), FULL_PX)
    crops = table["crops"].to_numpy(np.float32)
    weight[place] = crops * width * quality**2
    unclear = UNCLEAR * np.interp(quality, (_UNCLEAR_QUALITY, CLEAR_QUALITY), (1.0, 0.0))
    noise[place] = crop_noise / crops - unclear
    return _Appearance(known, vector, weight, noise)


def _childhood(faces: pd.DataFrame, tracklets: _Tracklets) -> Float:
    """Return (T,) what `CHILD_DISTANCE` adds for each tracklet; 0 where no age was estimated."""
    age = faces["age_years"].to_numpy(np.float64)
    young = CHILD_DISTANCE * np.interp(age, CHILD_YEARS, (1.0, 0.0))
    counts = np.bincount(tracklets.number, minlength=len(tracklets.ids))
    sums = np.bincount(tracklets.number, np.nan_to_num(young), len(tracklets.ids))
    return (sums / counts).astype(np.float32)


def _continued(tracklets: _Tracklets, appearance: _Appearance, reach_s: float) -> tuple[Int, list[_Meeting]]:
    """Return the (T,) chain of each tracklet, and the links between them.

    Tracklets that continue each other in time and position share a chain.

    Each tracklet is continued at most once, the nearest in time first: where it was heading, and then, of
    those that are left, where no other is near, unless the embeddings of the chains contradict each other.
    """
    pairs, chains = sorted(_meetings(tracklets, appearance, reach_s)), _Chains(tracklets, appearance)
    for pair in pairs:
        if pair.overlap >= LINK_IOU:
            chains.join(pair, CONTRADICTION)
    # Neighbors of which nothing is known are mostly no faces, or further boxes of the same one.
    left, known = [pair for pair in pairs if chains.are_open(pair)], appearance.known
    count = len(known)
    earlier_ones = np.bincount([pair.later for pair in left if known[pair.earlier]], minlength=count)
    later_ones = np.bincount([pair.earlier for pair in left if known[pair.later]], minlength=count)
    for pair in left:
        alike = known[pair.earlier] == known[pair.later] and pair.gap_s <= ALONE_S
        if alike and earlier_ones[pair.later] <= 1 and later_ones[pair.earlier] <= 1:
            chains.join(pair, UNCLEAR_CONTRADICTION)
    return chains.of, chains.links


class _Meeting(NamedTuple):
    """Two tracklets that meet in time and position. They are sorted by what makes a link likelier."""

    doubtful: bool
    """One of them cannot be compared: it may be no face, and must not displace one."""
    waited_s: float
    """From the end of the earlier one's last sample."""
    apart: float
    """1 - `overlap`."""
    later: int
    earlier: int
    gap_s: float
    """From the earlier one's last sample to the later one's first."""

    @property
    def overlap(self) -> float:
        """IoU with `LINK_MARGIN`."""
        return 1 - self.apart


class _Chains:
    """Chains of tracklets that continue each other, while they are made.

    `of` (T,) is the chain of each tracklet, `links` what was joined.
    """

    def __init__(self, tracklets: _Tracklets, appearance: _Appearance) -> None:
        self.of: Int = np.arange(len(tracklets.ids))
        self.links: list[_Meeting] = []
        self._total = appearance.vector * appearance.weight[:, None]
        self._weight = appearance.weight.copy()
        self._best = np.where(appearance.known, tracklets.best_quality, 0)
        self._continuing: set[int] = set()
        self._continued: set[int] = set()

    def are_open(self, pair: _Meeting) -> bool:
        """Return whether neither end is joined to another yet."""
        return pair.later not in self._continuing and pair.earlier not in self._continued

    def join(self, pair: _Meeting, unclear_contradiction: float) -> None:
        """Join both chains of a pair, unless it is not open, or their embeddings contradict each other.

        Args:
            pair: The two tracklets.
            unclear_contradiction: In place of `CONTRADICTION` if one chain never reaches `CLEAR_QUALITY`.
        """
        if not self.are_open(pair):
            return
        one, other = sorted((self.of[pair.earlier], self.of[pair.later]))
        total, weight, best = self._total, self._weight, self._best
        if weight[one] and weight[other]:
            apart = np.linalg.norm(total[one] / weight[one] - total[other] / weight[other])
            unclear = min(best[one], best[other]) < CLEAR_QUALITY
            if apart > (unclear_contradiction if unclear else CONTRADICTION):
                return
        self._continuing.add(pair.later)
        self._continued.add(pair.earlier)
        self.links.append(pair)
        total[one] += total[other]
        weight[one] += weight[other]
        best[one] = max(best[one], best[other])
        self.of[self.of == other] = one


def _meetings(tracklets: _Tracklets, appearance: _Appearance, reach_s: float) -> list[_Meeting]:
    """Return all pairs within `ALONE_MARGIN` and `reach_s`.

    A single face has no motion of its own: it moves on as it came from the tracklet before it.
    """
    by_end = np.argsort(tracklets.until_s, kind="stable")
    ends, known, speed = tracklets.until_s[by_end], appearance.known, tracklets.speed.copy()
    pairs = []
    for number, start in enumerate(tracklets.first_s):
        # Only tracklets that end by the start; times have rounding errors.
        low, high = np.searchsorted(ends, [start - reach_s, start + 1e-9])
        before = by_end[low:high]
        before = before[tracklets.shot[before] == tracklets.shot[number]]
        if not len(before):
            continue
        gap = start - tracklets.last_s[before]
        # After a frame that was displayed for long, the motion of a face is unknown.
        moved = np.where(gap <= reach_s, gap, 0)[:, None] * speed[before]
        here = tracklets.first_box[number : number + 1]
        there = tracklets.last_box[before]
        overlap = buffered_iou(there + moved, here, LINK_MARGIN)[:, 0]
        # A face that turns round, or is lost in a blur, does not go where it was heading.
        near = np.maximum(
            *(buffered_iou(boxes, here, ALONE_MARGIN)[:, 0] for boxes in (there, there + moved))
        )
        if tracklets.lengths[number] == 1:
            origin = _origin(overlap, near * (known[before] & (gap <= ALONE_S)))
            if origin is not None and not appearance.contradicts(int(before[origin]), number):
                speed[number] = (here[0] - there[origin]) / gap[origin]
        pairs += [
            _Meeting(
                not (known[number] and known[earlier]),
                float(start - tracklets.until_s[earlier]),
                1 - float(one),
                number,
                int(earlier),
                float(past),
            )
            for earlier, one, close, past in zip(before, overlap, near, gap, strict=True)
            if max(one, close) >= LINK_IOU
        ]
    return pairs


def _origin(overlap: Float, near: Float) -> int | None:
    """Return which of N earlier tracklets a face continues: one that was heading there, or the only one near.

    Args:
        overlap: (N,) IoU with where each was heading.
        near: (N,) likewise, with `ALONE_MARGIN`; 0 for those that cannot be meant.
    """
    if overlap.max() >= LINK_IOU:
        return int(overlap.argmax())
    close = np.flatnonzero(near >= LINK_IOU)
    return int(close[0]) if len(close) == 1 else None


def _tree(tracklets: _Tracklets, chains: Int, appearance: _Appearance, *, images: bool) -> tuple[Int, Real]:
    """Cluster chains of tracklets by their embeddings, up to `PLAUSIBLE`.

    Average linkage: the distance of two clusters is the mean of the squared distances between their
    members, with `ELSEWHERE`; infinite if two members are present in one sample. In each round all pairs of
    mutual nearest neighbors merge, which gives the same tree as one merge at a time (Murtagh 1983), because
    average linkage is reducible.

    Args:
        tracklets: All.
        chains: (T,) the chain of each.
        appearance: Their embeddings.
        images: Two faces in one image are never one person, without exception.

    Returns:
        (M, 2) int64: pairs of chains that were merged (one of each cluster), and (M,) the squared heights.
    """
    known = np.unique(chains[appearance.known])
    if len(known) < 2:
        return np.empty((0, 2), np.int64), np.empty(0)
    place = np.full(len(chains), -1)
    place[known] = np.arange(len(known))
    nodes, slip = _nodes(tracklets, chains, appearance, place, images=images), 0.0 if images else SLIP
    members = known  # one chain of each node
    merges: list[Int] = []
    heights: list[Real] = []
    nearest, apart = np.zeros(len(known), np.int64), np.zeros(len(known), np.float32)
    stale, reached = np.ones(len(known), bool), np.zeros(len(known), np.float32)
    while len(members) > 1:
        # A merged node is never nearer than its nearer part was: nearest neighbors elsewhere stay valid.
        _find_nearest(nodes, np.flatnonzero(stale), nearest, apart, slip)
        rows = np.arange(len(members))
        mutual = (nearest[nearest] == rows) & (rows < nearest) & (apart <= PLAUSIBLE**2)
        if not mutual.any():
            closest = int(np.argmin(apart))
            if apart[closest] > PLAUSIBLE**2:
                break
            mutual[closest] = True  # distances that differ by rounding only
        first, second = rows[mutual], nearest[mutual]
        merges.append(np.stack([members[first], members[second]], axis=1))
        # A slip that becomes acceptable by a merge must not be separated from it by a cut.
        reached[first] = np.maximum.reduce([apart[first], reached[first], reached[second]])
        heights.append(reached[first].astype(np.float64))
        into, merged = rows.copy(), np.zeros(len(rows), bool)
        into[second] = first
        merged[first] = merged[second] = True
        kept, into = np.unique(into, return_inverse=True)
        nodes, members = nodes.merged(into), members[kept]
        stale = (merged | (merged[nearest] & (apart <= PLAUSIBLE**2)))[kept]
        nearest, apart, reached = into[nearest[kept]], apart[kept], reached[kept]
    if not merges:
        return np.empty((0, 2), np.int64), np.empty(0)
    return np.concatenate(merges), np.concatenate(heights)


def _links(
    tracklets: _Tracklets, meetings: list[_Meeting], merges: Int, reached: Real, appearance: _Appearance
) -> pd.DataFrame:
    """Return `Linked.links`.

    Args:
        tracklets: All.
        meetings: Links by time and position.
        merges: (M, 2) links by appearance, of chains.
        reached: (M,) their squared heights.
        appearance: Embeddings of the tracklets.
    """
    ends = np.array([(one.earlier, one.later) for one in meetings], np.int64).reshape(-1, 2)
    apart = np.linalg.norm(appearance.vector[ends[:, 0]] - appearance.vector[ends[:, 1]], axis=1)
    apart = np.where(appearance.known[ends].all(axis=1), apart, np.nan)
    # What few crops are expected to add is subtracted from a height, which may so be below 0.
    heights = np.sqrt(np.maximum(reached, 0))
    pairs = tracklets.ids[np.concatenate([ends, merges])]
    kinds = ["position"] * len(ends) + ["appearance"] * len(merges)
    return _link_table(pairs, kinds, np.concatenate([apart, heights]))


def _link_table(pairs: ArrayLike, kinds: list[str], distances: ArrayLike) -> pd.DataFrame:
    ends = np.asarray(pairs, np.int64).reshape(-1, 2)
    return pd.DataFrame(
        {
            "tracklet_id": ends[:, 0],
            "other_tracklet_id": ends[:, 1],
            "kind": pd.Series(kinds, dtype=str),
            "distance": np.asarray(distances, np.float32),
        }
    )


def _nodes(
    tracklets: _Tracklets, chains: Int, appearance: _Appearance, place: Int, *, images: bool
) -> _Nodes:
    """Return the chains with embeddings as nodes: node `place[c]` is chain `c`."""
    from scipy import sparse  # late: takes long to import, and is not needed without embeddings

    # Tracklets that cannot be compared may be no faces: their positions say nothing about people.
    rows = np.where(appearance.known, place[chains], -1)[tracklets.number]  # of each face
    compared = rows >= 0
    count = int(place.max()) + 1
    seen = sparse.csr_array(
        (np.ones(int(compared.sum()), np.float32), (rows[compared], tracklets.sample[compared])),
        shape=(count, int(tracklets.sample.max()) + 1),
    )
    seen.sum_duplicates()
    seen.data[:] = 1
    meets = sparse.csr_array((seen @ seen.T).astype(np.int32))
    samples = meets.diagonal().astype(np.int64)
    if not images:
        meets = _apart(meets, tracklets, rows)
    known = np.flatnonzero(appearance.known)
    single = _Nodes(
        appearance.vector[known],
        (appearance.vector[known] ** 2).sum(axis=1) - appearance.noise[known],
        appearance.weight[known],
        sparse.csr_array((len(known), len(known)), dtype=np.int32),
        np.zeros(len(known), np.int64),
        _shares(tracklets.shot[known, None]),
        _places(tracklets, known),
        _widths(tracklets)[known],
        np.full(len(known), np.inf, np.float32),
    )
    grouped = dataclasses.replace(single.merged(place[chains[known]]), meets=meets, samples=samples)
    return grouped if images else dataclasses.replace(grouped, rival=_rivals(grouped))


def _rivals(nodes: _Nodes) -> Float:
    """Return `_Nodes.rival`."""
    both = nodes.meets.tocoo()
    shorter = np.minimum(nodes.samples[both.row], nodes.samples[both.col])
    others = (both.row != both.col) & (both.data > SLIP * shorter)
    one, other = both.row[others], both.col[others]
    squared = np.empty(len(one), np.float32)
    for start in range(0, len(one), _BLOCK):
        some = slice(start, start + _BLOCK)
        squared[some] = np.einsum("nd,nd->n", nodes.mean[one[some]], nodes.mean[other[some]])
    squared = nodes.square[one] + nodes.square[other] - 2 * squared
    rival = np.full(len(nodes.weight), np.inf, np.float32)
    np.minimum.at(rival, one, np.where(squared > CERTAIN**2, squared, np.inf))
    return rival


def _widths(tracklets: _Tracklets) -> Float:
    """Return (T,) mean widths in pixels."""
    sums = np.bincount(tracklets.number, tracklets.box[:, 2] - tracklets.box[:, 0])
    return (sums / tracklets.lengths).astype(np.float32)


def _shares(of: Int) -> sparse.csr_array:
    """Return (N, C) float32: how much of each row of (N, K) numbers from 0 to C - 1 each number is."""
    from scipy import sparse

    rows, each = np.repeat(np.arange(len(of)), of.shape[1]), np.float32(1 / of.shape[1])
    return sparse.csr_array((np.full(of.size, each), (rows, of.ravel())), shape=(len(of), int(of.max()) + 1))


def _places(tracklets: _Tracklets, some: Int) -> sparse.csr_array:
    """Return (S, places) float32: where each of `some` (S,) tracklets begins and ends, one half each.

    A place is a box of one shot, the first of those that overlap it with `ALONE_MARGIN` around them.
    """
    at = np.zeros((len(some), 2), np.int64)
    of_shot: dict[int, tuple[list[Float], list[int]]] = {}
    count = 0
    for row, number in enumerate(some):
        boxes, places = of_shot.setdefault(int(tracklets.shot[number]), ([], []))
        for end, box in enumerate((tracklets.first_box[number], tracklets.last_box[number])):
            overlap = buffered_iou(box[None], np.array(boxes), ALONE_MARGIN)[0] if boxes else np.zeros(1)
            best = int(overlap.argmax())
            if overlap[best] >= LINK_IOU:
                at[row, end] = places[best]
                continue
            at[row, end] = count
            boxes.append(box)
            places.append(count)
            count += 1
    return _shares(at)


def _apart(meets: sparse.csr_array, tracklets: _Tracklets, rows: Int) -> sparse.csr_array:
    """Return in how many samples two nodes meet as two people.

    Not so where one face lies in the other (`NESTED`), or is the `PICTURE` of the other.

    Args:
        meets: (N, N) in how many they meet.
        tracklets: All.
        rows: (faces,) the node of each face, negative for none.
    """
    from scipy import sparse

    order = np.flatnonzero(rows >= 0)
    order = order[np.argsort(tracklets.sample[order], kind="stable")]
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for step in range(1, len(order)):  # pairs of faces of one sample, `step` places from each other
        one, other = order[:-step], order[step:]
        same = tracklets.sample[one] == tracklets.sample[other]
        if not same.any():
            break
        one, other = one[same], other[same]
        a, b = tracklets.box[one], tracklets.box[other]
        common = np.prod(
            np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None), axis=1
        )
        smaller = np.minimum(np.prod(a[:, 2:] - a[:, :2], axis=1), np.prod(b[:, 2:] - b[:, :2], axis=1))
        wider = np.maximum(a[:, 2] - a[:, 0], b[:, 2] - b[:, 0])
        narrower = np.minimum(a[:, 2] - a[:, 0], b[:, 2] - b[:, 0])
        may_be_one = (common >= NESTED * smaller) | (wider >= PICTURE * narrower)
        may_be_one &= rows[one] != rows[other]
        first.append(rows[one[may_be_one]])
        second.append(rows[other[may_be_one]])
    pairs = np.concatenate(first + second), np.concatenate(second + first)
    excepted = sparse.csr_array((np.ones(len(pairs[0]), np.int32), pairs), shape=meets.shape)
    return sparse.csr_array((meets - excepted.minimum(meets)).astype(np.int32))


def _find_nearest(nodes: _Nodes, wanted: Int, nearest: Int, apart: Float, slip: float) -> None:
    """Fill in the nearest node that each of the `wanted` nodes may merge with, and the squared distance.

    The distance includes `ELSEWHERE`, is beyond `LIKELY` where a `RIVAL` is as near, and infinite if there is
    no such node.
    """
    surely = np.maximum(RIVAL**2 * nodes.rival, CERTAIN**2)  # up to here, no rival makes a link doubtful
    for start in range(0, len(wanted), _BLOCK):
        rows = wanted[start : start + _BLOCK]
        squared = nodes.square[rows, None] + nodes.square[None, :] - 2 * (nodes.mean[rows] @ nodes.mean.T)
        both = nodes.meets[rows].tocoo()
        shorter = np.minimum(nodes.samples[rows][both.row], nodes.samples[both.col])
        barred = (both.data > slip * shorter) | (squared[both.row, both.col] > CERTAIN**2)
        elsewhere = (nodes.shots[rows] @ nodes.shots.T - nodes.places[rows] @ nodes.places.T).toarray()
        wider = nodes.width[rows, None] / nodes.width[None, :]
        doubtful = squared > np.minimum(surely[rows, None], surely[None, :])
        squared += ELSEWHERE * np.where(np.maximum(wider, 1 / wider) < PICTURE, elsewhere, 0)
        np.maximum(squared, _UNLIKELY, out=squared, where=doubtful)
        squared[both.row[barred], both.col[barred]] = np.inf
        here = np.arange(len(rows))
        squared[here, rows] = np.inf
        nearest[rows] = squared.argmin(axis=1)
        apart[rows] = squared[here, nearest[rows]]


def _cut(chains: Int, merges: Int) -> Int:
    """Return (T,) cluster numbers from 0, after the given merges of chains."""
    clusters = np.arange(len(chains))
    for merged in merges:
        low, high = sorted(clusters[merged])
        clusters[clusters == high] = low
    return np.unique(clusters, return_inverse=True)[1][chains].astype(np.int64)


@dataclass(frozen=True)
class _Seen:
    """Totals of C clusters; some may be empty."""

    seconds: Real
    """(C,) total duration."""
    quality: Real
    """(C,) the clearness that is reached for `CLEAR_SHARE` of `least_s`, or of `seconds` if that is less."""
    width: Real
    """(C,) the median width in pixels."""
    faces: Int
    """(C,) how many."""

    @classmethod
    def of(cls, clusters: Int, tracklets: _Tracklets, least_s: float) -> _Seen:
        """Return the totals of (T,) clusters of tracklets, 0 to C - 1.

        Args:
            clusters: The cluster of each tracklet.
            tracklets: All.
            least_s: For how long a person is seen at least.
        """
        of_face = clusters[tracklets.number]
        # The duration of a sample with two faces counts once: that of the clearer one.
        order = np.lexsort((-tracklets.clearness, of_face))
        pairs = of_face * (tracklets.sample.max() + 1) + tracklets.sample
        first = order[np.sort(np.unique(pairs[order], return_index=True)[1])]
        owner, duration_s = of_face[first], tracklets.duration_s[first]
        seconds: Real = np.bincount(owner, weights=duration_s).astype(np.float64)
        # Within each cluster from the clearest face on, how long it was seen so far.
        so_far = np.cumsum(duration_s)
        so_far -= (np.cumsum(seconds) - seconds)[owner]
        enough = np.flatnonzero(so_far >= CLEAR_SHARE * np.minimum(least_s, seconds)[owner] - 1e-9)
        quality = np.zeros(len(seconds))
        reached, at = np.unique(owner[enough], return_index=True)
        quality[reached] = tracklets.clearness[first[enough[at]]]
        width = pd.Series(tracklets.box[:, 2] - tracklets.box[:, 0]).groupby(of_face).median()
        median: Real = np.asarray(width.reindex(range(len(seconds))), np.float64)
        return cls(seconds, quality, median, np.bincount(of_face))


def _people(clusters: Int, tracklets: _Tracklets, rule: _Rule) -> Int:
    """Return (T,) clusters with -1 for those seen too briefly or too faintly to be a person."""
    return np.where(rule.counts(_Seen.of(clusters, tracklets, rule.least_s))[clusters], clusters, -1)


def _uncounted(clusters: Int, tracklets: _Tracklets, rule: _Rule) -> pd.DataFrame:
    """Return `Linked.uncounted` of (T,) clusters."""
    seen = _Seen.of(clusters, tracklets, rule.least_s)
    table = pd.DataFrame(
        {
            "reason": np.select([rule.long(seen), rule.clear(seen)], ["faint", "brief"], "both"),
            "faces": seen.faces,
            "seen_s": seen.seconds,
            "quality": seen.quality,
            "width_px": seen.width,
        }
    )
    return table[~rule.counts(seen) & (seen.faces > 0)].reset_index(drop=True)


def _one_each(clusters: Int, tracklets: _Tracklets) -> Int:
    """Return (faces,) clusters with -1 for second faces of a person in a sample."""
    clearest = tracklets.best_quality >= COMPARABLE
    longest = np.lexsort((-tracklets.lengths[tracklets.number], ~clearest[tracklets.number]))
    pairs = np.stack([tracklets.sample, clusters], axis=1)[longest]
    kept = longest[np.unique(pairs, axis=0, return_index=True)[1]]
    alone = np.full(len(clusters), -1)
    alone[kept] = clusters[kept]
    return alone


def _numbered(clusters: Int) -> Int:
    """Return (faces,) person numbers from 1 in the order of first appearance; -1 stays."""
    kept, first = np.unique(clusters[clusters >= 0], return_index=True)
    numbers = np.full(int(clusters.max(initial=-1)) + 2, -1)  # the last one is for -1
    numbers[kept[np.argsort(first, kind="stable")]] = np.arange(1, len(kept) + 1)
    return numbers[clusters]


def _seen_twice(clusters: Int, appearance: _Appearance) -> Int:
    """Return (T,) clusters, joined where two are nearer than `CERTAIN`.

    They are not linked only because they are seen together: they are two people who look alike, or one who is
    seen twice, in a mirror or on a screen.

    Args:
        clusters: The cluster of each tracklet, -1 for no person.
        appearance: Embeddings of the tracklets.
    """
    from scipy import sparse
    from scipy.sparse import csgraph

    some = np.flatnonzero((clusters >= 0) & appearance.known)
    if len(some) < 2:
        return clusters
    numbers, number = np.unique(clusters[some], return_inverse=True)
    shares = _shares_of_sum(number, appearance.weight[some])
    mean = shares @ appearance.vector[some]
    square = shares @ ((appearance.vector[some] ** 2).sum(axis=1) - appearance.noise[some])
    near = [np.empty((0, 2), np.int64)]
    for start in range(0, len(numbers), _BLOCK):
        rows = slice(start, start + _BLOCK)
        squared = square[rows, None] + square[None, :] - 2 * (mean[rows] @ mean.T)
        near.append(np.argwhere(squared <= CERTAIN**2) + np.array([start, 0]))
    pairs = np.concatenate(near)
    alike = sparse.coo_array((np.ones(len(pairs), bool), pairs.T), shape=(len(numbers), len(numbers)))
    group = csgraph.connected_components(alike, directed=False)[1]
    joined = np.arange(clusters.max() + 1)
    joined[numbers] = numbers[np.unique(group, return_index=True)[1]][group]
    return np.where(clusters >= 0, joined[clusters], -1)


def _shares_of_sum(of: Int, weight: Float) -> sparse.csr_array:
    """Return (C, N) float32: which share each of N weights has in the sum of its group, 0 to C - 1."""
    from scipy import sparse

    shares = (weight / np.bincount(of, weight)[of]).astype(np.float32)
    return sparse.csr_array((shares, (of, np.arange(len(of)))), (int(of.max()) + 1, len(of)))


def _range(
    clusters: tuple[Int, Int, Int, Int, Int], surest: Int, tracklets: _Tracklets, appearance: _Appearance
) -> tuple[int, int, str]:
    """Return the lowest and the highest number of people, and why they differ.

    Args:
        clusters: (T,) of the tracklets, -1 for no person: with certain links and faint faces; at the three
            heights; with plausible links only those who are firmly seen.
        surest: (T,) the last of these, with those who may be seen twice as one.
        tracklets: All.
        appearance: Their embeddings.
    """
    with_faint, most, count, fewest, firm = (len(np.unique(one[one >= 0])) for one in clusters)
    distinct = len(np.unique(surest[surest >= 0]))
    compared = len(np.unique(surest[(surest >= 0) & appearance.known]))
    # Faces too small for an embedding may be anyone who is not present in the same sample.
    present = surest[tracklets.number]
    concurrent = pd.Series(present[present >= 0]).groupby(tracklets.sample[present >= 0]).nunique().max()
    # Whoever is counted shows that there is somebody.
    low = min(count, max(compared, int(concurrent) if firm else 0, 1))
    most = max(count, most)
    high = max(most, with_faint)
    fewest, firm = min(fewest, count), min(max(firm, 1), fewest, count)
    distinct = min(max(distinct, low), firm)
    reasons = {
        ("link is likely, but not certain", "links are likely, but not certain"): most - count,
        (
            "more person may have been seen too briefly or too faintly to be counted",
            "more people may have been seen too briefly or too faintly to be counted",
        ): high - most,
        ("further link is plausible", "further links are plausible"): count - fewest,
        (
            "person was seen only just long or clearly enough",
            "people were seen only just long or clearly enough",
        ): fewest - firm,
        (
            "person looks like another one, and may be seen twice, in a mirror or on a screen",
            "people look like others, and may be seen twice, in a mirror or on a screen",
        ): firm - distinct,
        (
            "person has a face too small to be compared with others",
            "people have faces too small to be compared with others",
        ): distinct - low,
    }
    found = [counted(number, *words) for words, number in reasons.items() if number > 0]
    return low, high, "; ".join(found) or "every link is certain, and no other is plausible"


def _no_clusters() -> pd.DataFrame:
    """Return `Linked.uncounted` without rows."""
    # Not made at import: Arrow, which pandas uses for text, reserves 1 GB of address space at its first use,
    # and a process with limited memory would have too little left to load models.
    reals = {name: pd.Series(dtype=np.float64) for name in ("seen_s", "quality", "width_px")}
    return pd.DataFrame({"reason": pd.Series(dtype=str), "faces": pd.Series(dtype=np.int64)} | reals)
