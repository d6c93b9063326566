"""``docs/report.md``: what a report says, from the lists that make it."""

from __future__ import annotations

import textwrap

from analyzer.people.proportions import FEW_PEOPLE
from analyzer.report.dataset import PERIODS, RUN_COLUMNS, VIEWS
from analyzer.report.figures import AUDIENCE_FIGURES, BY_NAME, FIGURES
from analyzer.report.metrics import COMPARED, MAX_COMPARED, MOMENT_S
from analyzer.runs.run import REPORT_CHARTS, REPORT_TABLES

__all__ = ["documentation"]

_HEAD = """# Reports

Generated from `analyzer/report/` by `make docs`.

```
python cli.py report                                   # the newest run in outputs, as a table
python cli.py report outputs/talk-file-24ad666ec43b --open  # its page, in the browser
python cli.py report outputs --by week --since 90d --format html,png,csv --out monthly
```

PATH is a run's folder or one that holds runs, however deep. Folders that hold no finished run are named and
passed over. Runs that are damaged, or were written by a newer version, are named and left out, and the exit
code is 1. Runs of older versions are reported as far as their tables go. Tables are read where they lie, by
DuckDB; nothing but the columns that a figure needs is loaded.

## Figures

| name | words | unit | meaning |
| --- | --- | --- | --- |
"""

_MIDDLE = """
Times are computed from the analyzed frames (`samples`, `faces`), not from the timeline's bins. The busiest
moments are windows of {moment:g} s, on a grid of as many, with the most people on average; of each the first
moment with the most people is told (`peak_s`, `peak_people`). A video shorter than half of that is one window.
People are counted video by video: the same person in two videos counts twice.

## Shares and their intervals

Of one run they are those of its `shares` table. Of several, the people of all runs are put through the same
estimate at once, with one draw of the networks' errors for all of them: that the networks are wrong about a
group is a common error, which does not average out over many videos. The interval holds 95 %: measured up
to 270 people of 20 videos ([pooled.md](pooled.md)). Of far more people it gets narrower than the errors
measured on labeled faces are known to carry over to other videos. Of fewer than {few} judged people no
share is stated: no tile, sentence, chart, table or file has one, the run's own `shares` table included. The
same people have the same share wherever it stands: a group's draws depend on its own people alone, so the
one group that holds everybody has the figures of the total, and a group has those of a report on its videos
alone. Runs judged by networks whose errors are not known here are left out of the estimate, and the report
says so. What is stated person by person (`female`, `male`, the pyramid) is not corrected, so it can differ
from the shares.

## Groups and trends

`--by` takes `video`, {periods}, `name`, or a column of `runs`, such as `channel` or `folder`. By `name`,
videos are grouped by the names of their files (on the web, by their titles): by what the first group of the
regular expression `--name-pattern` finds in them, or else all that it matches. Without the option it is the
name without the number at its end (`news-01.mp4` and `news-02.mp4` are `news`); what it does not match is
`not known`.

```
python cli.py report outputs --by folder
python cli.py report outputs --by name --name-pattern '^(.+?)-S[0-9]+'
```

Days, weeks, months and hours are told in UTC, or in a time zone: `--timezone Europe/Berlin`. A day without an
hour, as some sites tell it, stays that day.

Periods are those of the upload; a file counts on the day of its recording if the file tells it, else on that
of its analysis. Days, weeks and months are compared
with the last one before that has videos. The error bars of a change hold both how the videos were measured
and which videos there happen to be: measured errors as above, and the videos drawn anew (Bayesian bootstrap,
Rubin 1981, widened where there are few videos, as Student's t does). A change
exceeds its error bars if its 95 % interval lies on one side of 0; with a single video in one of the periods
nothing is said. Where many changes are looked at, one in twenty exceeds its error bars by chance.

Any two groups are compared in the same way, of more than {compared} groups those with the most people
(`comparison` in the document, `report-comparison.csv`, "Two side by side" on the page): {comparable}. With a
single video in one of the two it cannot be known how much depends on which video it is: shares then have the
error bars of the measuring alone, other figures none.

## Choosing runs

`--since`, `--channel` and `--where`; the last is a condition in the SQL of DuckDB over the view `runs`. The
views {views} can be used in it; each has the columns of [its table](records.md) and `run`:

```
python cli.py report outputs --where "people > 2 AND run IN (SELECT run FROM people WHERE age_years < 18)"
```

Nothing but the runs' own files can be read by it. `--columns mine.csv` adds columns of your own to `runs`,
for `--where` and `--by`: the first column of that file is `run`, `video_id`, `title`, `url` or `source`. If
no row of it fits a run, that is an error; rows that fit none beside others that do are named in a
warning. The file is read as UTF-8, as UTF-16 with its mark, or as what Windows writes in the West (cp1252).

### The view runs

| column | type | unit | meaning |
| --- | --- | --- | --- |
"""

_TAIL = """
## Few people

With `--min-people N` nothing is told of groups of fewer than N people but how many videos they are in and how
long those were analyzed. So that what is withheld cannot be had by subtraction, another group is withheld
where it would be. Nothing is then told of single people either: no timeline, captions, bars of who was on
screen when or pairs, no moment of a first or longest presence, no shares of single videos, and no way to the
annotated video, which names everybody in it. Files of an earlier report in the same folder are removed; the
run's own tables stay as they are: hand on the report, not the folder.

## On screen against audience

`--youtube-analytics export.csv` takes YouTube Analytics' table of age and gender, as its API (`ageGroup`,
`gender`, `viewerPercentage`), its bulk reports or Studio export it. It is laid beside the shares of the time
on screen, of people who look 13 or older, since the export tells nothing of children. Of fewer than
{few} judged people nothing is set against it. The difference has the
interval of the share on screen; YouTube gives none for its own.

## In front of the camera

Where runs were analyzed with `--scene audience` ([audience.md](audience.md)), the report has these figures of
all their people together, and by perceived gender unless `--min-people` withholds it; of no other runs:

| name | words | unit | meaning |
| --- | --- | --- | --- |
{attention}
## Files

`--format` takes `html` (one page of about 0.1 MB that needs nothing else; it plays the annotated video that
lies beside it, else it links to the moment in the original), `png` (charts at 300 dpi: {charts}), `csv`
(tables: {tables}), `xlsx` (one spreadsheet, `report.xlsx`, with a sheet for each of these tables, the
timeline of a single run, what the columns mean, and where it comes from), `json` (the whole document),
`md`, and for a single run `vtt` (the counts as captions). Their names begin with `report.` or `report-`;
analyzing the video again removes them, because they would no longer fit.

`report-people.csv` has a row for each person of all videos, `report-appearances.csv` one for each time on
screen of a single video's people, `report-screen-time.csv` the people and time on screen by perceived
gender and by age band, of everything, each group and each video. CSV files are UTF-8 and begin with its
mark (BOM), by which spreadsheets know their accents; pandas and DuckDB pass over it, Python's own `csv`
does with `encoding="utf-8-sig"`. Text that a spreadsheet would take for a formula has an apostrophe before
it in CSV, and is text as it is in `xlsx`.

Women are orange and plain, men blue and striped, people of unknown gender gray and dotted, in charts, pages
and annotated videos.

## Images

Reports on sets of images alone say how many images somebody is in instead of for how long. What has to do
with time (timeline, busiest moments, who is on screen when, longest presence, captions) is left out, in every
format. In their tables the columns of seconds are numbers of images and are called so; a single set's
`report-images.csv` has a row for each image and person in it. In reports on images and videos together, each
image counts as one second, and a note says so.

From Python:

```python
from analyzer.report import Chosen, make_report

report = make_report(["outputs"], by="channel", chosen=Chosen(where="duration_s > 60"))
report.document["total"]["occupancy"]  # what --format json writes
report.save(["html", "csv"], "monthly")
```
"""


def documentation() -> str:
    """The page as Markdown."""
    figures = "".join(f"| `{f.name}` | {f.words} | {_UNITS[f.unit]} | {f.meaning} |\n" for f in FIGURES)
    columns = "".join(f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} |\n" for c in RUN_COLUMNS)
    middle = _MIDDLE.format(
        moment=MOMENT_S,
        few=FEW_PEOPLE,
        compared=MAX_COMPARED,
        comparable=", ".join(BY_NAME[name].words for name in COMPARED),
        periods=", ".join(f"`{period}`" for period in PERIODS),
        views=", ".join(f"`{view}`" for view in VIEWS[1:]),
    )
    attention = "".join(
        f"| `{f.name}` | {f.words} | {_UNITS[f.unit]} | {f.meaning} |\n" for f in AUDIENCE_FIGURES
    )
    tail = _TAIL.format(
        few=FEW_PEOPLE,
        attention=attention,
        charts=", ".join(REPORT_CHARTS),
        tables=", ".join(REPORT_TABLES),
    )
    return _wrapped(_HEAD + figures + middle + columns + tail)


def _wrapped(text: str) -> str:
    """Paragraphs in lines of the same length; tables, headings and code as they are."""
    done: list[str] = []
    paragraph: list[str] = []
    code = False
    for line in [*text.splitlines(), ""]:
        code ^= line.startswith("```")
        if code or not line or line.startswith(("|", "#", "```")):
            done += textwrap.wrap(" ".join(paragraph), 110, break_on_hyphens=False)
            done.append(line)
            paragraph = []
        else:
            paragraph.append(line)
    return "\n".join(done)


_UNITS = {"clock": "s", "share": "0 to 1", "": "", "people": "", "years": "years", "s": "s"}
