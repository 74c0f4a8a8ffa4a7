"""The link of a weak coherent source: what arrives, what clicks, and how much of it is wrong.

Notation as in the literature: ``eta`` transmittance per photon with Bob's optics and detectors,
``Y_0`` background per gate of the whole receiver, ``e_d`` optical error, ``Q_k`` and ``E_k`` gain
and error rate of intensity ``k``, ``Y_n`` and ``e_n`` yield and error rate of ``n`` photons.
Source: X. Ma et al., Phys. Rev. A 72, 012326 (2005).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BACKGROUND_ERROR = 0.5
"""Error rate of background clicks, ``e_0``."""


def fibre_transmittance(length_km: ArrayLike, loss_db_per_km: ArrayLike = 0.2) -> Array:
    """Return ``10^(-alpha L / 10)``."""
    loss_db = np.asarray(length_km, dtype=float) * np.asarray(loss_db_per_km, dtype=float)
    return np.asarray(10 ** (-loss_db / 10))


@dataclass(frozen=True)
class WeakCoherentLink:
    """A phase-randomised source, a lossy channel, threshold detectors. Fields broadcast.

    Attributes:
        transmittance: ``eta``, 0 to 1.
        background: ``Y_0``; twice that of one detector where two are gated.
        misalignment: ``e_d``, 0 to 1/2.
        afterpulse_probability: Chance that a click is followed by another within the block.
    """

    transmittance: ArrayLike
    background: ArrayLike
    misalignment: ArrayLike
    afterpulse_probability: ArrayLike = 0.0

    def gain(self, mean_photons: ArrayLike) -> Array:
        """Return ``Q_k``: the chance of a click per pulse, afterpulses included."""
        return np.asarray(
            self._first_gain(mean_photons) * (1 + np.asarray(self.afterpulse_probability))
        )

    def error_gain(self, mean_photons: ArrayLike) -> Array:
        """Return ``E_k Q_k``: the chance of a wrong click per pulse; afterpulses err in half."""
        errors = BACKGROUND_ERROR * np.asarray(self.background)
        errors = errors + np.asarray(self.misalignment) * self._arriving(mean_photons)
        again = np.asarray(self.afterpulse_probability) * self._first_gain(mean_photons)
        return np.asarray(errors + BACKGROUND_ERROR * again)

    def qber(self, mean_photons: ArrayLike) -> Array:
        """Return ``E_k``; 1/2 where nothing ever clicks."""
        return _share(self.error_gain(mean_photons), self.gain(mean_photons))

    def yield_of(self, photons: ArrayLike) -> Array:
        """Return ``Y_n``, afterpulses left aside."""
        lost = (1 - np.asarray(self.transmittance)) ** np.asarray(photons)
        return np.asarray(1 - (1 - np.asarray(self.background)) * lost)

    def error_of(self, photons: ArrayLike) -> Array:
        """Return ``e_n``, afterpulses left aside; 1/2 where nothing ever clicks."""
        arriving = 1 - (1 - np.asarray(self.transmittance)) ** np.asarray(photons)
        errors = BACKGROUND_ERROR * np.asarray(self.background)
        return _share(errors + np.asarray(self.misalignment) * arriving, self.yield_of(photons))

    def _arriving(self, mean_photons: ArrayLike) -> Array:
        return np.asarray(-np.expm1(-np.asarray(self.transmittance) * np.asarray(mean_photons)))

    def _first_gain(self, mean_photons: ArrayLike) -> Array:
        background = np.asarray(self.background)
        return np.asarray(background + (1 - background) * self._arriving(mean_photons))


def _share(wrong: Array, clicks: Array) -> Array:
    wrong, clicks = np.broadcast_arrays(wrong, clicks)
    unknown = np.full(clicks.shape, BACKGROUND_ERROR)
    return np.asarray(np.divide(wrong, clicks, out=unknown, where=clicks > 0))


def registered_rate(click_rate_hz: ArrayLike, dead_time_s: ArrayLike) -> Array:
    """Return the rate after a non-paralysable dead time, ``r / (1 + r tau)``, Hz."""
    rate_hz = np.asarray(click_rate_hz, dtype=float)
    return np.asarray(rate_hz / (1 + rate_hz * np.asarray(dead_time_s)))


def double_clicks(
    arriving: ArrayLike, dark_probability: ArrayLike, misalignment: ArrayLike, *, is_matched: bool
) -> Array:
    """Return the chance that both detectors of a basis click. They get a random bit, never none.

    Args:
        arriving: Mean number of photoelectrons per pulse, ``eta k``.
        dark_probability: Per gate and detector.
        misalignment: ``e_d``.
        is_matched: Whether the state was sent in this basis.
    """
    light, dark = np.asarray(arriving, dtype=float), np.asarray(dark_probability)
    wrong = np.asarray(misalignment) if is_matched else np.asarray(0.5)

    def clicks(share: Array) -> Array:
        return np.asarray(1 - (1 - dark) * np.exp(-light * share))

    return clicks(1 - wrong) * clicks(wrong)
