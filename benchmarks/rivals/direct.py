"""Direct searches that know nothing but a noisy QBER: simplex, SPSA, annealing, random steps."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from benchmarks.tasks.link import Link

Array = NDArray[np.float64]

PHOTONS = 4000
SETTINGS = 360

SIMPLEX_EDGE = 0.5
"""First simplex, in half turns; later ones at the best point are a fifth of it."""

POOR_QBER = 0.05
"""Where a simplex ends above this, the next one starts anywhere."""

SPSA_STEP, SPSA_PROBE = 0.25, 0.05
"""Length of the first steps and probes, in half turns."""

SPSA_STABILITY = 5
SPSA_DECAY, SPSA_PROBE_DECAY = 0.602, 0.101

ANNEALING_FIRST, ANNEALING_LAST = 0.03, 0.0003
"""Temperature, as a QBER, at the first and at the last setting."""

LOCAL_ERRORS = 40
"""Errors that a reading of the local search should hold: photons grow as the QBER falls."""

LOCAL_LEAST, LOCAL_MOST = 200, 20_000
LOCAL_SETTINGS = 1000


class _Best:
    """The lowest reading so far, which is what such a script would use."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.point = link.middle
        self.qber = math.inf

    def look(self, point: Array, photons: float = PHOTONS) -> float:
        """Take a reading; recommend the lowest one."""
        point = np.clip(point, *self._link.limits)
        qber = self._link.count(point, photons).qber
        if qber < self.qber:
            self.point, self.qber = point, qber
        self._link.recommend(self.point)
        return qber


def nelder_mead(link: Link, seed: int) -> None:
    """Run SciPy's simplex search again and again, from the best point or, if poor, anywhere."""
    rng = np.random.default_rng(seed)
    best = _Best(link)
    start, edge = link.middle, SIMPLEX_EDGE
    while link.settings < SETTINGS:
        simplex = np.vstack([start, start + edge * np.diag(link.half_turn)])
        found = minimize(
            best.look,
            start,
            method="Nelder-Mead",
            options={
                "initial_simplex": np.clip(simplex, *link.limits),
                "xatol": 0.01 * float(link.half_turn.min()),
                "fatol": 1e-3,
                "maxfev": max(SETTINGS - link.settings, 1),
            },
        )
        is_poor = found.fun > POOR_QBER
        start = np.array(rng.uniform(*link.limits)) if is_poor else best.point
        edge = SIMPLEX_EDGE if is_poor else SIMPLEX_EDGE / 5


def spsa(link: Link, seed: int) -> None:
    """Descend by simultaneous perturbations, two readings a step, with the usual decay of gains.

    Source: J. C. Spall, IEEE Trans. Aerosp. Electron. Syst. 34, 817 (1998).
    """
    rng = np.random.default_rng(seed)
    point = link.middle
    gain = math.nan
    for k in range(SETTINGS // 2):
        probe = SPSA_PROBE / (k + 1) ** SPSA_PROBE_DECAY
        signs = rng.choice([-1.0, 1.0], size=len(point))
        above, below = (
            link.count(point + side * probe * signs * link.half_turn, PHOTONS).qber
            for side in (1, -1)
        )
        slope = (above - below) / (2 * probe)
        if math.isnan(gain):  # so that the first step has the wanted length, at a typical slope
            gain = SPSA_STEP * (1 + SPSA_STABILITY) ** SPSA_DECAY / max(abs(slope), 0.3)
        step = gain / (k + 1 + SPSA_STABILITY) ** SPSA_DECAY * slope
        point = np.clip(point - step * signs * link.half_turn, *link.limits)
        link.recommend(point)


def annealing(link: Link, seed: int) -> None:
    """Anneal: Gaussian steps that shrink with the temperature, by Metropolis' rule."""
    rng = np.random.default_rng(seed)
    best = _Best(link)
    point, qber = best.point, best.look(best.point)
    cooling = (ANNEALING_LAST / ANNEALING_FIRST) ** (1 / SETTINGS)
    temperature = ANNEALING_FIRST
    for _ in range(SETTINGS - 1):
        step = math.sqrt(temperature) * link.half_turn * rng.normal(size=len(point))
        trial = np.clip(point + step, *link.limits)
        seen = best.look(trial)
        if rng.random() < math.exp(min((qber - seen) / temperature, 0.0)):
            point, qber = trial, seen
        temperature *= cooling


def random_local(link: Link, seed: int) -> None:
    """Step at random, less far and with more photons the lower the QBER; keep what is better.

    A step is as long as the QBER would have it; the point kept is read anew with every trial, so
    that a lucky reading does not stay.
    """
    rng = np.random.default_rng(seed)
    point = link.middle
    qber = link.count(point, LOCAL_LEAST).qber
    while link.settings < LOCAL_SETTINGS:
        photons = float(np.clip(2 * LOCAL_ERRORS / max(qber, 1e-3), LOCAL_LEAST, LOCAL_MOST))
        reach = math.sqrt(max(qber, 1e-3)) * link.half_turn / 2
        trial = np.clip(point + reach * rng.normal(size=len(point)), *link.limits)
        seen, qber = link.count(trial, photons).qber, link.count(point, photons).qber
        if seen < qber:
            point, qber = trial, seen
        link.recommend(point)
