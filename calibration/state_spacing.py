"""The angles of the four states that Alice sends, told from counts in both of Bob's bases.

The states H, D, V, A lie a quarter of a turn apart on a circle: the phase of the four-phase
encoding, a great circle of the Poincare sphere for polarization. Detectors H, V, D, A look at that
circle from the angles ``b = 0, pi, pi/2, 3 pi/2``. Of the clicks of a state at angle ``phi``
detector ``j`` gets a share in proportion to ``eta_j (1 + V cos(phi - b_j))``, with its efficiency
and the visibility of its basis. Neither the state's brightness nor the turn of the whole circle
matters: the turn is a parameter of each look, and the aligning stage's business.

The drive ``u`` of a state turns it by ``pi u / V_pi`` from H. A state that is off by ``delta`` has
the error rate ``(1 - V cos delta) / 2``, which no alignment of all four can mend. Sources: C. H.
Bennett and G. Brassard, Proc. IEEE Int. Conf. Computers, Systems and Signal Processing, 175 (1984)
(states); F. Xu et al., Phys. Rev. A 92, 032305 (2015) (phase errors of a modulator's drive).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from calibration.clicks import CONFIDENCE
from calibration.multinomial import MultinomialFit, Prior, fit_multinomial
from calibration.signal_run import Figure

WANTED_RAD = np.array([0.0, pi, pi / 2, 3 * pi / 2])
"""Angles of H, V, D, A, of states and of detectors alike."""

AROUND = (0, 2, 1, 3)
"""H, D, V, A: the order of the states around the circle."""

GAPS = 4
GAP_SIGMAS = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / 2 / GAPS)
"""Half width of intervals that hold all gaps with the usual confidence (Bonferroni)."""

FIXED_SIGMA_RAD = 1.0
"""How far a state may be from its place about which no drive tells anything."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class StateLook:
    """Counts of the signal at one setting of the drives.

    Attributes:
        drives_rad: Angle of each state at the nominal half-wave voltage, shape ``(4,)``, rad.
        counts: Shape ``(4, 4)``: sent state, detector.
        exposure: What the light is multiplied with in each count, same shape.
        background: Expected counts that are not light, same shape.
    """

    drives_rad: Floats
    counts: NDArray[np.int64]
    exposure: Floats
    background: Floats


@dataclass(frozen=True)
class Knowledge:
    """What is known of the drives beforehand, standard deviations.

    Attributes:
        scale: Of the half-wave voltage, relative.
        own_scale: Of each state's own on top of that, relative: an amplifier that saturates.
        place_rad: Of each state beside what its drive says, shape ``(4,)``, rad.
    """

    scale: float
    own_scale: float
    place_rad: Floats

    def of_nothing(self) -> "Knowledge":
        """Return it with the places unknown: what angles are measured with."""
        return replace(self, place_rad=np.full(len(WANTED_RAD), FIXED_SIGMA_RAD))


@dataclass(frozen=True)
class StateFit:
    """The angles of the states, as far as counts tell.

    Attributes:
        gain: Angle per nominal angle of each state, shape ``(4,)``; that of H does not matter.
        place_rad: Angle of each state without drive, shape ``(4,)``; H is the origin.
        angle_rad: Angle of each state in the last look, from H, shape ``(4,)``.
        angle_covariance: Its covariance, shape ``(4, 4)``.
        visibility: Of the bases Z and X.
        brightness: Light of each state over the mean of all in the last look, shape ``(4,)``.
        brightness_sigma: Largest standard error of that.
        misfit: Relative deviation of counts from the model beyond noise, root mean square.
    """

    gain: Floats
    place_rad: Floats
    angle_rad: Floats
    angle_covariance: Floats
    visibility: tuple[float, float]
    brightness: Floats
    brightness_sigma: float
    misfit: float

    def drive_rad(self, state: int, wanted_rad: float) -> float:
        """Return the drive, as nominal angle, that brings a state to an angle from H."""
        return float((wanted_rad - self.place_rad[state]) / self.gain[state])

    def gaps(self) -> tuple[Floats, Floats]:
        """Return the gaps between neighbours and their standard errors, shape ``(4,)``, rad."""
        step = np.zeros((GAPS, len(AROUND)))
        for row in range(GAPS):
            step[row, AROUND[row]] -= 1
            step[row, AROUND[(row + 1) % GAPS]] += 1
        gaps = step @ self.angle_rad
        gaps = gaps - 2 * pi * np.round((gaps - pi / 2) / (2 * pi))
        return gaps, np.sqrt(np.diag(step @ self.angle_covariance @ step.T))

    def spacing_error_deg(self) -> Figure:
        """Return the largest deviation of a gap from 90 degrees."""
        gaps, sigma = self.gaps()
        deviation, half = np.degrees(np.abs(gaps - pi / 2)), np.degrees(GAP_SIGMAS * sigma)
        low, high = float((deviation - half).max()), float((deviation + half).max())
        return Figure(float(deviation.max()), max(low, 0.0), high)


def fit_states(looks: Sequence[StateLook], knowledge: Knowledge) -> StateFit:
    """Fit angles, drives, visibilities and efficiencies to the counts of a few looks.

    Args:
        looks: At least one.
        knowledge: What is known of the drives.

    Raises:
        ValueError: A state has no counts.
    """
    for look in looks:
        for state, clicks in zip("HVDA", look.counts.sum(axis=1), strict=True):
            if clicks == 0:
                raise ValueError(f"no clicks of state {state}")
    model = StateModel(looks, knowledge)
    counts = np.concatenate([look.counts for look in looks])
    fit = fit_multinomial(model.shares, counts, model.prior, model.start())
    return model.read(fit)


class StateModel:
    """Shares of clicks over the parameters.

    These are, in order: a turn of each look; a scale, common to all drives; scales of their own
    and places of V, D and A; logarithms of the efficiencies of V, D and A over that of H; log odds
    of the visibility; half the difference of these between the bases.
    """

    def __init__(self, looks: Sequence[StateLook], knowledge: Knowledge) -> None:
        self._looks = looks
        n = len(looks)
        self._turn, self._scale = slice(0, n), n
        self._own, self._place = slice(n + 1, n + 4), slice(n + 4, n + 7)
        self._efficiency = slice(n + 7, n + 10)
        self._odds, self._split = n + 10, n + 11
        self._size = n + 12
        self._exposure = np.concatenate([look.exposure for look in looks])
        background = np.concatenate([look.background for look in looks])
        totals = np.concatenate([look.counts.sum(axis=1) for look in looks])
        total_background = background.sum(axis=1)
        self._dark = np.minimum(total_background / np.maximum(totals, 1), 0.9)[:, None]
        self._dark_shares = background / np.maximum(total_background, 1e-300)[:, None]
        self._angles = self._design(looks)
        self._offsets = np.concatenate([look.drives_rad for look in looks])
        self.prior = self._prior(knowledge)

    def _design(self, looks: Sequence[StateLook]) -> Floats:
        """Return the slopes of all angles by the parameters, shape ``(4 looks, n)``."""
        design = np.zeros((4 * len(looks), self._size))
        for number, look in enumerate(looks):
            rows = slice(4 * number, 4 * number + 4)
            design[rows, number] = 1.0
            design[rows, self._scale] = look.drives_rad
            for state in (1, 2, 3):
                row = 4 * number + state
                design[row, self._own.start + state - 1] = look.drives_rad[state]
                design[row, self._place.start + state - 1] = 1.0
        return design

    def _prior(self, knowledge: Knowledge) -> Prior:
        mean, sigma = np.zeros(self._size), np.ones(self._size)
        sigma[self._turn] = 2 * pi  # of no weight, but it bounds the fit where nothing is seen
        sigma[self._scale] = knowledge.scale
        sigma[self._own] = knowledge.own_scale
        sigma[self._place] = knowledge.place_rad[1:]
        mean[self._odds], sigma[self._odds] = 4.0, 1.5  # V of 0.98, 0.92 to 0.996
        sigma[self._split] = 0.3
        mean[self._turn] = self._turns()
        return Prior(mean, sigma)

    def _turns(self) -> Floats:
        return np.array([np.angle(self._phasors(look)[0]) for look in self._looks])

    def _phasors(self, look: StateLook) -> NDArray[np.complex128]:
        """Return contrast and angle of each state, rough: efficiencies from all states together."""
        light = np.maximum(look.counts - look.background, 0.0) / look.exposure
        light /= light.sum(axis=1, keepdims=True) + 1e-300
        light /= light.mean(axis=0) + 1e-300
        z = (light[:, 0] - light[:, 1]) / (light[:, 0] + light[:, 1] + 1e-300)
        x = (light[:, 2] - light[:, 3]) / (light[:, 2] + light[:, 3] + 1e-300)
        return np.asarray(z + 1j * x)

    def start(self) -> Floats:
        """Return rough values of the parameters."""
        start = self.prior.mean.copy()
        phasors = np.stack([self._phasors(look) for look in self._looks])
        drives = self._offsets.reshape(phasors.shape)
        turned = phasors * np.conj(phasors[:, :1]) * np.exp(-1j * drives)
        missing = np.angle(turned[:, 1:])
        start[self._scale] = (missing * drives[:, 1:]).sum() / max((drives[:, 1:] ** 2).sum(), 1.0)
        contrast = float(np.clip(np.abs(phasors).mean(), 0.1, 0.98))
        start[self._odds] = np.log(contrast / (1 - contrast))
        light = sum(look.counts.sum(axis=0) + 1.0 for look in self._looks)
        start[self._efficiency] = np.log(light[1:] / light[0])
        return start

    def shares(self, parameters: Floats) -> tuple[Floats, Floats]:
        """Return the shares of the detectors for each look's states, and their slopes."""
        light, slopes = self._light(parameters)
        total = light.sum(axis=1, keepdims=True)
        p = light / total
        slopes = (slopes - p[:, :, None] * slopes.sum(axis=1, keepdims=True)) / total[:, :, None]
        mixed = (1 - self._dark) * p + self._dark * self._dark_shares
        return mixed, (1 - self._dark)[:, :, None] * slopes

    def _light(self, parameters: Floats) -> tuple[Floats, Floats]:
        angles = self._offsets + self._angles @ parameters
        efficiency = np.exp(np.concatenate([[0.0], parameters[self._efficiency]]))
        visibility = self._visibility(parameters)
        cosine = np.cos(angles[:, None] - WANTED_RAD)
        gain = self._exposure * efficiency
        light = gain * (1 + visibility * cosine)
        turned = -gain * visibility * np.sin(angles[:, None] - WANTED_RAD)
        slopes = turned[:, :, None] * self._angles[:, None, :]
        for detector in (1, 2, 3):
            slopes[:, detector, self._efficiency.start + detector - 1] = light[:, detector]
        by_odds = gain * cosine * visibility * (1 - visibility)
        slopes[:, :, self._odds] = by_odds
        slopes[:, :, self._split] = by_odds * np.array([1.0, 1.0, -1.0, -1.0])
        return light, slopes

    def _visibility(self, parameters: Floats) -> Floats:
        """Return the visibility at each detector."""
        split = parameters[self._split] * np.array([1.0, 1.0, -1.0, -1.0])
        return np.asarray(1 / (1 + np.exp(-parameters[self._odds] - split)))

    def read(self, fit: MultinomialFit) -> StateFit:
        """Turn fitted parameters into what they mean."""
        parameters = fit.parameters
        relative = self._angles[-4:] - self._angles[-4]  # from H, in the last look
        angle = self._offsets[-4:] - self._offsets[-4] + relative @ parameters
        own = np.concatenate([[0.0], parameters[self._own]])
        visibility = self._visibility(parameters)
        brightness, sigma = self._brightness(parameters)
        return StateFit(
            gain=1 + parameters[self._scale] + own,
            place_rad=np.concatenate([[0.0], parameters[self._place]]),
            angle_rad=angle,
            angle_covariance=relative @ fit.covariance @ relative.T,
            visibility=(float(visibility[0]), float(visibility[2])),
            brightness=brightness,
            brightness_sigma=sigma,
            misfit=fit.misfit,
        )

    def _brightness(self, parameters: Floats) -> tuple[Floats, float]:
        look = self._looks[-1]
        seen = (look.counts - look.background).sum(axis=1)
        each = seen / self._light(parameters)[0][-4:].sum(axis=1)
        sigma = 1 / np.sqrt(look.counts.sum(axis=1)).min()
        return each / each.mean(), float(sigma)
