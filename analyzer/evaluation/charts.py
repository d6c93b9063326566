"""The two charts of an evaluation: from the document of `Evaluation.to_dict`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analyzer.evaluation.metrics import MIN_UNITS
from analyzer.settings import AGE_BANDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_age", "draw_gender"]

# From the palette of Okabe and Ito: distinguishable with any color vision, and in gray by lightness and mark.
_BLUE, _ORANGE, _GREEN, _GRAY = "#0072B2", "#E69F00", "#009E73", "#555555"
_SERIES = (
    ("described", "described by eye", _GREEN, "^"),
    ("faces", "single faces", _BLUE, "o"),
    ("people", "people in videos", _ORANGE, "s"),
)
_MANY = 300
"""Points are smaller if there are more of them."""
_AGE_STEP = 5
"""Medians are drawn over this many years of true age."""


def _scores(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores of each series, as far as the document has them."""
    scores = {
        "described": document["described"],
        "faces": document["faces"],
        "people": (document["videos"] or {}).get("people"),
    }
    return {key: one for key, one in scores.items() if one}


def _calm(*all_axes: Axes) -> None:
    for axes in all_axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#DDDDDD", linewidth=0.7)
        axes.set_axisbelow(True)


def draw_gender(document: dict[str, Any]) -> Figure:
    """Stated probability of female against the observed share of women, over their counts."""
    drawing = Figure(figsize=(6.4, 7.2), layout="constrained")
    above, below = drawing.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    above.plot([0, 1], [0, 1], color=_GRAY, linewidth=1, linestyle="--", label="as stated", zorder=1)
    names = {"faces": "faces"}
    found = {
        key: scores["calibration"][names.get(key, "people")] for key, scores in _scores(document).items()
    }
    drawn = [one for one in _SERIES if one[0] in found and found[one[0]]["n"]]
    for place, (key, words, color, mark) in enumerate(drawn):
        bins = pd.DataFrame(found[key]["by_female_prob"]).query("n > 0").astype(float)
        low, high = _wilson(bins["observed"].to_numpy(), bins["n"].to_numpy())
        above.errorbar(
            bins["stated"],
            bins["observed"],
            yerr=(bins["observed"] - low, high - bins["observed"]),
            color=color,
            marker=mark,
            markersize=6,
            linewidth=0.8,
            elinewidth=1,
            capsize=3,
            label=f"{words}: n {found[key]['n']}, calibration error {100 * found[key]['ece']:.1f} points",
        )
        width = 0.08 / len(drawn)
        x = (bins["low"] + bins["high"]) / 2 + (place - (len(drawn) - 1) / 2) * width
        bars = below.bar(x, bins["n"], width=width, color=color, edgecolor="black", linewidth=0.4)
        below.bar_label(bars, fmt="%d", fontsize=7, padding=1)
    _calm(above, below)
    above.set(ylabel="observed share of women", ylim=(-0.02, 1.02))
    above.set_title("Observed share of women, with 95 % intervals", fontsize=11)
    drawing.legend(*above.get_legend_handles_labels(), loc="outside upper center", frameon=False, fontsize=9)
    below.set(xlabel="stated probability of female", ylabel="number", xlim=(-0.02, 1.02))
    below.set_xticks(np.linspace(0, 1, 11))
    if drawn:
        highest = max(one["n"] for key, *_ in drawn for one in found[key]["by_female_prob"])
        below.set(yscale="log", ylim=(0.7, 5 * highest))
        below.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return drawing


def _wilson(share: NDArray[np.float64], number: NDArray[np.float64]) -> tuple[Any, Any]:
    """95 % interval of shares of `number` each."""
    z = 1.96
    middle = (share + z**2 / (2 * number)) / (1 + z**2 / number)
    half = z / (1 + z**2 / number) * np.sqrt(share * (1 - share) / number + z**2 / (4 * number**2))
    return np.minimum(middle - half, share), np.maximum(middle + half, share)


def draw_age(document: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Figure:
    """True against estimated age, and how often the 80 % interval holds the true age by age band.

    Args:
        document: Of the evaluation.
        tables: Of each series, with `true_age` and `age_years`.
    """
    drawing = Figure(figsize=(10.5, 5.2), layout="constrained")
    left, right = drawing.subplots(1, 2, width_ratios=(1.15, 1))
    left.plot([0, 100], [0, 100], color=_GRAY, linewidth=1, linestyle="--", label="true age", zorder=1)
    bands = [band.name for band in AGE_BANDS["youtube"]]
    scores = _scores(document)
    ages = {key: tables[key][["true_age", "age_years"]].dropna().astype(float) for key in scores}
    shown = [one for one in _SERIES if one[0] in ages and len(ages[one[0]])]
    for place, (key, words, color, mark) in enumerate(shown):
        shift = place - (len(shown) - 1) / 2
        _draw_ages(left, ages[key], 0.8 * shift, color=color, mark=mark, words=words)
        covered = {name: one["age_in_interval"] for name, one in scores[key]["groups"]["age"].items()}
        covered = {name: one for name, one in covered.items() if one["n"]}
        height = 0.8 / len(shown)
        y = [bands.index(name) + shift * height for name in covered]
        values = [one["value"] for one in covered.values()]
        right.barh(y, values, height=0.9 * height, color=color, edgecolor="black", linewidth=0.4)
        for at, one in zip(y, covered.values(), strict=True):
            right.text(1.02, at, f"n {one['n']}", va="center", fontsize=8)
    _calm(left, right)
    left.set(xlabel="true age in years", ylabel="estimated age in years", xlim=(0, 100), ylim=(0, 100))
    left.set_title("True and estimated age", fontsize=11)
    left.legend(loc="upper left", frameon=False, fontsize=9)
    right.axvline(0.8, color="black", linewidth=1.2, linestyle="--")
    right.set_yticks(range(len(bands)), bands)
    right.set_xticks(np.linspace(0, 1, 6), [f"{percent:.0f} %" for percent in np.linspace(0, 100, 6)])
    right.set(xlim=(0, 1.15), ylim=(-0.6, len(bands) - 0.4))
    right.set(xlabel="true age within the stated 80 % interval", ylabel="true age band")
    right.set_title("Does the 80 % interval hold 80 %?", fontsize=11)
    return drawing


def _draw_ages(axes: Axes, ages: pd.DataFrame, shift: float, *, color: str, mark: str, words: str) -> None:
    """A point for each, and the median and middle 80 % of each five years of true age with enough of them.

    The medians are drawn `shift` years aside, so that those of two series do not hide each other.
    """
    # True ages are whole years: moved a little aside, each point shows.
    aside = np.random.default_rng(0).uniform(-0.4, 0.4, len(ages))
    faint = float(np.clip(250 / len(ages), 0.12, 0.7))
    true, age = ages["true_age"], ages["age_years"]
    size = 9 if len(ages) > _MANY else 20
    axes.scatter(true + aside, age, s=size, marker=mark, color=color, alpha=faint, linewidths=0)
    steps = ages.groupby(true // _AGE_STEP).filter(lambda some: len(some) >= MIN_UNITS)
    if steps.empty:
        axes.plot([], [], color=color, marker=mark, linestyle="none", label=f"{words} (n {len(ages)})")
        return
    grouped = steps.groupby(steps["true_age"] // _AGE_STEP)
    low, middle, high = (grouped["age_years"].quantile(share) for share in (0.1, 0.5, 0.9))
    axes.errorbar(
        grouped["true_age"].mean() + shift,
        middle,
        yerr=(middle - low, high - middle),
        color="black",
        marker=mark,
        markerfacecolor=color,
        markersize=6,
        linestyle="none",
        elinewidth=1,
        capsize=3,
        label=f"{words}: median and middle 80 % (n {len(ages)})",
        zorder=3,
    )
