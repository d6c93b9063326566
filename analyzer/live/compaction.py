"""Compaction: small parts of a live run are merged into larger ones, so that there are never many.

A segment of a live run is a part of ten seconds: after a day there would be thousands, which take minutes to
read. Each `_FACTOR` neighbors of the same size are merged into one part of the same form. A kill leaves at
worst both, the merged part and its sources; sources inside a larger part are removed.
"""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path

from analyzer.runs.segments import PartStore, is_whole

__all__ = [
    "CompactingStore",
]

_FACTOR = 16

_Group = tuple[int, int, Path]
"""First and last segment of a part, and its folder."""


class CompactingStore(PartStore):
    """A `PartStore` that merges parts. One thread may commit while another one reads and compacts."""

    def segments(self) -> list[int]:
        """Return the first segment of each part, ascending."""
        return [first for first, _, _ in self._groups()]

    def compact(self) -> None:
        """Merge small parts into larger ones, where there are enough.

        Raises:
            OutputError: A part cannot be written.
        """
        while group := _mergeable(self._groups()):
            first, last = group[0][0], group[-1][1]
            tables, edges = self._joined([path for _, _, path in group])
            if edges is None:
                return  # they are empty
            self._keep(
                self._part(first).with_name(f"{self.key}-{first:06d}+{last:06d}"), first, tables, edges
            )
            for _, _, path in group:
                shutil.rmtree(path, ignore_errors=True)

    def _listed(self) -> list[Path]:
        return [path for _, _, path in self._groups()]

    def _groups(self) -> list[_Group]:
        found: list[_Group] = []
        for path in self.folder.glob(f"{self.key}-*"):
            numbers = re.fullmatch(r".*-([0-9]+)(?:\+([0-9]+))?", path.name)
            if numbers:
                found.append((int(numbers[1]), int(numbers[2] or numbers[1]), path))
        found.sort(key=lambda one: (one[0], -one[1]))
        whole: list[_Group] = []
        for one in found:
            inside = bool(whole) and one[1] <= whole[-1][1]
            if inside or not is_whole(one[2]):
                shutil.rmtree(one[2], ignore_errors=True)
            else:
                whole.append(one)
        return whole


def _mergeable(groups: list[_Group]) -> list[_Group]:
    """Return the first `_FACTOR` neighbors of the same size; none if there are not that many."""
    for _, same in itertools.groupby(groups, key=lambda one: one[1] - one[0]):
        some = list(same)
        if len(some) >= _FACTOR:
            return some[:_FACTOR]
    return []
