"""Task ``tags``: how many time tags a second are folded, and matched, on one core.

Every method gets the same generated stream and must come to the same counts, which is checked:
``same_counts`` is 1 for a run in which it did. ``numpy`` is what one would write in a few
lines: whole arrays, one detector after the other. Times are processor times of one thread, the
median of a few repetitions for each seed; ``peak_mib`` is what is allocated on the way.
"""

import importlib
import importlib.util
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from timetags.block import TagBlock
from timetags.coincidences import count_coincidences
from timetags.fold import Slots, fold
from timetags.matching import OneStream
from timetags.sifting import sift

Row = dict[str, Any]
Counts = NDArray[np.int64]

VERSION = 1

TAGS = 1 << 22
BLOCK_TAGS = 1 << 18
REPETITIONS = 5

SLOT_PS, GATE_PS = 1000, 600
STATES = np.arange(12) % 4
INTENSITIES = np.arange(12) % 3
DELAYS_PS = {1: 0, 2: 130, 3: 4260, 4: -390}
RATE_HZ = 4e6

WINDOW_PS, DELAY_PS = 1000, 12_345
PAIR_SHARE = 0.1
SINGLES_HZ = 1e6
JITTER_PS = 150.0


@dataclass(frozen=True)
class Stream:
    """Time tags in order, shapes ``(n,)``."""

    channel: NDArray[np.int16]
    time_ps: NDArray[np.int64]

    def blocks(self) -> Iterator[TagBlock]:
        """Yield the stream as a reader of files does."""
        for first in range(0, len(self.time_ps), BLOCK_TAGS):
            block = slice(first, first + BLOCK_TAGS)
            yield TagBlock(self.channel[block], self.time_ps[block])


def pattern_stream(seed: int, tags: int) -> Stream:
    """Clicks of four detectors at random slots, near the slots' centres."""
    rng = np.random.default_rng(seed)
    slot = np.sort(rng.integers(0, round(tags / RATE_HZ * 1e12 / SLOT_PS), tags))
    channel = rng.integers(1, 5, tags).astype(np.int16)
    jitter_ps = np.rint(rng.normal(0, 2 * JITTER_PS, tags)).astype(np.int64)
    delay_ps = np.array([0, *DELAYS_PS.values()])[channel]
    return _sorted(channel, slot * SLOT_PS + SLOT_PS // 2 + jitter_ps + delay_ps)


def pair_stream(seed: int, tags: int) -> Stream:
    """Clicks of two detectors, a share of which are pairs."""
    rng = np.random.default_rng(seed)
    each = tags // 2
    length_ps = each / SINGLES_HZ * 1e12
    a_ps, b_ps = rng.uniform(0, length_ps, (2, each))
    pairs = int(PAIR_SHARE * each)
    b_ps[:pairs] = a_ps[:pairs] + DELAY_PS + rng.normal(0, JITTER_PS, pairs)
    channel = np.repeat(np.array([1, 2], dtype=np.int16), each)
    return _sorted(channel, np.rint(np.concatenate([a_ps, b_ps])).astype(np.int64))


def _sorted(channel: NDArray[np.int16], time_ps: NDArray[np.int64]) -> Stream:
    order = np.argsort(time_ps, kind="stable")
    return Stream(channel[order], time_ps[order])


def fold_ours(stream: Stream) -> Counts:
    """Fold block by block, then sift."""
    folded = fold(stream.blocks(), Slots(SLOT_PS, len(STATES), GATE_PS), DELAYS_PS)
    return sift(folded, STATES, INTENSITIES)


def fold_numpy(stream: Stream) -> Counts:
    """Fold whole arrays with division and remainder."""
    table = np.zeros((3, 4, 4), dtype=np.int64)
    for detector, (number, delay_ps) in enumerate(DELAYS_PS.items()):
        since_ps = stream.time_ps[stream.channel == number] - delay_ps
        in_gate = np.abs(since_ps % SLOT_PS - SLOT_PS // 2) <= GATE_PS // 2
        slot = since_ps // SLOT_PS % len(STATES)
        counts = np.bincount(slot[in_gate], minlength=len(STATES))
        np.add.at(table[:, :, detector], (INTENSITIES, STATES), counts)
    return table


def coincidences_ours(stream: Stream) -> Counts:
    """Merge both channels block by block."""
    channels = OneStream(stream.blocks(), 1, 2)
    return np.array(count_coincidences(channels, WINDOW_PS, DELAY_PS, side_windows=0).pairs)


def coincidences_and_side(stream: Stream) -> Counts:
    """Count accidental pairs beside the peak as well, as ``qkdctl tags coincidences`` does."""
    return np.array(count_coincidences(OneStream(stream.blocks(), 1, 2), WINDOW_PS, DELAY_PS).pairs)


def coincidences_numpy(stream: Stream) -> Counts:
    """Search both edges of each tag's window in the whole other channel."""
    a_ps = stream.time_ps[stream.channel == 1] + DELAY_PS
    b_ps = stream.time_ps[stream.channel == 2]
    first = np.searchsorted(b_ps, a_ps - WINDOW_PS // 2, side="left")
    end = np.searchsorted(b_ps, a_ps + WINDOW_PS // 2, side="right")
    return np.array((end - first).sum())


class Tangy:
    """Coincidences of the compiled library tangy, in its favour: its buffer is filled beforehand.

    Its rule for which tags coincide is its own, so that its counts are others.
    """

    def __init__(self) -> None:
        self._tangy = importlib.import_module("tangy")
        self._filled_with: Stream | None = None
        self._buffer: Any = None

    def __call__(self, stream: Stream) -> Counts:
        """Count the coincidences of a stream; the first time it is seen, fill the buffer."""
        if self._filled_with is not stream:
            since_ps = (stream.time_ps - stream.time_ps[0]).astype(np.uint64)
            name = f"qkdctl-bench-{os.getpid()}"
            self._buffer = self._tangy.TangyBuffer(name, 1e-12, 1.0, 4, len(since_ps) + 1)
            self._buffer.clear()
            self._buffer.push(stream.channel.astype(np.uint8), since_ps)
            self._filled_with = stream
        whole_s = self._buffer.time_in_buffer() * (1 - 1e-9)
        delays_s = [0.0, DELAY_PS * 1e-12]
        return np.array(self._buffer.coincidence_count(whole_s, WINDOW_PS / 2e12, [1, 2], delays_s))


OWN_METHODS = ("ours", "ours-with-accidentals", "numpy")

METHODS = (*OWN_METHODS, "tangy")
"""The last one where it is installed."""

CASES: dict[str, Callable[[int, int], Stream]] = {
    "fold": pattern_stream,
    "coincidences": pair_stream,
}

COUNT: dict[tuple[str, str], Callable[[Stream], Counts]] = {
    ("fold", "ours"): fold_ours,
    ("fold", "numpy"): fold_numpy,
    ("coincidences", "ours"): coincidences_ours,
    ("coincidences", "ours-with-accidentals"): coincidences_and_side,
    ("coincidences", "numpy"): coincidences_numpy,
}
if importlib.util.find_spec("tangy") is not None:
    COUNT["coincidences", "tangy"] = Tangy()


def run(seeds: range, methods: Sequence[str], cases: Sequence[str]) -> list[Row]:
    """Run every method on every case with every seed.

    Returns:
        Rows of method, case, metric, unit, n, median, mean, p90 and bound (there is none).
        ``times_numpy`` is the ratio of the speeds on the same stream.
    """
    rows = []
    for case in cases:
        chosen = [method for method in methods if (case, method) in COUNT]
        runs: dict[str, list[_Run]] = {method: [] for method in chosen}
        for seed in seeds:
            stream = CASES[case](seed, TAGS)
            plain = _run(COUNT[case, "numpy"], stream)
            for method in chosen:
                count = COUNT[case, method]
                runs[method].append(plain if method == "numpy" else _run(count, stream, plain))
        for method in chosen:
            rows += [{"method": method, "case": case, **row} for row in _figures(runs[method])]
    return rows


@dataclass(frozen=True)
class _Run:
    counts: Counts
    tags_per_s: float
    peak_mib: float
    times_numpy: float = 1.0
    is_same: bool = True


def _run(count: Callable[[Stream], Counts], stream: Stream, plain: _Run | None = None) -> _Run:
    tracemalloc.start()
    counts = count(stream)  # also warms up what comes next
    peak_mib = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    spent_s = []
    for _ in range(REPETITIONS):
        began_s = time.process_time()
        count(stream)
        spent_s.append(time.process_time() - began_s)
    tags_per_s = len(stream.time_ps) / float(np.median(spent_s))
    if plain is None:
        return _Run(counts, tags_per_s, peak_mib)
    is_same = np.array_equal(counts, plain.counts)
    return _Run(counts, tags_per_s, peak_mib, tags_per_s / plain.tags_per_s, is_same)


def _figures(runs: Sequence[_Run]) -> Iterator[Row]:
    yield _figure("tags_per_s", "tags/s", [run.tags_per_s for run in runs])
    yield _figure("times_numpy", "ratio", [run.times_numpy for run in runs])
    yield _figure("peak_mib", "MiB", [run.peak_mib for run in runs])
    yield _figure("same_counts", "share", [float(run.is_same) for run in runs])


def _figure(metric: str, unit: str, values: Sequence[float]) -> Row:
    median, p90 = np.quantile(values, [0.5, 0.9])
    return {
        "metric": metric,
        "unit": unit,
        "n": len(values),
        "median": float(median),
        "mean": float(np.mean(values)),
        "p90": float(p90),
        "bound": None,
    }
