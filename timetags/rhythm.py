"""Find the rhythm of light that comes in slots: the exact slot, and where slots begin."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from timetags.matching import Times

FALSE_ALARM = 1e-6
"""How often chance alone may look like a rhythm."""

MAX_BINS = 1 << 22
"""Length of the longest Fourier transform; it bounds the memory."""

_REFINEMENTS = 2


@dataclass(frozen=True)
class Rhythm:
    """Slots as the tags' own clock sees them. All errors are one standard deviation.

    Attributes:
        slot_ps: Duration of a slot, ps.
        slot_error_ps: Its error, ps.
        delays_ps: When a slot begins, by channel, near the first tag, so that light comes in the
            middle of its slot, whole ps. Which slot of the pattern that is, ``find_shift`` tells.
        strength: Length of the mean phasor, by channel: 1 for light in one place of its slot, 0
            for light without rhythm.
        false_alarm: How often chance alone would have looked as rhythmic, 0 to 1.
    """

    slot_ps: float
    slot_error_ps: float
    delays_ps: dict[int, int]
    strength: dict[int, float]
    false_alarm: float


def find_rhythm(
    times_ps: Mapping[int, Times], slot_ps: float, max_error_ppm: float = 50.0
) -> Rhythm | None:
    """Find how long a slot is on the tags' clock and where slots begin in each channel.

    Each tag is a phasor that turns once in a nominal slot. Where the true slot differs, their sum
    turns slowly, which a Fourier transform over time shows; what it finds is then made exact by
    the turn from the first half of the tags to the second.

    Limits: the clocks run evenly to a fraction of a slot over the tags that are used. Give a part
    of the stream that is so short: a tenth of a second does for most.

    Args:
        times_ps: Times of each channel in order, ps, from the same part of the stream.
        slot_ps: Nominal slot, ps.
        max_error_ppm: Largest error of it, parts per million.

    Returns:
        The rhythm, or None if nothing stands out of chance.

    Raises:
        ValueError: Tags over so long a time that more than MAX_BINS slots of error are possible.
    """
    tags = np.concatenate(list(times_ps.values())) if times_ps else np.empty(0, dtype=np.int64)
    if len(tags) < 2 or tags.min() == tags.max():
        return None
    start_ps, span_ps = int(tags.min()), float(tags.max() - tags.min())
    # A bin is so short that no phasor turns by more than a quarter within it.
    bins = 1 << max(math.ceil(math.log2(4e-6 * max_error_ppm * span_ps / slot_ps + 4)), 4)
    if bins > MAX_BINS:
        raise ValueError(f"{span_ps * 1e-12:.3g} s are too long to look for {max_error_ppm:g} ppm")
    since = {number: (t - start_ps).astype(np.float64) for number, t in times_ps.items() if len(t)}
    turn, power = _best_turn(since, slot_ps, span_ps, bins, max_error_ppm)
    # Every channel's power over its number of tags is exponential with mean 1 without a rhythm.
    log_chance = math.log(2 * bins) + _log_gamma_tail(power, len(since))
    if log_chance >= math.log(FALSE_ALARM):
        return None
    frequency = 1 / slot_ps - turn  # per ps: too fast phasors turn on
    for _ in range(_REFINEMENTS):
        frequency -= _turn_between_halves(since, frequency, span_ps)
    sums = {number: _phasors(t, frequency).sum() for number, t in since.items()}
    strength = {n: min(float(abs(sums[n])) / len(t), 1.0) for n, t in since.items()}
    return Rhythm(
        slot_ps=1 / frequency,
        slot_error_ps=_frequency_error(since, strength, span_ps) / frequency**2,
        delays_ps={n: _delay(float(np.angle(s)), frequency, start_ps) for n, s in sums.items()},
        strength=strength,
        false_alarm=math.exp(log_chance),
    )


def find_shift(counts: NDArray[np.int64], brightness: NDArray[np.float64]) -> int | None:
    """Find by how many slots counts lag the pattern of brightness that was sent.

    Args:
        counts: Counts of one detector per slot, shape ``(period,)``.
        brightness: Relative brightness of each slot as sent, same shape.

    Returns:
        Slots by which the counts are late, the fewest possible where the pattern repeats within
        the period; add as many slots to the delay. None if the counts do not follow the pattern.
    """
    sent = brightness - brightness.mean()
    spectrum = np.fft.rfft(counts - counts.mean()) * np.conj(np.fft.rfft(sent))
    scores = np.fft.irfft(spectrum, len(counts))
    # Counts that follow no pattern scatter about 0 by so much.
    noise = math.sqrt(float(counts.mean()) * float(sent @ sent))
    if noise == 0 or scores.max() < 5 * noise:
        return None
    return int(np.flatnonzero(scores > scores.max() - 3 * noise)[0])


def _phasors(since_ps: NDArray[np.float64], frequency: float) -> NDArray[np.complex128]:
    turns = since_ps * frequency
    turns -= np.floor(turns)
    phasors: NDArray[np.complex128] = np.exp(2j * np.pi * turns)
    return phasors


def _best_turn(
    since_ps: Mapping[int, NDArray[np.float64]],
    slot_ps: float,
    span_ps: float,
    bins: int,
    max_error_ppm: float,
) -> tuple[float, float]:
    """Find how fast the phasors turn, per ps, and the power of all channels there."""
    power = np.zeros(2 * bins)
    for t in since_ps.values():
        phasors = _phasors(t, 1 / slot_ps)
        number = np.minimum((t * (bins / span_ps)).astype(np.int64), bins - 1)
        parts = (np.bincount(number, part, minlength=bins) for part in (phasors.real, phasors.imag))
        real, imaginary = parts
        power += np.abs(np.fft.fft(real + 1j * imaginary, 2 * bins)) ** 2 / len(t)
    turn = np.fft.fftfreq(2 * bins, span_ps / bins)
    power[np.abs(turn) > max_error_ppm * 1e-6 / slot_ps + 1 / span_ps] = 0
    best = int(np.argmax(power))
    return float(turn[best]), float(power[best])


def _turn_between_halves(
    since_ps: Mapping[int, NDArray[np.float64]], frequency: float, span_ps: float
) -> float:
    """How much faster the phasors still turn, per ps."""
    product = 0j
    for t in since_ps.values():
        phasors, is_late = _phasors(t, frequency), t > span_ps / 2
        product += np.conj(phasors[~is_late].sum()) * phasors[is_late].sum() / len(t)
    return float(np.angle(product)) / (np.pi * span_ps)


def _frequency_error(
    since_ps: Mapping[int, NDArray[np.float64]], strength: Mapping[int, float], span_ps: float
) -> float:
    """Error of the turn between the halves: both have phases known to ``1 / (sqrt(n) R)``."""
    weight = sum(len(t) * strength[n] ** 2 for n, t in since_ps.items())
    spread = sum(len(t) * strength[n] ** 2 * (1 - strength[n] ** 2) for n, t in since_ps.items())
    return math.sqrt(2 * spread) / weight / (np.pi * span_ps)


def _log_gamma_tail(power: float, channels: int) -> float:
    """Logarithm of the chance that so many exponential variables add up to so much."""
    terms = [k * math.log(power) - math.lgamma(k + 1) for k in range(channels)] if power else [0.0]
    largest = max(terms)
    return largest - power + math.log(sum(math.exp(term - largest) for term in terms))


def _delay(angle: float, frequency: float, start_ps: int) -> int:
    """When a slot begins in whose middle the light comes, ps."""
    return start_ps + round((angle / (2 * np.pi) - 0.5) / frequency)
