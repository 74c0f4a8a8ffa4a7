"""The oracle design: what the best choice of settings could tell, to one who knows the answer.

A Bayesian Cramer-Rao bound. The settings are chosen by one who knows the bench, the counts are
then read by one who knows no more than the prior: the excess expected of his recommendation falls
with the information gathered. First determinant, then trace of the covariance is made small,
greedily, a few photons at a time. Nobody who has to find the settings out can expect to be there
with fewer photons, as far as a greedy choice comes near the best.
"""

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.cases import Case
from benchmarks.tasks.link import Counts, Step
from benchmarks.twin import HALF_WAVE_V, Twin, TwinOptions
from calibration import kinematics
from calibration.parameters import Parameters
from calibration.retarders import RetarderChain, prior_of_widths

Array = NDArray[np.float64]

PHOTONS_EACH = 50
DETERMINANT_SETTINGS = 8
"""Settings chosen for the determinant, before there is a sense in speaking of an excess."""

ANYWHERE, NEARBY = 150, 150
NEARBY_HALF_TURNS = (0.02, 0.05, 0.1, 0.2, 0.4)
ALIGNED = 8
"""Settings that align the bench, any of which may be recommended."""

WANTED_EXCESS = 0.0015
MOST_SETTINGS = 2400

WEIGHTS = np.array([1.0, 1.0, 2.0]) / 8
"""Excess QBER per squared rotation about S1, S2, S3; rad^-2."""


def applies_to(case: Case) -> bool:
    """Tell whether a case's bench is of the kind whose information is computed here."""
    kept = {name: getattr(case.twin, name) for name in ("scale_range", "axis_sigma_deg")}
    kept |= {name: getattr(case.twin, name) for name in ("loss_db", "intrinsic_qber")}
    is_of_kind = type(case.twin) is TwinOptions and case.twin == TwinOptions(**kept)
    return is_of_kind and case.night is None


def design(case: Case, twin: Twin) -> list[Step]:
    """Choose settings for a bench that is known, and tell how the expected excess falls.

    Args:
        case: Says which counts there are and what is known beforehand.
        twin: The bench; its detectors and its controller must be as :func:`applies_to` wants.
    """
    rng = np.random.default_rng(1)
    chain, truth = _chain(case), _truth(twin)
    span = twin.limits
    aligned, _ = kinematics.align(
        chain,
        Parameters.concatenate([truth] * ALIGNED),
        rng.uniform(span[0], span[1], size=(ALIGNED, chain.channels)),
        span,
    )
    residual = _residual(chain, truth, aligned)
    visibility = float(truth.visibility[0])
    known = chain.log_prior(truth)[2][0]
    each_s = twin.options.settle_s + PHOTONS_EACH / twin.detections_hz
    steps: list[Step] = []
    while len(steps) < MOST_SETTINGS and (not steps or steps[-1].excess > WANTED_EXCESS):
        candidates = _candidates(rng, span, aligned, chain.half_turn)
        after = known + PHOTONS_EACH * _information(chain, truth, candidates, case.counts)
        if len(steps) < DETERMINANT_SETTINGS:
            known = after[np.argmax(np.linalg.slogdet(after)[1])]
        else:
            known = after[np.argmin(_expected_excess(after, residual))]
        excess = visibility * float(_expected_excess(known[None], residual)[0])
        count = len(steps) + 1
        steps.append(Step(count * PHOTONS_EACH, count, count * each_s, excess, np.nan))
    return steps


def _chain(case: Case) -> RetarderChain:
    if case.told.is_characterised:
        return RetarderChain.nominal(HALF_WAVE_V)
    return RetarderChain.nominal(HALF_WAVE_V, prior=prior_of_widths(4, scale=0.15, azimuth_deg=20))


def _truth(twin: Twin) -> Parameters:
    """Describe the bench by the model's parameters; the gauge does not matter for information."""
    truth = twin.truth
    return Parameters(
        fibre=truth.fibre[None],
        receiver=truth.receiver[None],
        errors=np.concatenate([truth.scale, truth.offset_rad, truth.azimuth_rad])[None],
        log_floor=np.log([twin.floor]),
    )


def _residual(chain: RetarderChain, truth: Parameters, aligned: Array) -> Array:
    """Tell how the parameters' errors turn the link at aligned settings, shape ``(C, 3, P)``."""
    controller, axes = chain.tangent_axes(truth, aligned)
    behind = truth.receiver[:, None] @ controller
    turned = behind[0] @ np.swapaxes(axes[0], -1, -2)
    without_floor = np.zeros((*turned.shape[:2], 1))
    return np.concatenate([turned, without_floor], axis=-1)


def _expected_excess(information: Array, residual: Array) -> Array:
    """Compute the expected excess at the best of the aligned settings, shape ``(M,)``."""
    covariance = np.linalg.inv(information)
    spread = np.einsum("cip,mpq,ciq->mci", residual, covariance, residual, optimize=True)
    least: Array = (spread @ WEIGHTS).min(axis=1)
    return least


def _information(chain: RetarderChain, truth: Parameters, settings: Array, counts: Counts) -> Array:
    """Compute the Fisher information of one detection at each setting, shape ``(M, P, P)``."""
    probability, slope = chain.linearise(truth, settings)
    p, g = probability[0], slope[0]
    share = np.full(4, 0.25)
    if counts != "all":
        p, g, share = p[:, [0, 3]], g[:, :, [0, 3]], share[:2]
    if counts == "pooled":
        p, g, share = p.mean(axis=1, keepdims=True), g.mean(axis=2, keepdims=True), np.array([0.5])
    weighted = g * (share / (p * (1 - p)))[:, None, :]
    return np.asarray(weighted @ np.swapaxes(g, -1, -2))


def _candidates(rng: np.random.Generator, span: Array, aligned: Array, half_turn: Array) -> Array:
    anywhere = rng.uniform(span[0], span[1], size=(ANYWHERE, len(half_turn)))
    around = aligned[rng.integers(len(aligned), size=NEARBY)]
    reach = rng.choice(NEARBY_HALF_TURNS, size=(NEARBY, 1)) * half_turn
    nearby = np.clip(around + reach * rng.normal(size=around.shape), *span)
    return np.concatenate([anywhere, nearby])
