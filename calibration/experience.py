"""What a bench's own past calibrations say about its controller, pooled into a prior.

A normal hierarchical model for each error and for the floor: every study has a value of its own,
scattered about one of the device; a study's counts tell its value with an error. The scatter is
estimated by moments (R. DerSimonian, N. Laird, Control. Clin. Trials 7, 177 (1986)) and kept from
vanishing, as a few studies may agree by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibration.chain import Chain, wrap_angle
from calibration.parameters import Prior
from calibration.posterior import RotationPosterior
from calibration.recollection import WIDENING, Recollection

Array = NDArray[np.float64]

LEAST_SPREAD = 0.02
"""Standard deviation between studies of an error, rad or relative, that is expected beforehand."""

LEAST_FLOOR_SPREAD = 0.2
"""The same of the floor's natural logarithm."""

SPREAD_STUDIES = 2.0
"""Number of studies that this expectation is worth."""

LEAST_SHARE = 0.2
"""Share of a posterior's precision that must come from its own counts, to be pooled at all: the
rest is what its own prior said, possibly the study before."""


def pooled_prior(stored: Sequence[Mapping[str, Any]], chain: Chain) -> Prior | None:
    """Pool what past studies told of a controller.

    Args:
        stored: Posteriors of accepted calibrations, as stored, one per study; those that are of
            another controller or of no use are left out.
        chain: The controller, and what is believed of it without any study.

    Returns:
        Belief about a further study, or None without any study to pool.
    """
    told = [_told_by_counts(posterior) for posterior in _usable(stored, chain)]
    if not told:
        return None
    values = np.array([value for value, _ in told])
    angles = chain.angles
    values[:, angles] = values[-1, angles] + wrap_angle(values[:, angles] - values[-1, angles])
    precision = np.array([precision for _, precision in told])
    spread = _variance_between(values, precision)
    before = chain.independent_prior
    weights = precision / (1 + spread * precision)
    total = before.precision + weights.sum(axis=0)
    known = total > 0
    total = np.where(known, total, 1.0)
    mean = (before.precision * before.mean + np.sum(weights * values, axis=0)) / total
    is_told = weights.sum(axis=0) > 0
    variance = 1 / total + np.where(is_told, spread, 0.0)
    mean[angles] = wrap_angle(mean[angles])
    return Prior(np.where(known, mean, before.mean), np.where(known, 1 / variance, 0.0))


def _usable(stored: Sequence[Mapping[str, Any]], chain: Chain) -> Iterator[RotationPosterior]:
    for each in stored:
        recalled = Recollection.of_stored(each, chain, 0.0, 0.0)
        if recalled is not None:
            yield recalled.posterior


def _told_by_counts(posterior: RotationPosterior) -> tuple[Array, Array]:
    """Take a posterior's prior out of it again: values and precision, both ``(P - 6,)``."""
    after, before = posterior.controller_prior(widening=1.0), posterior.chain.independent_prior
    own = after.precision - before.precision
    own = np.where(own > LEAST_SHARE * after.precision, own, 0.0)
    shift = after.mean - before.mean
    angles = posterior.chain.angles
    shift[angles] = wrap_angle(shift[angles])
    gain = np.divide(before.precision, own, out=np.zeros_like(own), where=own > 0)
    return after.mean + gain * shift, own / WIDENING**2


def _variance_between(values: Array, precision: Array) -> Array:
    """Estimate the variance between studies, shape ``(P - 6,)``, from arrays ``(S, P - 6)``."""
    expected = np.full(values.shape[1], LEAST_SPREAD**2)
    expected[-1] = LEAST_FLOOR_SPREAD**2
    total = precision.sum(axis=0)
    known = total > 0
    safe = np.where(known, total, 1.0)
    centre = np.sum(precision * values, axis=0) / safe
    misfit = np.sum(precision * (values - centre) ** 2, axis=0)
    freedom = np.maximum(np.sum(precision > 0, axis=0) - 1, 0)
    scale = total - np.sum(precision**2, axis=0) / safe
    excess = np.maximum(misfit - freedom, 0.0)
    moments = np.divide(excess, scale, out=np.zeros_like(scale), where=scale > 1e-9 * safe)
    weighed = (SPREAD_STUDIES * expected + freedom * moments) / (SPREAD_STUDIES + freedom)
    variance: Array = np.maximum(expected, weighed)
    return variance
