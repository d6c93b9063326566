"""The report document: everything a report says, as JSON values.

All forms of a report (page, charts, tables, captions) are written from this document, and `--format json`
writes the document itself. `docs/report.md` lists its fields from these types.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

__all__ = [
    "REPORT_VERSION",
    "AgeSeries",
    "AttentionRow",
    "AttentionTable",
    "AudienceComparison",
    "AudienceRow",
    "Comparison",
    "ComparisonRow",
    "ConcurrentRow",
    "Document",
    "Figures",
    "GroupRow",
    "GroupTable",
    "ImageRow",
    "Link",
    "LongestAppearance",
    "ModelRow",
    "Moment",
    "Pair",
    "PersonRow",
    "Provenance",
    "PyramidCell",
    "ScreenTimeRow",
    "ShareRow",
    "SkippedFolder",
    "Timeline",
    "Trend",
    "TrendRow",
    "ValueCount",
    "Valued",
    "Values",
    "VideoRow",
]

REPORT_VERSION = 2
"""Raised whenever a field of the document changes its name or meaning."""

Unit = Literal["", "s", "clock", "share", "people", "years"]

AgeSeries = dict[str, list[float | None]]

Values = Mapping[str, Any]
"""A row of a document whose fields are read by variable names."""


class Figures(TypedDict):
    """The figures of a video, of a group of videos, or of everything; null where not known or suppressed."""

    suppressed: Annotated[bool, "Whether the figures are suppressed because they are about too few people."]
    videos: int | None
    analyzed_s: float | None
    people: int | None
    people_low: int | None
    people_high: int | None
    people_per_video: float | None
    on_screen_s: float | None
    female_on_screen_s: float | None
    male_on_screen_s: float | None
    unknown_on_screen_s: float | None
    occupancy: float | None
    co_presence: float | None
    mixed: float | None
    concurrent_mean: float | None
    concurrent_peak: int | None
    first_s: float | None
    longest_occupancy_s: float | None
    longest_person_s: float | None
    female: int | None
    male: int | None
    unknown_gender: int | None
    estimated: int | None
    age_median_years: float | None
    female_people_share: float | None
    female_people_low: float | None
    female_people_high: float | None
    female_time_share: float | None
    female_time_low: float | None
    female_time_high: float | None


class LongestAppearance(TypedDict):
    """The longest appearance of one person in a video."""

    person_id: Annotated[int, "Number of the person in the run."]
    start_s: Annotated[float, "Its start."]
    end_s: Annotated[float, "Its end."]


class Link(TypedDict):
    """How moments of a video are addressed: `before`, then whole seconds, then `after`."""

    before: Annotated[str, "The address up to the seconds."]
    after: Annotated[str, "The rest of the address."]
    site: Annotated[str, "Name of the site."]


class VideoRow(Figures):
    """One run, with its figures."""

    run: Annotated[str, "Name of the run's folder."]
    video_id: Annotated[str | None, "Stable name of the video."]
    title: Annotated[str, "Its title."]
    channel: Annotated[str | None, "Its channel."]
    source: Annotated[str, "The source as named on the command line, without folders."]
    url: Annotated[str | None, "Address of its page."]
    link: Annotated[Link | None, "How its moments are addressed; null for files."]
    day: Annotated[str, "ISO 8601 day of the upload, the recording or the analysis."]
    day_is: Annotated[str, "uploaded, recorded or analyzed: what the day is."]
    complete: Annotated[bool, "Whether it was read to its end."]
    incomplete_reason: Annotated[str, "Why it was not; else empty."]
    kind: Annotated[str, "video or images."]
    duration_s: Annotated[float | None, "Declared length."]
    analyzed_share: Annotated[float | None, "Analyzed time as a share of the length."]
    samples: Annotated[int | None, "Analyzed frames."]
    audio: Annotated[bool, "Whether it has sound."]
    media: Annotated[str | None, "Annotated video beside the report, as a relative address."]
    media_start_s: Annotated[float, "Time in the video at which the annotated video starts."]
    page: Annotated[str | None, "The run's own report, as a relative address."]
    longest_person: Annotated[LongestAppearance | None, "The longest appearance of one person."]
    own: Annotated[dict[str, Any], "The columns of `--columns`."]
    notes: Annotated[list[str], "The run's notes on faces that were not counted or have no estimate."]


class GroupRow(Figures):
    """One group of videos, with its figures."""

    group: Annotated[str, "Name of the group."]


class GroupTable(TypedDict):
    """The groups of `--by`."""

    by: Annotated[str, "What the groups were made by."]
    timely: Annotated[bool, "Whether the groups are consecutive periods."]
    rows: Annotated[list[GroupRow], "The groups."]


class ShareRow(TypedDict):
    """Estimated shares of one gender or age band, with their 95 % intervals."""

    by: Annotated[str, "Empty for everything, `video`, or what the groups were made by."]
    group_value: Annotated[str, "Name of the video or group; empty for everything."]
    dimension: Annotated[str, "gender or age."]
    group: Annotated[str, "The gender or age band."]
    people_share: Annotated[float | None, "Share of the people."]
    people_low: Annotated[float | None, "Lower end of its interval."]
    people_high: Annotated[float | None, "Upper end of its interval."]
    time_share: Annotated[float | None, "Share of the people's time on screen."]
    time_low: Annotated[float | None, "Lower end of its interval."]
    time_high: Annotated[float | None, "Upper end of its interval."]
    estimated: Annotated[int, "Number of people with an estimate that the shares rest on."]


class ScreenTimeRow(TypedDict):
    """People and time on screen of one perceived gender or age band, not corrected."""

    by: Annotated[str, "Empty for everything, `video`, or what the groups were made by."]
    group_value: Annotated[str, "Name of the video or group; empty for everything."]
    dimension: Annotated[str, "gender or age."]
    group: Annotated[str, "The gender or age band."]
    people: Annotated[int, "Number of people."]
    on_screen_s: Annotated[float, "Their time on screen, added up."]
    share: Annotated[float | None, "Share of everybody's time on screen."]


class PyramidCell(TypedDict):
    """People of one perceived gender and age band, not corrected; null where suppressed."""

    gender: Annotated[str, "female, male or unknown."]
    band: Annotated[str, "The age band, or unknown."]
    people: Annotated[int | None, "Number of people."]
    on_screen_s: Annotated[float | None, "Their time on screen, added up."]


class ConcurrentRow(TypedDict):
    """For how long a number of people is on screen at the same time."""

    people: Annotated[int, "Number of people."]
    time_s: Annotated[float | None, "Analyzed time with that many people."]
    share: Annotated[float | None, "The same as a share of the analyzed time."]


class Moment(TypedDict):
    """One of the busiest moments."""

    run: Annotated[str, "Name of the run."]
    start_s: Annotated[float, "Start of the moment."]
    end_s: Annotated[float, "End of the moment."]
    people: Annotated[float | None, "Mean number of people in it."]
    peak_s: Annotated[float, "When the largest number of people is first on screen."]
    peak_people: Annotated[int | None, "That number."]


class Timeline(TypedDict):
    """The timeline of a single video; lists of the same length, null where nothing was analyzed."""

    bin_s: Annotated[float, "Length of a bin."]
    start_s: Annotated[list[float], "Start of each bin."]
    end_s: Annotated[list[float], "End of each bin."]
    people: Annotated[list[float | None], "People seen in it."]
    female: Annotated[list[float | None] | None, "Those of perceived gender female."]
    male: Annotated[list[float | None] | None, "Those of perceived gender male."]
    unknown_gender: Annotated[list[float | None] | None, "Those without a stated gender."]
    ages: Annotated[AgeSeries | None, "People by age band, and `unknown`."]


class PersonRow(TypedDict):
    """One person of a run."""

    run: Annotated[str, "Name of the run."]
    person_id: Annotated[int, "Number of the person in the run."]
    name: Annotated[str, "Name that a correction gave; otherwise empty."]
    gender: Annotated[str, "Perceived gender: female, male or unknown."]
    female_prob: Annotated[float | None, "Probability of perceived gender female."]
    age_years: Annotated[float | None, "Perceived age."]
    age_low: Annotated[float | None, "Lower end of its interval."]
    age_high: Annotated[float | None, "Upper end of its interval."]
    age_band: Annotated[str, "Band of the perceived age."]
    gender_source: Annotated[str, "confirmed: a correction states the gender; otherwise estimated."]
    age_source: Annotated[str, "Likewise of the age."]
    corrected: Annotated[bool, "Whether a correction concerns the person."]
    first_s: Annotated[float, "First seen."]
    last_s: Annotated[float, "Last seen."]
    on_screen_s: Annotated[float, "Time on screen."]
    appearances: Annotated[int, "Number of appearances; a gap of over 2 s begins a new one."]
    spans: NotRequired[
        Annotated[list[list[float]], "Start and end of each appearance; of a single run only."]
    ]


class Pair(TypedDict):
    """Two people of a single video and the time both are on screen."""

    a: Annotated[int, "Number of one person."]
    b: Annotated[int, "Number of the other."]
    co_presence_s: Annotated[float, "Time with both on screen."]


class ImageRow(TypedDict):
    """One person in one image of a single set of images, or one image without anybody."""

    image: Annotated[str, "Name of the image."]
    readable: Annotated[bool, "Whether it could be read."]
    person_id: Annotated[int | None, "Number of the person."]
    gender: Annotated[str, "Perceived gender."]


class TrendRow(TypedDict):
    """One figure in one period, and its change since the period before."""

    figure: Annotated[str, "Name of the figure."]
    words: Annotated[str, "The figure in words."]
    unit: Annotated[Unit, "Its unit."]
    period: Annotated[str, "The period."]
    value: Annotated[float | None, "Its value."]
    value_low: Annotated[float | None, "Lower end of its 95 % interval."]
    value_high: Annotated[float | None, "Upper end of its 95 % interval."]
    videos: Annotated[int | None, "Videos of the period."]
    previous: Annotated[str | None, "The last period before it that has videos."]
    previous_value: Annotated[float | None, "The value then."]
    previous_videos: Annotated[int | None, "Videos of that period."]
    change: Annotated[float | None, "Value minus previous value."]
    change_low: Annotated[float | None, "Lower end of its 95 % interval."]
    change_high: Annotated[float | None, "Upper end of its 95 % interval."]
    exceeds: Annotated[bool | None, "Whether the change exceeds its error bars; null if not known."]


class Trend(TypedDict):
    """Changes from period to period."""

    by: Annotated[str, "day, week or month."]
    rows: Annotated[list[TrendRow], "A row for each figure and period."]


class ComparisonRow(TypedDict):
    """One figure of two groups, and its difference."""

    figure: Annotated[str, "Name of the figure."]
    words: Annotated[str, "The figure in words."]
    unit: Annotated[Unit, "Its unit."]
    first: Annotated[str, "One group."]
    second: Annotated[str, "The other group."]
    first_value: Annotated[float | None, "Value of the first group."]
    second_value: Annotated[float | None, "Value of the second group."]
    first_videos: Annotated[int, "Videos of the first group."]
    second_videos: Annotated[int, "Videos of the second group."]
    difference: Annotated[float | None, "Second value minus first value."]
    difference_low: Annotated[float | None, "Lower end of its 95 % interval."]
    difference_high: Annotated[float | None, "Upper end of its 95 % interval."]
    exceeds: Annotated[bool | None, "Whether the difference exceeds its error bars; null if not known."]


class Comparison(TypedDict):
    """Differences between any two groups."""

    by: Annotated[str, "What the groups were made by."]
    groups: Annotated[int, "Number of groups that are compared."]
    of_groups: Annotated[int, "Number of groups there are."]
    rows: Annotated[list[ComparisonRow], "A row for each figure and pair of groups."]


class AudienceRow(TypedDict):
    """One gender or age band: its share of the audience and on screen."""

    dimension: Annotated[str, "gender or age."]
    group: Annotated[str, "The gender or age band."]
    audience_share: Annotated[float | None, "Share of the viewers."]
    on_screen_share: Annotated[float | None, "Estimated share of the time on screen."]
    on_screen_low: Annotated[float | None, "Lower end of its 95 % interval."]
    on_screen_high: Annotated[float | None, "Upper end of its 95 % interval."]
    difference: Annotated[float | None, "Share on screen minus share of the viewers."]
    difference_low: Annotated[float | None, "Lower end of its 95 % interval."]
    difference_high: Annotated[float | None, "Upper end of its 95 % interval."]


class AudienceComparison(TypedDict):
    """On screen against the audience, from `--youtube-analytics`."""

    file: Annotated[str, "Name of the export."]
    basis: Annotated[Literal["time", "people"], "What the shares on screen are of."]
    rows: Annotated[list[AudienceRow], "A row for each gender and age band."]
    notes: Annotated[list[str], "What to know of them."]


class AttentionRow(TypedDict):
    """Attention figures of all people or of one perceived gender; null where not known or suppressed."""

    group: Annotated[str, "all, female, male or unknown."]
    ots: int | None
    watchers: int | None
    conversion_ratio: float | None
    dwell_mean_s: float | None
    attention_mean_s: float | None
    attraction_ratio: float | None
    attention_unknown: Annotated[int | None, "People without landmarks, for whom attention is not known."]


class AttentionTable(TypedDict):
    """Attention in runs that were analyzed with `--scene audience`."""

    videos: Annotated[int, "Number of these runs."]
    limits: Annotated[dict[str, list[float]], "The settings that define attention, with all their values."]
    rows: Annotated[list[AttentionRow], "Everybody, then each perceived gender."]


class ModelRow(TypedDict):
    """A model that was used."""

    name: Annotated[str | None, "Its name."]
    role: Annotated[str | None, "What it was used for."]
    license: Annotated[str | None, "Its license."]
    commercial_use: Annotated[bool | None, "Whether the license allows commercial use; null if unclear."]
    sha256: Annotated[str | None, "Hash of its file."]
    trained_on: Annotated[str | None, "Its training data."]
    known_bias: Annotated[str | None, "Known biases."]
    videos: Annotated[int, "Number of runs it was used in."]


class ValueCount(TypedDict):
    """One value and how many runs have it."""

    value: Annotated[str, "The value."]
    videos: Annotated[int, "Number of runs."]


class Valued(TypedDict):
    """A setting or a version with its values over all runs."""

    name: Annotated[str, "Its name."]
    values: Annotated[list[ValueCount], "Its values, the most frequent first."]


class Provenance(TypedDict):
    """Where the figures come from."""

    models: Annotated[list[ModelRow], "The models."]
    settings: Annotated[list[Valued], "Settings of the analysis."]
    versions: Annotated[list[Valued], "Versions of the program and its libraries."]
    fitted_on: Annotated[list[str], "Data the calibrations were fitted on."]
    schema_versions: Annotated[list[int], "Schema versions of the runs' tables."]
    analyzed_at: Annotated[list[str], "Times of the first and the last analysis."]


class SkippedFolder(TypedDict):
    """A folder that is not in the report."""

    folder: Annotated[str, "Its name."]
    reason: Annotated[str, "Why."]


class Document(TypedDict):
    """The report document."""

    report_version: Annotated[int, "Version of this document."]
    analyzer_version: Annotated[str, "Version of the program."]
    made_at: Annotated[str, "When the report was made, ISO 8601."]
    title: Annotated[str, "Title of the video, or the number of videos."]
    kind: Annotated[Literal["video", "videos"], "Whether it is about a single run."]
    images: Annotated[bool, "Whether all runs are of images."]
    ages_measured: Annotated[bool, "Whether how often age intervals hold was measured for all models used."]
    filters: Annotated[list[str], "The choice of runs, in words."]
    min_people: Annotated[int, "Groups of fewer people are suppressed."]
    timezone: Annotated[str, "Time zone of days and hours."]
    age_bands: Annotated[list[str], "The age bands."]
    total: Annotated[Figures, "The figures of everything."]
    videos: Annotated[list[VideoRow], "The runs, newest first."]
    groups: Annotated[GroupTable | None, "The groups of `--by`."]
    shares: Annotated[list[ShareRow], "Estimated shares of everything, of groups and of videos."]
    screen_time: Annotated[list[ScreenTimeRow], "Time on screen by perceived gender and age."]
    pyramid: Annotated[list[PyramidCell], "People by perceived gender and age."]
    concurrent: Annotated[list[ConcurrentRow], "Time by number of concurrent people."]
    moments: Annotated[
        list[Moment], "The busiest moments; none if equally many people are on screen all the time."
    ]
    more_moments: Annotated[int, "Further moments that are as busy as the last of these."]
    timeline: Annotated[Timeline | None, "The timeline of a single video."]
    people: Annotated[list[PersonRow] | None, "The people of all videos; null with `--min-people`."]
    pairs: Annotated[list[Pair] | None, "Pairs of people of a single video."]
    image_rows: Annotated[list[ImageRow] | None, "The people in each image of a single set."]
    trend: Annotated[Trend | None, "Changes from period to period."]
    comparison: Annotated[Comparison | None, "Differences between groups."]
    audience: Annotated[AudienceComparison | None, "On screen against the audience."]
    attention: NotRequired[
        Annotated[AttentionTable, "Attention; only there if runs were analyzed with `--scene audience`."]
    ]
    provenance: Annotated[Provenance, "Where the figures come from."]
    notes: Annotated[list[str], "What a reader must know."]
    skipped: Annotated[list[SkippedFolder], "Folders that are not in the report."]
