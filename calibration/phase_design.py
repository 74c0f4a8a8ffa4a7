"""Decisions from a phase posterior: which drive to recommend, and which to measure next."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration.interferometer import Interferometer, Phases, wrapped
from calibration.phase_posterior import PhasePosterior

Array = NDArray[np.float64]

DESIGN_SAMPLES = 256
CLAIM_SAMPLES = 512
"""Posterior samples behind a claim, apart from those that the recommendation was chosen with."""

SAMPLES_TRIED = 64
POLISHING_STEPS = 4

GRID = 41
NEARBY_HALF_WAVES = np.arange(-8, 9) / 16

HEADROOM = 0.05
"""Share of the range at either end in which nothing is recommended."""

LONGEST_PERIOD = 1.25
"""Longest period to reckon with, as a multiple of the nominal one."""


@dataclass(frozen=True)
class PhaseRecommendation:
    """The drive of lowest expected excess, and what is expected there.

    Attributes:
        drive: Recommended drive.
        excess: QBER above the floor, mean of both bases, in each of CLAIM_SAMPLES samples.
        floor: Error probability at phase zero in each of them.
        samples: The DESIGN_SAMPLES samples it was chosen with.
    """

    drive: float
    excess: Array
    floor: Array
    samples: Phases


def recommend(
    posterior: PhasePosterior,
    rng: np.random.Generator,
    span: tuple[float, float],
    previous: float | None = None,
) -> PhaseRecommendation:
    """Choose the drive of lowest posterior-mean excess.

    The phase comes back every two half-wave voltages: of all drives that give phase zero, those
    nearest to the middle of the range compete, for a tracker to have room on either side.

    Args:
        posterior: What is known.
        rng: For samples.
        span: Lowest and highest drive.
        previous: Recommendation before; it competes.
    """
    model = posterior.model
    drawn = posterior.samples(rng, DESIGN_SAMPLES + CLAIM_SAMPLES)
    samples, claims = drawn[:DESIGN_SAMPLES], drawn[DESIGN_SAMPLES:]
    low, high = with_headroom(span, model.half_wave)
    tried = Phases.concatenate([posterior.modes, samples[:SAMPLES_TRIED]])
    drives = nearest_zero(model, tried, (low + high) / 2)
    drives = np.append(drives, [] if previous is None else [previous])
    drives = np.clip(drives, low, high)
    expected = model.excess(samples, drives).mean(axis=0)
    drive = _polished(model, samples, float(drives[np.argmin(expected)]), (low, high))
    at = np.array([drive])
    return PhaseRecommendation(
        drive=drive,
        excess=model.excess(claims, at)[:, 0],
        floor=claims.floor,
        samples=samples,
    )


def expected_at(
    posterior: PhasePosterior, best: PhaseRecommendation, rng: np.random.Generator, drive: float
) -> PhaseRecommendation:
    """Describe another drive as if it had been recommended.

    Args:
        posterior: What is known.
        best: What is recommended by it.
        rng: For samples.
        drive: The other one.
    """
    claims = posterior.samples(rng, CLAIM_SAMPLES)
    excess = posterior.model.excess(claims, np.array([drive]))[:, 0]
    return replace(best, drive=drive, excess=excess, floor=claims.floor)


def nearest_zero(model: Interferometer, at: Phases, drive: float | Array) -> Array:
    """Return the drive of phase zero that is nearest to a given one, shape ``(B,)``."""
    there = np.broadcast_to(np.asarray(drive, dtype=float), (len(at),))
    slope = at.sign * (1 + at.scale) * np.pi / model.half_wave
    theta = at.phase + slope * (there - model.centre)
    return np.asarray(there - wrapped(theta) / slope)


def with_headroom(span: tuple[float, float], half_wave: float) -> tuple[float, float]:
    """Leave room at both ends where more than a period remains."""
    low, high = span
    inset = HEADROOM * (high - low)
    has_room = high - low - 2 * inset > LONGEST_PERIOD * 2 * half_wave
    return (low + inset, high - inset) if has_room else (low, high)


def _polished(
    model: Interferometer, samples: Phases, drive: float, span: tuple[float, float]
) -> float:
    """Descend to the least expected excess by Newton steps, as long as they help."""
    slope = samples.sign * (1 + samples.scale) * np.pi / model.half_wave
    best = float(model.excess(samples, np.array([drive])).mean())
    for _ in range(POLISHING_STEPS):
        theta = model.theta(samples, np.array([drive]))[:, 0]
        gradient = float(np.mean(samples.visibility * slope * np.sin(theta)))
        curvature = float(np.mean(samples.visibility * slope**2 * np.cos(theta)))
        if curvature <= 0:
            break
        tried = float(np.clip(drive - gradient / curvature, *span))
        expected = float(model.excess(samples, np.array([tried])).mean())
        if expected >= best:
            break
        drive, best = tried, expected
    return drive


def next_drive(
    posterior: PhasePosterior,
    best: PhaseRecommendation,
    span: tuple[float, float],
    counts: Array,
) -> float:
    """Choose the measurement that promises to reduce the expected excess most.

    Ensemble A-optimal design, as for polarization: the covariance, over posterior samples, between
    the phase left at the recommended drive and the error probabilities at a candidate tells how
    much of the former a measurement there would remove.

    Args:
        posterior: What is known.
        best: The recommendation drawn from it.
        span: Lowest and highest drive.
        counts: Counts to expect in each binomial that sees the phase, shape ``(R,)``.
    """
    model = posterior.model
    nearby = best.drive + NEARBY_HALF_WAVES * model.half_wave
    candidates = np.concatenate([np.linspace(*span, GRID), nearby])
    candidates = candidates[(candidates >= span[0]) & (candidates <= span[1])]
    predicted = model.error_probability(best.samples, candidates)
    left = wrapped(model.theta(best.samples, np.array([best.drive]))[:, 0])
    gain = expected_gain(left, np.swapaxes(predicted, 0, 1), counts)
    return float(candidates[np.argmax(gain)])


def expected_gain(left_rad: Array, predicted: Array, counts: Array) -> Array:
    """Estimate by how much each candidate's counts would reduce the variance of the phase.

    Args:
        left_rad: Phase at the recommended drive, shape ``(S,)``.
        predicted: Error probabilities at the candidates, shape ``(C, S, R)``.
        counts: Counts to expect, shape ``(R,)``.

    Returns:
        rad^2, shape ``(C,)``.
    """
    rows = predicted.shape[-1]
    noise = np.mean(predicted * (1 - predicted), axis=1) / np.maximum(counts, 1e-9)
    apart = left_rad - left_rad.mean()
    spread = predicted - predicted.mean(axis=1, keepdims=True)
    cross = apart @ spread / len(left_rad)
    total = np.swapaxes(spread, -1, -2) @ spread / len(left_rad) + noise[..., None] * np.eye(rows)
    informed = np.linalg.solve(total, cross[..., None])[..., 0]
    return np.asarray(np.sum(cross * informed, axis=-1))
