"""WebVTT captions."""

from __future__ import annotations

from analyzer.report.document import Document, Timeline, Values
from analyzer.report.figures import figure_text
from analyzer.util.text import counted

__all__ = [
    "webvtt",
]

_VTT_NOTE = "People seen within each cue, not necessarily at the same moment. Estimates; gender is perceived."


def webvtt(document: Document) -> str:
    """Captions with the number of people in each bin of the timeline; none for bins without people.

    Args:
        document: The report document of a single video.
    """
    cues: list[tuple[int, int, str]] = []
    if (timeline := document["timeline"]) is not None:
        for index, ends_s in enumerate(zip(timeline["start_s"], timeline["end_s"], strict=True)):
            start, end = (round(1000 * time_s) for time_s in ends_s)
            text = _cue(timeline, index)
            if not text or start >= end:
                continue
            if cues and cues[-1][1:] == (start, text):
                cues[-1] = cues[-1][0], end, text
            else:
                cues.append((start, end, text))
    blocks = [f"{_vtt_time(start)} --> {_vtt_time(end)}\n{text}\n" for start, end, text in cues]
    return "\n".join(["WEBVTT\n", f"NOTE\n{_VTT_NOTE}\n", *blocks])


def _cue(timeline: Timeline, index: int) -> str:
    series: Values = timeline

    def count(name: str) -> str:
        values = series[name]
        number = None if values is None else values[index]
        # The counts of averaged bins are means.
        return "" if not number or number < 0.05 else figure_text(number, "people").replace(".0", "")

    people = count("people")
    if not people:
        return ""
    words = counted(float(people.replace(",", "")), "person", "people")
    genders = {"female": "female", "male": "male", "unknown_gender": "unknown"}
    parts = [f"{count(name)} {gender}" for name, gender in genders.items() if count(name)]
    return f"{words}: {', '.join(parts)}" if parts else words


def _vtt_time(milliseconds: int) -> str:
    seconds, fraction = divmod(milliseconds, 1000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}.{fraction:03d}"
