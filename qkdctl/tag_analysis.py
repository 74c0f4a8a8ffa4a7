"""What ``qkdctl tags`` finds out: reports of plain numbers, made of ``timetags``' analyses."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from qkdctl.tag_files import Input, Merged
from timetags.clock_track import follow_clock
from timetags.clocks import ClockOffset
from timetags.coincidences import Coincidences, count_coincidences
from timetags.correlation import Correlation, correlate
from timetags.dead_time import DeadTime, TooFewTagsError, estimate_dead_time
from timetags.files import TagFile
from timetags.fold import Folded, Slots, fold
from timetags.histograms import Histogram, inter_arrival_histogram, start_stop_histogram
from timetags.matching import ChannelPair, OneStream, TwoStreams
from timetags.offset import OffsetSearch, find_offset_of_streams
from timetags.rates import Rates, count_rates
from timetags.sifting import sift

STATES = "HVDA"

SAME_CLOCK_DRIFT_PPM = 0.001
"""Drift searched between channels of one clock: none, but the search needs some."""

PLOT_BINS_A_WINDOW = 8
PLOT_WINDOWS = 12


class NoPeakError(Exception):
    """No delay stands out of chance; the text says what would help."""


def rates_report(rates: Rates) -> dict[str, Any]:
    """Rates of each channel, whole and bin by bin."""
    duration_s = rates.duration_s
    by_bin = rates.rates_hz
    return {
        "duration_s": duration_s,
        "bin_s": rates.bin_ps * 1e-12,
        "channels": [
            {
                "channel": channel,
                "tags": tags,
                "rate_hz": tags / duration_s if duration_s else None,
                "rates_hz": [None if np.isnan(rate) else rate for rate in by_bin[:, at].tolist()],
            }
            for at, (channel, tags) in enumerate(rates.totals.items())
        ],
    }


def find_rates(files: Sequence[TagFile], bin_ps: int) -> Rates:
    """Count all channels in stretches of ``bin_ps``."""
    return count_rates(Merged(files), bin_ps)


def find_intervals(
    files: Sequence[TagFile], channel: int, bin_ps: int, bins: int
) -> tuple[Histogram, DeadTime | None, str | None]:
    """Histogram of inter-arrival times, with dead time and afterpulsing or why they are unknown."""
    histogram = inter_arrival_histogram(Merged(files), channel, bin_ps, bins)
    try:
        return histogram, estimate_dead_time(histogram), None
    except TooFewTagsError as exc:
        return histogram, None, str(exc)


def find_start_stop(
    files: Sequence[TagFile], start: int, stop: int, bin_ps: int, bins: int
) -> Histogram:
    """Histogram of times from the latest start to each stop."""
    return start_stop_histogram(Merged(files), start, stop, bin_ps, bins)


def find_correlation(
    files: Sequence[TagFile], channels: tuple[int, int], bin_ps: int, bins: int
) -> Correlation:
    """Second-order correlation of two channels up to ``bins`` bins either side."""
    return correlate(OneStream(Merged(files), *channels), bin_ps, bin_ps * bins)


def histogram_report(histogram: Histogram) -> dict[str, Any]:
    """A histogram of time differences."""
    return {
        "bin_ps": histogram.bin_ps,
        "counts": histogram.counts.tolist(),
        "longer": histogram.longer,
        "total": histogram.total,
    }


def correlation_report(found: Correlation) -> dict[str, Any]:
    """A second-order correlation."""
    return {
        "bin_ps": found.bin_ps,
        "lags_ps": found.lags_ps.tolist(),
        "counts": found.counts.tolist(),
        "g2": _finite(found.g2),
        "g2_error": _finite(found.g2_error),
        "singles": [found.singles_a, found.singles_b],
        "duration_s": found.duration_s,
    }


@dataclass(frozen=True)
class Search:
    """How the delay between two channels is found.

    Attributes:
        delay_ps: The delay, if it is known.
        max_offset_s: Largest delay looked for, s.
        max_drift_ppm: Largest difference of the clocks looked for, parts per million.
    """

    delay_ps: int | None
    max_offset_s: float
    max_drift_ppm: float


@dataclass(frozen=True)
class FoundPairs:
    """Coincidences, and how the clocks were brought together.

    Attributes:
        coincidences: The pairs.
        search: What a search came to; None if the delay was given.
        pair: The two channels side by side, to be looked at again.
        delay_ps: What the second channel lags once the clocks are brought together, ps.
    """

    coincidences: Coincidences
    search: OffsetSearch | None
    pair: ChannelPair
    delay_ps: int

    def correlation(self) -> Correlation:
        """Correlation about the peak, for a plot."""
        window_ps = self.coincidences.window_ps
        bin_ps = max(1, window_ps // PLOT_BINS_A_WINDOW)
        return correlate(self.pair, bin_ps, PLOT_WINDOWS * window_ps, self.delay_ps)


def find_pairs(
    first: Input,
    channels: tuple[int, int],
    window_ps: int,
    search: Search,
    side_spacing_ps: int | None,
    files: Sequence[TagFile],
) -> FoundPairs:
    """Count the coincidences of two channels, of one file or of two receivers' files.

    Args:
        first: How the files are opened; a search needs the only file twice.
        channels: A channel of the first file, and one of the last.
        window_ps: Full width of the window, ps.
        search: How the delay is found.
        side_spacing_ps: Distance of the windows that tell the accidental pairs; None is ten widths.
        files: The one or two files, open.

    Raises:
        NoPeakError: No delay stands out.
    """
    found = None
    if search.delay_ps is None:
        found = _search(first, channels, search, files)
    pair, delay_ps = _side_by_side(channels, files, found.clock if found else None)
    delay_ps = search.delay_ps if search.delay_ps is not None else delay_ps
    coincidences = count_coincidences(pair, window_ps, delay_ps, side_spacing_ps=side_spacing_ps)
    return FoundPairs(coincidences, found, pair, delay_ps)


def _search(
    first: Input, channels: tuple[int, int], search: Search, files: Sequence[TagFile]
) -> OffsetSearch:
    with first.opened() as again:  # both channels of one file are read at once
        drift_ppm = search.max_drift_ppm if len(files) > 1 else SAME_CLOCK_DRIFT_PPM
        found = find_offset_of_streams(
            files[0],
            channels[0],
            again[-1],
            channels[1],
            max_offset_s=search.max_offset_s,
            max_drift_ppm=drift_ppm,
        )
    if found.clock is None:
        for file, channel in zip((files[0], files[-1]), channels, strict=True):
            _check_has_tags(file, channel)
        raise NoPeakError(
            f"no delay within {search.max_offset_s:g} s and {drift_ppm:g} ppm stands out of chance "
            f"(chance alone does as well in {found.false_alarm:.2g} of all cases): "
            "see that the channels are right, look further, or give the delay"
        )
    return found


def _check_has_tags(file: TagFile, channel: int) -> None:
    """Raise NoPeakError where a channel is empty, and name those that are not."""
    there = sorted({number for block in file for number in np.unique(block.channel).tolist()})
    if channel not in there:
        named = ", ".join(map(str, there)) or "none"
        raise NoPeakError(
            f"{file.path}: channel {channel} has no tags; channels with tags: {named}; "
            "name one of each file or receiver with --channels"
        )


def _side_by_side(
    channels: tuple[int, int], files: Sequence[TagFile], clock: ClockOffset | None
) -> tuple[ChannelPair, int]:
    """Put the channels side by side; two receivers' clocks are followed along the recording."""
    if len(files) == 1:
        delay_ps = 0 if clock is None else round(clock.offset_ps)
        return OneStream(files[0], *channels), delay_ps
    recordings = files[0], channels[0], files[1], channels[1]
    to_a = None if clock is None else follow_clock(*recordings, clock).to_a
    return TwoStreams(*recordings, to_a), 0


def pairs_report(found: FoundPairs) -> dict[str, Any]:
    """Coincidences, with what the search came to."""
    pairs = found.coincidences
    return {
        "window_ps": pairs.window_ps,
        "delay_ps": found.delay_ps,
        "pairs": pairs.pairs,
        "accidentals": pairs.accidentals,
        "accidentals_error": pairs.accidentals_error,
        "true_pairs": pairs.true_pairs,
        "true_pairs_error": pairs.true_pairs_error,
        "visibility": _number(pairs.visibility),
        "visibility_error": _number(pairs.visibility_error),
        "coincidence_to_accidental": _number(pairs.coincidence_to_accidental),
        "singles": [pairs.singles_a, pairs.singles_b],
        "efficiencies": [_number(share) for share in pairs.efficiencies],
        "duration_s": pairs.duration_s,
        "clock": asdict(found.search.clock) if found.search and found.search.clock else None,
        "false_alarm": found.search.false_alarm if found.search else None,
    }


def find_folded(
    files: Sequence[TagFile],
    slot_ps: Fraction,
    period: int,
    gate_ps: Fraction | None,
    delays_ps: Mapping[int, int],
) -> Folded:
    """Fold on a pattern of equal slots."""
    return fold(Merged(files), Slots(slot_ps, period, gate_ps), delays_ps)


def folded_report(folded: Folded, pattern: str | None) -> dict[str, Any]:
    """Counts per slot and detector, and by the state sent where the pattern is known."""
    report: dict[str, Any] = {
        "channels": list(folded.channels),
        "counts": folded.counts.tolist(),
        "outside": folded.outside.tolist(),
        "other": folded.other,
    }
    if pattern is not None:
        table = sift(folded, [STATES.index(state) for state in pattern])[0]
        report |= {"states": list(STATES), "table": table.tolist()}
    return report


def _number(value: float) -> float | None:
    """A number as JSON can say it."""
    return float(value) if np.isfinite(value) else None


def _finite(values: "np.ndarray[Any, np.dtype[np.float64]]") -> list[float | None]:
    return [_number(value) for value in values.tolist()]
