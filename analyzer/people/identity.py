"""Re-identification: which tracklets are the same person, across segments, losses, shots and re-entries.

There are two kinds of links. If one tracklet ends and another starts in the same shot, shortly after and
where the first was heading, they are one (time and position). Otherwise embeddings decide: those of the
tracklets are clustered by average linkage, bottom up; two faces in one sample are never one person.

The clustering is a tree that is cut at three heights: for the people table where the two kinds of error are
balanced, for `people_high` where only certain links remain, for `people_low` where all plausible ones are
made.

In images of a folder, time and position mean nothing: only embeddings decide.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyzer.analysis.tracking import LOST_AFTER_S, lost_after_s
from analyzer.faces import buffered_iou
from analyzer.settings import MIN_ON_SCREEN_S
from analyzer.util.text import counted

if TYPE_CHECKING:
    from scipy import sparse

__all__ = [
    "Linked",
    "link_tracklets",
]

CERTAIN, LIKELY, PLAUSIBLE = HEIGHTS = 0.38, 0.45, 0.62
"""Heights, in units of the embedding's distance, at which the tree is cut (docs/design.md)."""

IMAGE_LIKELY = 0.50
"""As `LIKELY`, for images of a folder, where single faces are compared, not means of many. It counts 98 of
100 people with two portraits each, and 375 of 387 with one each."""

CONTRADICTION = 0.55
"""Tracklets that meet in time and position are two people if their embeddings are farther apart."""

SLIP = 0.5
"""Share of the samples of the shorter of two clusters in which both may be present, if they certainly are one
person: where people cross, a tracklet may contain some faces of another person."""

LINK_MARGIN, LINK_IOU = 0.3, 0.1
"""Time and position: boxes widened by the first, a share of their size, overlap by at least the second."""

PERSON_SCORE, IMAGE_SCORE = 0.6, 0.5
"""A person reaches this detection score at least once (the second in images of a folder)."""

PERSON_S = MIN_ON_SCREEN_S
"""A person is seen for this long in total (in very short videos, for half of the video)."""

LARGE_PX, LARGE_TIMES = 100.0, 2.0
"""A face of this median width that is seen for this multiple of the time needs `IMAGE_SCORE` only: faces that
fill the frame have lower scores. In 16 real clips and 201 photographs and drawings, nothing but faces is
as large and clear."""

FAINT_SHARE = 0.4
"""With certain links only, a cluster seen for this share of the time, with `IMAGE_SCORE`, may be a person:
`people_high` counts them, and at least everyone who was found but not counted."""

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
    """Number of people if all plausible links are made."""
    high: int
    """Number of people if only certain links are made and every face is counted."""
    reason: str
    """Why the two differ, in a sentence."""
    uncounted: pd.DataFrame
    """Clusters of faces that are not counted, a row for each: `reason` (`brief`, `faint` or `both`), `faces`,
    `seen_s`, `score` (the best) and `width_px` (the median)."""


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
        return _Nodes(mean.astype(np.float32), square.astype(np.float32), weight, meets, samples)


@dataclass(frozen=True)
class _Rule:
    """What counts as a person: seen for `least_s` with `score`, or large and long enough for
    `large_score`."""

    least_s: float
    score: float
    large_score: float

    def long(self, seen: _Seen) -> NDArray[np.bool_]:
        """Return (C,) whether each cluster was seen for long enough."""
        return np.asarray(seen.seconds >= self.least_s)

    def clear(self, seen: _Seen) -> NDArray[np.bool_]:
        """Return (C,) whether each cluster was seen clearly enough."""
        large = (seen.width >= LARGE_PX) & (seen.seconds >= LARGE_TIMES * self.least_s)
        return np.asarray(seen.score >= np.where(large, self.large_score, self.score))

    def counts(self, seen: _Seen) -> NDArray[np.bool_]:
        """Return (C,) whether each cluster is a person."""
        return self.long(seen) & self.clear(seen)


def link_tracklets(
    faces: pd.DataFrame,
    samples: pd.DataFrame,
    embeddings: pd.DataFrame,
    *,
    min_on_screen_s: float = PERSON_S,
    min_score: float | None = None,
) -> Linked:
    """Assign faces to people.

    A person is seen for `PERSON_S` seconds in total, and reaches the score `PERSON_SCORE`, or `IMAGE_SCORE`
    if the face is large and seen for long; other faces are not counted. In images of a folder, one face with
    `IMAGE_SCORE` is enough, and only embeddings decide.

    Args:
        faces: Rows of the faces table in the order of time; `person_id` is not read.
        samples: Rows of the samples table, with `shot`.
        embeddings: Of the tracklets that have one: `tracklet_id`, `embedding` (a vector each), `crop_px` and
            `crops`.
        min_on_screen_s: In place of `PERSON_S`.
        min_score: The detection score that everyone needs; None: as above.
    """
    if faces.empty:
        return Linked(np.empty(0, np.int64), 0, 0, "no one was seen", _no_clusters())
    tracklets = _Tracklets.of(faces, samples)
    appearance = _appearance(embeddings, tracklets.ids)
    chains = np.arange(len(tracklets.ids))
    least_s = min(min_on_screen_s, samples["duration_s"].sum() / 2) - 1e-6
    images = not samples["image"].eq("").all()
    if images:
        heights, score, faintest = (CERTAIN, IMAGE_LIKELY, PLAUSIBLE), IMAGE_SCORE, 0.0
    else:
        heights, score, faintest = HEIGHTS, PERSON_SCORE, IMAGE_SCORE
        times = samples["time_s"].to_numpy()
        interval_s = float(np.median(np.diff(times))) if len(times) > 1 else LOST_AFTER_S
        chains = _continued(tracklets, appearance, lost_after_s(interval_s))
    rule = _Rule(least_s, score, IMAGE_SCORE) if min_score is None else _Rule(least_s, min_score, min_score)
    merges, reached = _tree(tracklets, chains, appearance, 0.0 if images else SLIP)
    certain, likely, plausible = (_cut(chains, merges[reached <= height**2]) for height in heights)
    faint = _people(certain, tracklets, _Rule(FAINT_SHARE * least_s, faintest, faintest))
    uncounted = _uncounted(likely, tracklets, rule)
    certain, likely, plausible = (
        _people(clusters, tracklets, rule) for clusters in (certain, likely, plausible)
    )
    person_ids = _numbered(_one_each(likely[tracklets.number], tracklets))
    clusters = faint, certain, likely, plausible
    return Linked(person_ids, *_range(clusters, len(uncounted), tracklets, appearance), uncounted)


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
    score: Float
    """(T,) the best detection score."""
    width: Float
    """(faces,) pixels."""
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
        return cls(
            ids=ids[order],
            number=number,
            sample=faces["sample"].to_numpy(np.int64),
            lengths=ends - starts + 1,
            duration_s=of_sample["duration_s"].loc[faces["sample"]].to_numpy(np.float64),
            score=np.maximum.reduceat(faces["score"].to_numpy(np.float32)[rows], starts),
            width=boxes[:, 2] - boxes[:, 0],
            first_s=times[head],
            last_s=times[tail],
            until_s=until_s,
            shot=of_sample["shot"].loc[last_sample].to_numpy(np.int64),
            first_box=boxes[head],
            last_box=boxes[tail],
            speed=((boxes[tail] - boxes[before]) / elapsed[:, None]).astype(np.float32),
        )


@dataclass(frozen=True, eq=False)
class _Appearance:
    """Embeddings of T tracklets: `known` (T,) bool, `vector` (T, D) float32 (0 if unknown), `weight` (T,)."""

    known: NDArray[np.bool_]
    vector: Float
    weight: Float


def _appearance(table: pd.DataFrame, ids: Int) -> _Appearance:
    known = np.zeros(len(ids), bool)
    weight = np.zeros(len(ids), np.float32)
    if table.empty:
        return _Appearance(known, np.zeros((len(ids), 1), np.float32), weight)
    place = pd.Series(np.arange(len(ids)), index=ids).loc[table["tracklet_id"]].to_numpy()
    embeddings = np.stack(list(table["embedding"])).astype(np.float32)
    vector = np.zeros((len(ids), embeddings.shape[1]), np.float32)
    known[place] = True
    vector[place] = embeddings
    weight[place] = table["crops"].to_numpy(np.float32) * table["crop_px"].to_numpy(np.float32)
    return _Appearance(known, vector, weight)


def _continued(tracklets: _Tracklets, appearance: _Appearance, reach_s: float) -> Int:
    """Return the (T,) chain of each tracklet; those that continue each other in time and position share one.

    Each tracklet is continued at most once, the nearest in time first, and where it was heading.
    """
    by_end = np.argsort(tracklets.until_s, kind="stable")
    ends = tracklets.until_s[by_end]
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
        moved = np.where(gap <= reach_s, gap, 0)[:, None] * tracklets.speed[before]
        there = buffered_iou(
            tracklets.last_box[before] + moved, tracklets.first_box[number : number + 1], LINK_MARGIN
        )[:, 0]
        apart = ((appearance.vector[before] - appearance.vector[number]) ** 2).sum(axis=1)
        comparable = appearance.known[before] & appearance.known[number]
        fits = (there >= LINK_IOU) & ~(comparable & (apart > CONTRADICTION**2))
        waited = start - tracklets.until_s[before]
        pairs += [(waited[row], -there[row], number, int(before[row])) for row in np.flatnonzero(fits)]
    chains = np.arange(len(tracklets.ids))
    taken: set[int] = set()
    predecessor: dict[int, int] = {}
    for _, _, number, earlier in sorted(pairs):
        if number not in predecessor and earlier not in taken:
            predecessor[number] = earlier
            taken.add(earlier)
    for number in sorted(predecessor):  # the earlier one has the lower number
        chains[number] = chains[predecessor[number]]
    return chains


def _tree(tracklets: _Tracklets, chains: Int, appearance: _Appearance, slip: float) -> tuple[Int, Real]:
    """Cluster chains of tracklets by their embeddings, up to `PLAUSIBLE`.

    Average linkage: the distance of two clusters is the mean of the squared distances between their
    members, infinite if two members are present in one sample. In each round all pairs of mutual nearest
    neighbors merge, which gives the same tree as one merge at a time (Murtagh 1983), because average linkage
    is reducible.

    Args:
        tracklets: All.
        chains: (T,) the chain of each.
        appearance: Their embeddings.
        slip: As `SLIP`.

    Returns:
        (M, 2) int64: pairs of chains that were merged (one of each cluster), and (M,) the squared heights.
    """
    known = np.unique(chains[appearance.known])
    if len(known) < 2:
        return np.empty((0, 2), np.int64), np.empty(0)
    place = np.full(len(chains), -1)
    place[known] = np.arange(len(known))
    nodes = _nodes(tracklets, chains, appearance, place)
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


def _nodes(tracklets: _Tracklets, chains: Int, appearance: _Appearance, place: Int) -> _Nodes:
    """Return the chains with embeddings as nodes: node `place[c]` is chain `c`."""
    from scipy import sparse  # late: takes long to import, and is not needed without embeddings

    rows = place[chains[tracklets.number]]  # of each face
    compared = rows >= 0
    count = int(place.max()) + 1
    seen = sparse.csr_array(
        (np.ones(int(compared.sum()), np.float32), (rows[compared], tracklets.sample[compared])),
        shape=(count, int(tracklets.sample.max()) + 1),
    )
    seen.sum_duplicates()
    seen.data[:] = 1
    meets = sparse.csr_array((seen @ seen.T).astype(np.int32))
    known = appearance.known
    single = _Nodes(
        appearance.vector[known],
        (appearance.vector[known] ** 2).sum(axis=1),
        appearance.weight[known],
        sparse.csr_array((int(known.sum()), int(known.sum())), dtype=np.int32),
        np.zeros(int(known.sum()), np.int64),
    )
    grouped = single.merged(place[chains[known]])
    return dataclasses.replace(grouped, meets=meets, samples=meets.diagonal().astype(np.int64))


def _find_nearest(nodes: _Nodes, wanted: Int, nearest: Int, apart: Float, slip: float) -> None:
    """Fill in the nearest node that each of the `wanted` nodes may merge with, and the squared distance.

    The distance is infinite if there is none.
    """
    for start in range(0, len(wanted), _BLOCK):
        rows = wanted[start : start + _BLOCK]
        squared = nodes.square[rows, None] + nodes.square[None, :] - 2 * (nodes.mean[rows] @ nodes.mean.T)
        both = nodes.meets[rows].tocoo()
        shorter = np.minimum(nodes.samples[rows][both.row], nodes.samples[both.col])
        barred = (both.data > slip * shorter) | (squared[both.row, both.col] > CERTAIN**2)
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
    score: Real
    """(C,) the best detection score."""
    width: Real
    """(C,) the median width in pixels."""
    faces: Int
    """(C,) how many."""

    @classmethod
    def of(cls, clusters: Int, tracklets: _Tracklets) -> _Seen:
        """Return the totals of (T,) clusters of tracklets, 0 to C - 1."""
        of_face = clusters[tracklets.number]
        # The duration of a sample with two faces counts once.
        pairs = of_face * (tracklets.sample.max() + 1) + tracklets.sample
        first = np.unique(pairs, return_index=True)[1]
        seconds: Real = np.bincount(of_face[first], weights=tracklets.duration_s[first]).astype(np.float64)
        score = np.zeros(len(seconds))
        np.maximum.at(score, clusters, tracklets.score)
        width = pd.Series(tracklets.width).groupby(of_face).median().reindex(range(len(seconds)))
        median: Real = np.asarray(width, np.float64)
        return cls(seconds, score, median, np.bincount(of_face))


def _people(clusters: Int, tracklets: _Tracklets, rule: _Rule) -> Int:
    """Return (T,) clusters with -1 for those seen too briefly or too faintly to be a person."""
    return np.where(rule.counts(_Seen.of(clusters, tracklets))[clusters], clusters, -1)


def _uncounted(clusters: Int, tracklets: _Tracklets, rule: _Rule) -> pd.DataFrame:
    """Return `Linked.uncounted` of (T,) clusters."""
    seen = _Seen.of(clusters, tracklets)
    table = pd.DataFrame(
        {
            "reason": np.select([rule.long(seen), rule.clear(seen)], ["faint", "brief"], "both"),
            "faces": seen.faces,
            "seen_s": seen.seconds,
            "score": seen.score,
            "width_px": seen.width,
        }
    )
    return table[~rule.counts(seen) & (seen.faces > 0)].reset_index(drop=True)


def _one_each(clusters: Int, tracklets: _Tracklets) -> Int:
    """Return (faces,) clusters with -1 for second faces of a person in a sample."""
    longest = np.argsort(-tracklets.lengths[tracklets.number], kind="stable")
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


def _range(
    clusters: tuple[Int, Int, Int, Int], uncounted: int, tracklets: _Tracklets, appearance: _Appearance
) -> tuple[int, int, str]:
    """Return the lowest and the highest number of people, and why they differ.

    Args:
        clusters: (T,) of the tracklets, -1 for no person: with certain links and faint faces, then at the
            three heights.
        uncounted: Number of clusters that are not counted.
    """
    with_faint, most, count, fewest = (len(np.unique(one[one >= 0])) for one in clusters)
    plausible = clusters[-1]
    compared = len(np.unique(plausible[(plausible >= 0) & appearance.known]))
    # Faces too small for an embedding may be anyone who is not present in the same sample.
    present = plausible[tracklets.number]
    concurrent = pd.Series(present[present >= 0]).groupby(tracklets.sample[present >= 0]).nunique().max()
    low = min(count, max(compared, int(concurrent) if count else 0))
    most = max(count, most)
    high = max(most + uncounted, with_faint)
    reasons = {
        ("link is likely, but not certain", "links are likely, but not certain"): most - count,
        (
            "more person may have been seen too briefly or too faintly to be counted",
            "more people may have been seen too briefly or too faintly to be counted",
        ): high - most,
        ("further link is plausible", "further links are plausible"): count - fewest,
        (
            "person has a face too small to be compared with others",
            "people have faces too small to be compared with others",
        ): min(fewest, count) - low,
    }
    found = [counted(number, *words) for words, number in reasons.items() if number > 0]
    return low, high, "; ".join(found) or "every link is certain, and no other is plausible"


def _no_clusters() -> pd.DataFrame:
    """Return `Linked.uncounted` without rows."""
    # Not made at import: Arrow, which pandas uses for text, reserves 1 GB of address space at its first use,
    # and a process with limited memory would have too little left to load models.
    reals = {name: pd.Series(dtype=np.float64) for name in ("seen_s", "score", "width_px")}
    return pd.DataFrame({"reason": pd.Series(dtype=str), "faces": pd.Series(dtype=np.int64)} | reals)
