"""``qkdctl tags``: look at files of time tags from anyone, convert them, record new ones."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qkdctl.cli import tag_texts, text
from qkdctl.cli.connection import Failure, WrongUsage, as_json
from qkdctl.cli.tag_options import Channels, Delay, Duration, tag_files, whole_ps

if TYPE_CHECKING:
    from qkdctl.tag_files import Input
    from timetags.files import TagFile

PS_PER_S = 10**12

plot_option = click.option(
    "--plot", type=click.Path(path_type=Path, dir_okay=False), help="Save a picture here."
)
bin_option = click.option(
    "--bin", "bin_", type=Duration(), default="1ns", show_default=True, help="Width of a bin."
)
channels_option = click.option("--channels", type=Channels(), help="Only these channels.")


@click.group()
def tags() -> None:
    """Look at time tags in files of many formats, convert and record them."""


@contextmanager
def failures() -> Iterator[None]:
    """Turn what may go wrong with files and analyses into one clear line."""
    from qkdctl.tag_analysis import NoPeakError
    from timetags.errors import TagFileError
    from timetags.matching import OrderError

    try:
        yield
    except (TagFileError, NoPeakError, OrderError) as exc:
        raise Failure(exc) from exc
    except ValueError as exc:
        raise WrongUsage(exc) from exc


@contextmanager
def opened(given: "Input") -> "Iterator[list[TagFile]]":
    """Open the files, and tell their damage on stderr at the end."""
    from qkdctl.tag_files import damage_lines

    with failures(), given.opened() as files:
        yield files
        for file in files:
            for line in damage_lines(file.damage):
                click.echo(f"warning: {file.path}: {line}", err=True)


def draw(name: str, subject: object, path: Path | None) -> None:
    """Save a picture, if one is wanted."""
    if path is None:
        return
    try:
        from qkdctl import tag_plots
    except ImportError as exc:
        raise Failure("no plot: install the extra 'plot' (matplotlib)") from exc
    getattr(tag_plots, name)(subject, path)


def answer(report: Mapping[str, Any], to_text: Callable[[Any], str], *, as_json: bool) -> None:
    """Print a report."""
    click.echo(json.dumps(report) if as_json else to_text(report))


@tags.command()
@tag_files
@as_json
def info(given: "Input", as_json: bool) -> None:
    """Tell what is in each of FILES: format, channels, times, and what is damaged."""
    from qkdctl.tag_files import describe
    from timetags.errors import TagFileError

    found, problems = [], []
    for each in given.one_by_one():
        try:
            with each.opened() as [file]:
                found.append(describe(file))
        except TagFileError as exc:
            problems.append(str(exc))
    if as_json:
        click.echo(json.dumps({"files": found, "problems": problems}))
    else:
        click.echo("\n\n".join(tag_texts.info_text(each) for each in found))
    for problem in problems:
        click.echo(f"error: {problem}", err=True)
    sys.exit(1 if problems else 0)


@tags.command()
@tag_files
@click.option(
    "--bin", "bin_", type=Duration(), default="1s", show_default=True, help="Length of a bin."
)
@plot_option
@as_json
def rates(given: "Input", bin_: Fraction, plot: Path | None, as_json: bool) -> None:
    """Count each channel over time; several FILES are one measurement."""
    from qkdctl.tag_analysis import find_rates, rates_report

    with opened(given) as files:
        found = find_rates(files, _whole(bin_))
    draw("draw_rates", found, plot)
    answer(rates_report(found), tag_texts.rates_text, as_json=as_json)


@tags.command()
@tag_files
@click.option("--between", type=int, help="Times from tag to tag of this channel; dead time.")
@click.option("--start", type=int, help="With --stop: times from the latest start to each stop.")
@click.option("--stop", type=int)
@click.option("--g2", type=Channels(2), help="Second-order correlation of two channels (or one).")
@bin_option
@click.option(
    "--range", "range_", type=Duration(), default="1us", show_default=True, help="How far."
)
@plot_option
@as_json
def histogram(
    given: "Input",
    between: int | None,
    start: int | None,
    stop: int | None,
    g2: tuple[int, int] | None,
    bin_: Fraction,
    range_: Fraction,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Histogram time differences; several FILES are one measurement."""
    from qkdctl import tag_analysis

    bin_ps = _whole(bin_)
    bins = max(1, round(range_ / bin_ps))
    has_start_stop = start is not None and stop is not None
    if (start is None) != (stop is None) or (between is not None) + has_start_stop + bool(g2) != 1:
        raise WrongUsage("say one of --between CHANNEL, --start CHANNEL --stop CHANNEL or --g2 A,B")
    if g2 is not None:
        with opened(given) as files:
            correlation = tag_analysis.find_correlation(files, g2, bin_ps, bins)
        draw("draw_correlation", correlation, plot)
        answer(tag_analysis.correlation_report(correlation), tag_texts.g2_text, as_json=as_json)
        return
    remarks: dict[str, Any] = {}
    with opened(given) as files:
        if between is not None:
            found, dead_time, why_not = tag_analysis.find_intervals(files, between, bin_ps, bins)
            remarks = {"dead_time": vars(dead_time) if dead_time else None, "why_not": why_not}
        elif start is not None and stop is not None:
            found = tag_analysis.find_start_stop(files, start, stop, bin_ps, bins)
    draw("draw_histogram", found, plot)
    report = tag_analysis.histogram_report(found) | remarks
    answer(report, tag_texts.histogram_text, as_json=as_json)


@tags.command()
@tag_files
@click.option("--channels", type=Channels(2), default="1,2", show_default=True)
@click.option(
    "--window", type=Duration(), default="1ns", show_default=True, help="Full width of the window."
)
@click.option("--delay", type=Duration(is_signed=True), help="What the second lags, if known.")
@click.option(
    "--max-offset", type=Duration(), default="2s", show_default=True, help="How far to look."
)
@click.option("--max-drift-ppm", type=click.FloatRange(min=0), default=5.0, show_default=True)
@click.option(
    "--side-spacing", type=Duration(), help="Distance of accidental windows: the pulse period."
)
@plot_option
@as_json
def coincidences(
    given: "Input",
    channels: tuple[int, int],
    window: Fraction,
    delay: Fraction | None,
    max_offset: Fraction,
    max_drift_ppm: float,
    side_spacing: Fraction | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Count coincidences: of two channels of one FILE, or of two FILES of two receivers.

    The delay is looked for unless it is given; between two receivers the drift of their clocks is
    estimated and removed as well.
    """
    from qkdctl.tag_analysis import Search, find_pairs, pairs_report

    if len(given.paths) > 2:
        raise WrongUsage("give one file, or one of each of two receivers")
    search = Search(whole_ps(delay), float(max_offset / PS_PER_S), max_drift_ppm)
    with opened(given) as files:
        found = find_pairs(given, channels, round(window), search, whole_ps(side_spacing), files)
        if plot is not None:
            draw("draw_correlation", found.correlation(), plot)
    answer(pairs_report(found), tag_texts.pairs_text, as_json=as_json)


@tags.command()
@tag_files
@click.option("--slot", type=Duration(), help="Duration of a slot.")
@click.option("--clock-hz", type=click.FloatRange(min=0, min_open=True), help="Slots per second.")
@click.option("--period", type=click.IntRange(min=1), help="Slots after which it repeats.")
@click.option("--pattern", help="State of each slot, of H, V, D and A, instead of --period.")
@click.option("--gate", type=Duration(), help="Width of the gate about a slot's centre.")
@click.option(
    "--channels", type=Channels(), default="1,2,3,4", show_default=True, help="The detectors."
)
@click.option(
    "--delay", "delays", type=Delay(), multiple=True, help="When slot 0 begins; repeatable."
)
@plot_option
@as_json
def fold(
    given: "Input",
    slot: Fraction | None,
    clock_hz: float | None,
    period: int | None,
    pattern: str | None,
    gate: Fraction | None,
    channels: tuple[int, ...],
    delays: Sequence[tuple[int, Fraction]],
    plot: Path | None,
    as_json: bool,
) -> None:
    """Fold on a repeating pattern of slots; with --pattern, sift into sent state by detector."""
    from qkdctl.tag_analysis import STATES, find_folded, folded_report

    if (slot is None) == (clock_hz is None) or (period is None) == (pattern is None):
        raise WrongUsage("say --slot or --clock-hz, and --period or --pattern")
    if pattern is not None and (not pattern or set(pattern) - set(STATES)):
        raise WrongUsage(f"{pattern!r} is not a pattern of {', '.join(STATES)}")
    slot_ps = slot if slot is not None else Fraction(PS_PER_S) / Fraction(clock_hz or 1)
    slots = len(pattern) if pattern is not None else period or 1
    begins = dict.fromkeys(channels, 0) | {channel: round(delay) for channel, delay in delays}
    with opened(given) as files:
        found = find_folded(files, slot_ps, slots, gate, begins)
    draw("draw_folded", found, plot)
    answer(folded_report(found, pattern), tag_texts.fold_text, as_json=as_json)


@tags.command()
@tag_files
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--to", "to_format", metavar="FORMAT", help="Format, instead of by TARGET's name.")
@channels_option
@click.option("--to-tick", type=Duration(), help="Tick to write with, for formats with ticks.")
@click.option("--to-record", metavar="KIND", default="multiharp-t2", help="Kind of PTU record.")
@click.option("--to-period", type=Duration(), help="Period of START (ID900) or sync (PTU T3).")
@click.option("--to-index", is_flag=True, help="ID900: write a reference index.")
@as_json
def convert(
    given: "Input",
    target: Path,
    to_format: str | None,
    channels: tuple[int, ...] | None,
    to_tick: Fraction | None,
    to_record: str,
    to_period: Fraction | None,
    to_index: bool,
    as_json: bool,
) -> None:
    """Write the tags of FILES, merged in order of time, to TARGET."""
    from qkdctl.tag_files import damage_of, write_merged
    from timetags.formats.format import Conventions

    conventions = Conventions(
        channel=channels[0] if channels else given.conventions.channel,
        tick_ps=to_tick,
        reference_period_ps=whole_ps(to_period),
        has_index=to_index,
        ptu_record=to_record,
    )
    with opened(given) as files:
        written = write_merged(files, target, to_format, conventions, channels)
        report = {
            "file": str(target),
            "tags": written,
            "damage": {str(file.path): damage_of(file) for file in files if file.damage},
        }
    answer(report, lambda said: f"{said['file']}: {text.count(said['tags'])} tags", as_json=as_json)


@tags.command()
@click.argument("testbed", type=click.Path(path_type=Path))
@click.argument("instrument")
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--duration", type=Duration(), required=True, help="How long to record.")
@click.option(
    "--inputs", type=Channels(), default="1,2,3,4", show_default=True, help="Which inputs."
)
@click.option("--to", "to_format", metavar="FORMAT", help="Format, instead of by TARGET's name.")
@as_json
def record(
    testbed: Path,
    instrument: str,
    target: Path,
    duration: Fraction,
    inputs: tuple[int, ...],
    to_format: str | None,
    as_json: bool,
) -> None:
    """Record from INSTRUMENT of the TESTBED file to TARGET; Ctrl-C ends the file well."""
    from drivers.errors import InstrumentError
    from drivers.transport.connect import Connector
    from qkdctl.config import TestbedFileError, load_testbed
    from qkdctl.tag_recording import RecordingError, build_recorder, run_recording, times_of
    from timetags.files import TagWriter

    try:
        recorder = build_recorder(load_testbed(testbed), instrument, Connector())
    except (TestbedFileError, RecordingError) as exc:
        raise WrongUsage(exc) from exc
    metadata = {"instrument": instrument, "testbed": str(testbed), "times": times_of(recorder)}
    with failures():
        writer = TagWriter(target, to_format, metadata)
        try:
            recording = run_recording(recorder, float(duration / PS_PER_S), inputs, writer)
        except InstrumentError as exc:
            raise Failure(exc) from exc
    report = {"file": str(target), "tags": writer.tags, "ended_by": recording.ended_by}
    answer(report, tag_texts.record_text, as_json=as_json)
    sys.exit(0 if recording.ended_by in (None, "SIGINT", "SIGTERM") else 1)


def _whole(duration_ps: Fraction) -> int:
    """Width of a bin, which is whole picoseconds."""
    if duration_ps != int(duration_ps) or duration_ps < 1:
        raise WrongUsage(f"a bin is whole picoseconds, not {float(duration_ps):g}")
    return int(duration_ps)
