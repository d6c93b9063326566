"""Fits the 80 % interval of age for the default age network: the constants in ``analyzer/people.py``.

Half the interval is factor * sqrt(spread^2 + floor^2), with the spread of the network's own distribution.
For each floor the factor is the one that covers 80 % of the faces set aside for fitting; the floor is
taken where the coverage is most even over the quarters of the spread.
"""

from __future__ import annotations

import numpy as np

from benchmarks.accuracy import judge
from benchmarks.faces import FIT, labelled_faces


def main() -> None:
    """Fit and print."""
    rows = judge(list(labelled_faces(FIT, 4000)), None)
    rows = rows[~np.isnan(rows[:, 2])]
    error, spread = np.abs(rows[:, 3] - rows[:, 0]), rows[:, 4]
    quarter = np.searchsorted(np.quantile(spread, [0.25, 0.5, 0.75]), spread)
    for floor in (1, 2, 3, 4, 5, 6, 8):
        score = error / np.hypot(spread, floor)
        factor = np.quantile(score, 0.8)
        covered = [float((score[quarter == part] <= factor).mean()) for part in range(4)]
        unevenness = max(abs(share - 0.8) for share in covered)
        print(
            f"floor {floor}: factor {factor:.2f}, by quarters {np.round(covered, 2)}, worst {unevenness:.2f}"
        )


if __name__ == "__main__":
    main()
