"""Time tags folded on Alice's known repeating pattern: one calibration frame, state by state."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from calibration.clicks import STATES, Window
from drivers.roles import TimeTags

MAX_PERIOD_SLOTS = 100_000
"""Longest pattern that is folded; it bounds the memory of a window."""

DARK_SIGNIFICANCE = 1e-3
"""How rarely darkness alone may look like a signal."""

CHUNK_TAGS = 1 << 16
"""Tags folded at a time, so that the intermediate arrays stay in the processor's cache."""


@dataclass(frozen=True)
class Pattern:
    """What Alice sends, over and over, in a calibration frame.

    Slot ``k`` carries ``states[k % len(states)]`` with ``intensities[k % len(intensities)]``. The
    tagger's START fires once per period, which is the least common multiple of both lengths.

    Attributes:
        states: Sent states, letters of STATES, for example ``"HVDA"``.
        intensities: Names of the sent intensities.
        clock_hz: Slots per second, Hz.
        signal: The intensity that makes key, one of ``intensities``.

    Raises:
        ValueError: A state is unknown, a state is never sent with one of the intensities, the
            signal is never sent, the clock is not positive, or the period is longer than
            MAX_PERIOD_SLOTS.
    """

    states: str
    intensities: tuple[str, ...]
    clock_hz: float
    signal: str = "signal"

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.states) - set(STATES)):
            raise ValueError(f"unknown state {unknown[0]!r}: states are {', '.join(STATES)}")
        if self.signal not in self.intensities:
            raise ValueError(f"the pattern never sends the signal intensity {self.signal!r}")
        if not 0 < self.clock_hz < math.inf:
            raise ValueError(f"a clock of {self.clock_hz} Hz is not possible")
        if self.period > MAX_PERIOD_SLOTS:
            raise ValueError(
                f"the pattern repeats after {self.period} slots, more than {MAX_PERIOD_SLOTS}: "
                "shorten states or intensities"
            )
        self._refuse_missing_combinations()

    def _refuse_missing_combinations(self) -> None:
        sent = set(zip(self.state_of_slot, self.intensity_of_slot, strict=True))
        for number, name in enumerate(self.intensity_names):
            missing = [s for i, s in enumerate(STATES) if (i, number) not in sent]
            if missing:
                raise ValueError(
                    f"state {missing[0]} is never sent with intensity {name!r}: name all of "
                    f"{''.join(STATES)} in states, and give states ({len(self.states)} long) and "
                    f"intensities ({len(self.intensities)} long) lengths without a common factor"
                )

    @property
    def slot_ps(self) -> float:
        """Duration of one slot, ps."""
        return 1e12 / self.clock_hz

    @property
    def period(self) -> int:
        """Slots after which the pattern repeats."""
        return math.lcm(len(self.states), len(self.intensities))

    @cached_property
    def intensity_names(self) -> tuple[str, ...]:
        """Each intensity once, the signal first, then in the order of the pattern."""
        return tuple(dict.fromkeys((self.signal, *self.intensities)))

    @cached_property
    def state_of_slot(self) -> NDArray[np.intp]:
        """Index into STATES of each slot, shape ``(period,)``."""
        return np.resize([STATES.index(s) for s in self.states], self.period)

    @cached_property
    def intensity_of_slot(self) -> NDArray[np.intp]:
        """Index into ``intensity_names`` of each slot, shape ``(period,)``."""
        return np.resize([self.intensity_names.index(i) for i in self.intensities], self.period)


@dataclass(frozen=True)
class _Folded:
    """One detector's tags, folded: counts per slot in the gate, and their timing, ps."""

    per_slot: NDArray[np.int64]
    tags: int
    mean_ps: float
    std_ps: float


def fold(
    tags: TimeTags,
    pattern: Pattern,
    inputs: Mapping[str, int],
    delays_ps: Mapping[str, float],
    gate_ps: float,
    start_s: float,
    *,
    max_rate_hz: float = math.inf,
) -> Window:
    """Fold one acquisition on the pattern.

    A tag at ``t`` after START belongs to slot ``floor((t - delay) / slot) mod period`` and counts
    if it lies within half a gate of that slot's centre.

    Detectors may share an input if their delays tell them apart, as early and late pulses at one
    detector do: each takes the tags within its own gate, and as ``singles`` those as well as its
    share of the tags in no gate.

    Time since START does not say in *which* repetition a tag fell, so two detectors firing in the
    same slot cannot be told from two firing a repetition apart: double clicks stay unknown.

    The window is flagged ``dark`` when the clicks in the gates of the signal slots are no more
    than clicks spread evenly over time would give (exact binomial test): no light, or wrong
    delays. It is flagged ``saturated`` when a detector counts faster than ``max_rate_hz``.

    Args:
        tags: Time stamps per tagger input.
        pattern: What Alice sent.
        inputs: Tagger input of each detector, by detector letter.
        delays_ps: Arrival of slot 0's start after START, by detector letter, ps.
        gate_ps: Full width of the gate about the slot's centre, ps.
        start_s: Start of the acquisition, seconds since the epoch.
        max_rate_hz: Rate of one detector above which its counts are not to be trusted, Hz.

    Raises:
        ValueError: A detector has no input, delay or tags, or the gate is not within one slot.
    """
    if not 0 < gate_ps <= pattern.slot_ps:
        raise ValueError(f"a gate of {gate_ps} ps is not within a slot of {pattern.slot_ps:g} ps")
    folded = [
        _fold_detector(_tags_of(tags, inputs, detector), pattern, delays_ps[detector], gate_ps)
        for detector in _all_detectors(delays_ps, "delay")
    ]
    clicks = np.zeros((len(pattern.intensity_names), len(STATES), len(STATES)), dtype=np.int64)
    for detector, one in enumerate(folded):
        slots = (pattern.intensity_of_slot, pattern.state_of_slot)
        np.add.at(clicks[:, :, detector], slots, one.per_slot)
    tagged = np.array([one.tags for one in folded], dtype=np.int64)
    flags = set()
    if _is_dark(int(clicks[0].sum()), int(tagged.sum()), pattern, gate_ps):
        flags.add("dark")
    if int(tagged.max()) > max_rate_hz * tags.duration_s:
        flags.add("saturated")
    return Window(
        start_s=start_s,
        duration_s=tags.duration_s,
        source="pattern",
        disclosure="calibration",
        intensities=pattern.intensity_names,
        clicks=clicks,
        singles=_singles(folded, [inputs[detector] for detector in STATES]),
        double_clicks=None,
        timing_mean_ps=np.array([one.mean_ps for one in folded]),
        timing_std_ps=np.array([one.std_ps for one in folded]),
        flags=frozenset(flags),
    )


def _singles(folded: Sequence[_Folded], inputs: Sequence[int]) -> NDArray[np.int64]:
    """Return each detector's clicks so that none of a shared input is counted twice."""
    singles = np.array([one.tags for one in folded], dtype=np.int64)
    for shared in {each for each in inputs if inputs.count(each) > 1}:
        sharing = [index for index, each in enumerate(inputs) if each == shared]
        gated = [int(folded[index].per_slot.sum()) for index in sharing]
        rest = max(folded[sharing[0]].tags - sum(gated), 0)
        for number, (index, own) in enumerate(zip(sharing, gated, strict=True)):
            singles[index] = own + (rest + number) // len(sharing)
    return singles


def _all_detectors(mapping: Mapping[str, object], what: str) -> tuple[str, ...]:
    if missing := [detector for detector in STATES if detector not in mapping]:
        raise ValueError(f"detector {missing[0]} has no {what}")
    return STATES


def _tags_of(tags: TimeTags, inputs: Mapping[str, int], detector: str) -> NDArray[np.uint64]:
    if detector not in inputs:
        raise ValueError(f"detector {detector} has no tagger input")
    if inputs[detector] not in tags.since_sync_ps:
        raise ValueError(f"no tags of detector {detector} (input {inputs[detector]})")
    return tags.since_sync_ps[inputs[detector]]


def _fold_detector(
    since_sync_ps: NDArray[np.uint64], pattern: Pattern, delay_ps: float, gate_ps: float
) -> _Folded:
    slot_ps, period = pattern.slot_ps, pattern.period
    half_gate = gate_ps / (2 * slot_ps)
    per_slot = np.zeros(period, dtype=np.int64)
    total = total_of_squares = 0.0
    for first in range(0, len(since_sync_ps), CHUNK_TAGS):
        phase = since_sync_ps[first : first + CHUNK_TAGS].astype(np.float64)
        phase -= delay_ps
        phase /= slot_ps
        slot = np.floor(phase)
        phase -= slot
        phase -= 0.5  # now the offset from the slot's centre, in slots
        in_gate = np.abs(phase) <= half_gate
        per_slot += np.bincount(slot[in_gate].astype(np.int64) % period, minlength=period)
        offset = phase[in_gate]
        total += float(offset.sum())
        total_of_squares += float(np.square(offset).sum())
    counted = int(per_slot.sum())
    if counted == 0:
        return _Folded(per_slot, len(since_sync_ps), math.nan, math.nan)
    mean = total / counted
    variance = max(total_of_squares / counted - mean**2, 0.0)
    return _Folded(per_slot, len(since_sync_ps), mean * slot_ps, math.sqrt(variance) * slot_ps)


def _is_dark(signal: int, singles: int, pattern: Pattern, gate_ps: float) -> bool:
    """Whether clicks spread evenly over time would put as many into the signal gates."""
    signal_slots = np.count_nonzero(pattern.intensity_of_slot == 0) / pattern.period
    share = signal_slots * gate_ps / pattern.slot_ps
    if share == 1:  # nothing but signal, no gate: nothing to compare with
        return signal == 0
    return bool(binom.sf(signal - 1, singles, share) > DARK_SIGNIFICANCE)


def find_delays(
    tags: TimeTags,
    pattern: Pattern,
    inputs: Mapping[str, int],
    expected_ps: float = 0.0,
) -> dict[str, float]:
    """Find when slot 0 starts at each detector, from the light's own rhythm.

    The part below one slot comes from the phase of the arrivals at the clock frequency (their
    first Fourier component; an even background drops out). Whole slots come from the circular
    correlation of the counts with the places of the signal in the intensity pattern; where each
    state meets each place, as with lengths without a common factor, the polarization drops out.

    Limits: clicks must crowd within a slot; whole slots are known modulo the length of the
    intensity pattern only, so of the possible delays the one nearest to ``expected_ps`` is
    returned, and the expectation must be right to half that length. A pattern of one intensity
    alone leaves every whole slot possible.

    Args:
        tags: Time stamps per tagger input.
        pattern: What Alice sent.
        inputs: Tagger input of each detector, by detector letter.
        expected_ps: Where the delay is expected (cable and fibre length), ps.

    Returns:
        Delay by detector letter, ps.

    Raises:
        ValueError: A detector has no tags, or its clicks show no rhythm (no light).
    """
    return {
        detector: find_delay(_tags_of(tags, inputs, detector), pattern, expected_ps, detector)
        for detector in _all_detectors(inputs, "tagger input")
    }


def find_delay(
    since_sync_ps: NDArray[np.uint64], pattern: Pattern, expected_ps: float, detector: str
) -> float:
    """Find when slot 0 starts at one detector, as ``find_delays`` does for all.

    Args:
        since_sync_ps: Its clicks since the latest START event, ps, shape ``(n,)``.
        pattern: What Alice sends.
        expected_ps: Where the delay is expected, ps.
        detector: Its letter, for errors.

    Raises:
        ValueError: The clicks show no rhythm.
    """
    phase = (since_sync_ps.astype(np.float64) - expected_ps) / pattern.slot_ps
    rhythm = np.exp(2j * np.pi * phase).sum()
    # Without light the squared length over n is exponential with mean 1 (Rayleigh's test).
    if abs(rhythm) ** 2 <= -math.log(DARK_SIGNIFICANCE) * len(phase):
        raise ValueError(
            f"the {len(phase)} clicks of detector {detector} do not follow a clock of "
            f"{pattern.clock_hz:g} Hz: no light, or another clock"
        )
    # The crowd belongs at the centre of its slot, half a slot after the slot's start.
    below_slot = (np.angle(rhythm) / (2 * np.pi) - 0.5) % 1.0
    length = len(pattern.intensities)
    slots = np.floor(phase - below_slot).astype(np.int64) % length
    counts = np.bincount(slots, minlength=length).astype(np.float64)
    is_signal = np.array([name == pattern.signal for name in pattern.intensities], dtype=np.float64)
    scores = np.array([is_signal @ np.roll(counts, -shift) for shift in range(length)])
    candidates = (below_slot + np.arange(length) + length / 2) % length - length / 2
    # Shifts that the counts cannot tell apart are decided by the expectation.
    possible = scores >= scores.max() - 3 * math.sqrt(len(phase))
    nearest = candidates[possible][np.argmin(np.abs(candidates[possible]))]
    return float(expected_ps + nearest * pattern.slot_ps)
