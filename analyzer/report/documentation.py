"""``docs/report.md``: what a report contains, generated from its lists and types."""

from __future__ import annotations

import textwrap
from typing import Any, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from analyzer.people.proportions import FEW_PEOPLE
from analyzer.report import document
from analyzer.report.breakdowns import MOMENT_S
from analyzer.report.dataset import PERIODS, RUN_COLUMNS, VIEWS
from analyzer.report.figures import AUDIENCE_FIGURES, BY_NAME, FIGURES
from analyzer.report.trends import COMPARED, MAX_COMPARED
from analyzer.runs.run import REPORT_CHARTS, REPORT_TABLES

__all__ = ["documentation"]

_HEAD = """# Reports

Generated from `analyzer/report/` by `make docs`.

```
python cli.py report                                   # the newest run in outputs, as a table
python cli.py report outputs/talk-file-24ad666ec43b --open  # its page, in the browser
python cli.py report outputs --by week --since 90d --format html,png,csv
```

PATH is the folder of a run, or a folder that contains runs at any depth. Folders without a finished run are
named and skipped. Runs that are damaged or were written by a newer version are named and left out, and the
exit code is 1. Runs of older versions are included as far as their tables allow. DuckDB reads the tables
where they are; only the columns that a figure needs are loaded.

## Figures

| name | words | unit | meaning |
| --- | --- | --- | --- |
"""

_MIDDLE = """
Times are computed from the analyzed frames (`samples`, `faces`), not from the bins of the timeline. The
busiest moments are the windows of {moment:g} s, on a grid of {moment:g} s, with the most people on average.
Neighboring windows with the same mean are one moment; among equal ones longer moments come first, and the
report states how many more there are. A video with equally many people all the time has no busiest moment.
For each, the report gives the first time with the largest number of people (`peak_s`) and that number
(`peak_people`). A video shorter than half a window is one window. People are counted video by video: the same
person in two videos counts twice.

## Shares and their intervals

The shares of a single run are those of its `shares` table. For several runs, the people of all runs go
through the same estimate at once, with one draw of the models' errors for all of them: a model that is wrong
about a group is wrong in every video, and this error does not average out over many videos. The interval
holds 95 %, as measured for up to 270 people in 20 videos ([pooled.md](pooled.md)). For many more people it
becomes narrower than the known accuracy of carrying errors measured on labeled faces over to other videos. No
share is stated for fewer than {few} people with estimates, in no tile, sentence, chart, table or file, the
run's own `shares` table included. The same people have the same share wherever it appears: the draws of a
group depend on its own people alone, so a single group with everybody has the figures of the total, and a
group has those of a report on its videos alone. Runs with models of unknown error rates are left out of the
estimate, and the report says so. Figures that count person by person (`female`, `male`, the pyramid) are not
corrected, so they can differ from the shares.

## Groups and trends

`--by` takes `video`, {periods}, `name`, or a column of `runs`, such as `channel` or `folder`. With `name`,
videos are grouped by the names of their files (on the web, by their titles): by the first group of the
regular expression `--name-pattern`, or its whole match if it has no group. The default pattern is the name
without a number at its end (`news-01.mp4` and `news-02.mp4` are `news`). Names that the pattern does not
match are `not known`.

```
python cli.py report outputs --by folder
python cli.py report outputs --by name --name-pattern '^(.+?)-S[0-9]+'
```

Days, weeks, months and hours are in UTC, or in the time zone of `--timezone Europe/Berlin`. A date without a
time, which some sites give, stays that date.

Periods are those of the upload. A file counts on the day of its recording if the file contains it, otherwise
on the day of its analysis. Days, weeks and months are compared with the previous one that has videos. The
error bars of a change include both estimation errors, as above, and the choice of videos: the videos are
resampled (Bayesian bootstrap, Rubin 1981), and the intervals are widened for few videos as in Student's t. A
change exceeds its error bars if its 95 % interval excludes 0. With a single video in one of the periods this
is not known. Among many changes, one in twenty exceeds its error bars by chance.

Any two groups are compared in the same way; of more than {compared} groups those with the most people
(`comparison` in the document, `report-comparison.csv`, "Comparison of two" on the page): {comparable}. With a
single video in one of the two groups it is not known how much depends on the choice of the video: the error
bars of shares then include estimation errors only, and other figures have none.

## Choosing runs

Use `--since`, `--channel` and `--where`. The last is a condition in DuckDB's SQL over the view `runs`. It can
use the views {views}, which have the columns of [the tables](records.md) and `run`:

```
python cli.py report outputs --where "people > 2 AND run IN (SELECT run FROM people WHERE age_years < 18)"
```

The condition can read nothing but the runs' own files. `--columns mine.csv` adds columns of your own to
`runs`, for `--where` and `--by`. The first column of that file is `run`, `video_id`, `title`, `url` or
`source`. If no row matches a run, that is an error; if only some rows do not match, a warning names them. The
file is read as UTF-8, as UTF-16 with a byte order mark, or as Windows-1252.

### The view runs

| column | type | unit | meaning |
| --- | --- | --- | --- |
"""

_TAIL = """
## Few people

With `--min-people N`, groups of fewer than N people are suppressed: the report only says how many videos they
are in and how long those were analyzed. So that the suppressed figures cannot be recovered by subtraction,
another group is suppressed where necessary. Everything about single people is suppressed too: the timeline,
captions, appearances, pairs, first and longest appearances, shares of single videos, and links to the
annotated video, which shows everybody's number. Files of an earlier report in the same folder are removed.
The run's own tables stay as they are: hand on the report, not the folder.

## On screen against audience

`--youtube-analytics export.csv` takes the table of age and gender from YouTube Analytics, as exported by its
API (`ageGroup`, `gender`, `viewerPercentage`), its bulk reports or Studio. The report compares it with the
shares of time on screen of people who look 13 or older, because the export does not include children. With
fewer than {few} people with estimates there is no comparison. The difference has the interval of the share on
screen; YouTube gives none for its own shares.

## In front of the camera

For runs that were analyzed with `--scene audience` ([audience.md](audience.md)), the report has these figures
of all their people together, and by perceived gender unless `--min-people` suppresses it:

| name | words | unit | meaning |
| --- | --- | --- | --- |
{attention}
## Files

`--format` takes `html` (one self-contained page of about 0.1 MB, which plays the annotated video beside it or
links to the moment in the original), `png` (charts at 300 dpi: {charts}), `csv` (tables: {tables}), `xlsx`
(one spreadsheet, `report.xlsx`, with a sheet for each of these tables, the timeline of a single run, the
meaning of the columns, and the provenance), `json` (the whole document), `md`, and for a single run `vtt`
(the counts as captions). The names begin with `report.` or `report-`. Analyzing the video again removes these
files, because they would no longer match.

`report-people.csv` has a row for each person of all videos, `report-appearances.csv` one for each appearance
of a single video's people, `report-screen-time.csv` the people and time on screen by perceived gender and by
age band, of everything, each group and each video. CSV files are UTF-8 with a byte order mark, which
spreadsheets need to recognize accents; pandas and DuckDB skip it, and Python's own `csv` does with
`encoding="utf-8-sig"`. Text that a spreadsheet would take for a formula is prefixed with an apostrophe in
CSV, and is plain text in `xlsx`.

In charts, pages and annotated videos, female is orange and plain, male blue and striped, and unknown gender
gray and dotted. Labels, pages and messages use these three words of the column `gender` for people of every
age; labels shorten them to F, M and ? where there is little room.

## Images

Reports on images alone give the number of images with people in place of times. Everything about time
(timeline, busiest moments, appearances, longest appearance, captions) is left out in every format. In the
tables, columns of seconds are numbers of images and named so; `report-images.csv` of a single set has a row
for each person in each image. In reports on both images and videos each image counts as one second, and a
note says so.

## Python

```python
from analyzer.report import Chosen, make_report

report = make_report(["outputs"], by="channel", chosen=Chosen(where="duration_s > 60"))
report.document["total"]["occupancy"]  # what --format json writes
report.save(["html", "csv"], "monthly")
```

## The document

`report.json` and `Report.document` have these fields, version {version} (`report_version`). The types are in
`analyzer/report/document.py`.
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
        version=document.REPORT_VERSION,
    )
    return _wrapped(_HEAD + figures + middle + columns + tail) + _types()


def _types() -> str:
    """A table of fields for each type of the document, the document itself first."""
    found = [each for name in document.__all__ if is_typeddict(each := getattr(document, name))]
    found.sort(key=lambda each: each is not document.Document)
    of_figure = {figure.name: figure.meaning for figure in (*FIGURES, *AUDIENCE_FIGURES)}
    lines = []
    for each in found:
        hints = get_type_hints(each, include_extras=True)
        plain = get_type_hints(each)
        of_figures = set(get_type_hints(document.Figures)) if each is not document.Figures else set()
        inherited = of_figures <= hints.keys()
        names = [name for name in hints if not (inherited and name in of_figures)]
        lines += [f"### {each.__name__}", "", (each.__doc__ or "").strip(), ""]
        if inherited and of_figures:
            lines += ["It also has the fields of Figures.", ""]
        lines += ["| field | type | meaning |", "| --- | --- | --- |"]
        meanings = [_meaning(hints[name]) or of_figure[name] for name in names]
        lines += [
            f"| `{name}` | {_type_words(plain[name])} | {meaning} |"
            for name, meaning in zip(names, meanings, strict=True)
        ]
        lines.append("")
    return "\n".join(["", *lines[:-1]]) + "\n"


def _meaning(hint: Any) -> str:
    """The text of an annotation; empty without one."""
    for one in getattr(hint, "__metadata__", ()):
        return str(one)
    return _meaning(get_args(hint)[0]) if get_origin(hint) is NotRequired else ""


def _type_words(hint: Any) -> str:
    """A type in the words of JSON.

    >>> _type_words(list[str] | None), _type_words(dict[str, float])
    ('list of string or null', 'object of number')
    """
    origin, args = get_origin(hint), get_args(hint)
    if origin is Union or str(origin) == "<class 'types.UnionType'>":
        return " or ".join(_type_words(one) for one in args)
    if str(origin) == "typing.Literal":
        return " or ".join(f'`"{one}"`' for one in args)
    if origin is list:
        return f"list of {_type_words(args[0])}"
    if origin is dict:
        return f"object of {_type_words(args[1])}"
    if is_typeddict(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return _JSON_TYPES.get(hint, "any value")


_JSON_TYPES = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "true or false",
    type(None): "null",
}


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
