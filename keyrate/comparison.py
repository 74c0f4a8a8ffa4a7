"""The best rate of every protocol on one fibre with one kind of hardware, each at its best setting.

Keys are endless. What a protocol may choose (intensity, amplitude, chance to send) is the best of a
grid, for each length by itself.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keyrate.bbm92 import PairLink, bbm92
from keyrate.bounds import one_node, plob
from keyrate.decoy_bb84 import DecoyBB84, decoy_bb84
from keyrate.gg02 import GaussianLink, gg02
from keyrate.link import WeakCoherentLink, fibre_transmittance
from keyrate.mdi import RelayLink, mdi
from keyrate.phase_reference import PulseTrain, dps
from keyrate.rate import KeyRate, SecurityClass
from keyrate.sarg04 import sarg04
from keyrate.twin_field import TwinLink, curty_azuma_lo, phase_matching, sending_or_not

Array = NDArray[np.float64]

SIGNALS = np.geomspace(0.005, 1.5, 160)[:, None]
"""Mean photon numbers that are compared, shape ``(M, 1)``."""

AMPLITUDES = np.sqrt(np.geomspace(0.005, 0.6, 60))[:, None]
SENDING = np.geomspace(1e-3, 0.4, 40)[:, None, None]
VARIANCES = np.geomspace(0.3, 100, 160)[:, None]

DECOY_SHARE = 0.1
"""Mean photon number of the weak decoy over that of the signal."""


@dataclass(frozen=True)
class Hardware:
    """What all protocols are compared with.

    Attributes:
        loss_db_per_km: Of the fibre.
        efficiency: Of a single-photon receiver, its optics included.
        dark_probability: Per gate and detector.
        misalignment: Optical error rate, 0 to 1/2.
        correction: Leak of error correction over the least possible one.
        sifting: Share of clicks that sifting keeps; 1 where one basis is all but always chosen.
        excess_noise: Of a Gaussian-modulated link at the channel's input, shot-noise units.
        homodyne_efficiency: Of a homodyne receiver.
        electronic_noise: Of that, shot-noise units.
        reconciliation: Efficiency of its error correction, 0 to 1.
    """

    loss_db_per_km: float = 0.2
    efficiency: float = 0.2
    dark_probability: float = 1e-7
    misalignment: float = 0.01
    correction: float = 1.16
    sifting: float = 1.0
    excess_noise: float = 0.01
    homodyne_efficiency: float = 0.6
    electronic_noise: float = 0.1
    reconciliation: float = 0.95

    def fibre(self, length_km: ArrayLike) -> Array:
        """Return the transmittance of the fibre alone."""
        return fibre_transmittance(length_km, self.loss_db_per_km)


@dataclass(frozen=True)
class Curve:
    """The rate of one protocol over distance.

    Attributes:
        bits_per_pulse: At the best setting, 0 without key, shape ``(L,)``.
        security_class: Attacks that it holds against.
        ceiling: What it cannot exceed: the repeaterless bound, or that of one node.
    """

    bits_per_pulse: Array
    security_class: SecurityClass
    ceiling: Array


def compare(hardware: Hardware, length_km: ArrayLike) -> Mapping[str, Curve]:
    """Return the curve of every protocol, by name.

    Args:
        hardware: What they are compared with.
        length_km: Lengths of the fibre between Alice and Bob, shape ``(L,)``.
    """
    lengths_km = np.atleast_1d(np.asarray(length_km, dtype=float))
    fibre = hardware.fibre(lengths_km)
    curves = {}
    for name, rate_of in PROTOCOLS.items():
        rate = rate_of(hardware, fibre)
        best = rate.bits_per_pulse.reshape(-1, fibre.size).max(axis=0)
        ceiling = one_node(fibre) if name in TWIN_FIELD else plob(fibre)
        curves[name] = Curve(best, rate.security_class, ceiling)
    return curves


def _bb84(hardware: Hardware, fibre: Array) -> KeyRate:
    link = WeakCoherentLink(
        hardware.efficiency * fibre, 2 * hardware.dark_probability, hardware.misalignment
    )
    protocol = DecoyBB84(
        SIGNALS, DECOY_SHARE * SIGNALS, correction=hardware.correction, sifting=hardware.sifting
    )
    return decoy_bb84(link, protocol, "vacuum+weak")


def _sarg04(hardware: Hardware, fibre: Array) -> KeyRate:
    link = WeakCoherentLink(
        hardware.efficiency * fibre, 2 * hardware.dark_probability, hardware.misalignment
    )
    return sarg04(link, SIGNALS, hardware.correction)


def _bbm92(hardware: Hardware, fibre: Array) -> KeyRate:
    arm, dark = hardware.efficiency * np.sqrt(fibre), 2 * hardware.dark_probability
    link = PairLink(SIGNALS / 2, arm, arm, dark, dark, hardware.misalignment)
    return bbm92(link, hardware.correction, hardware.sifting)


def _mdi(hardware: Hardware, fibre: Array) -> KeyRate:
    arm = hardware.efficiency * np.sqrt(fibre)
    link = RelayLink(arm, arm, hardware.dark_probability, hardware.misalignment)
    return mdi(link, SIGNALS, SIGNALS, hardware.correction, hardware.sifting)


def _twin(hardware: Hardware, fibre: Array) -> TwinLink:
    return TwinLink(hardware.efficiency * np.sqrt(fibre), hardware.dark_probability)


def _phase_matching(hardware: Hardware, fibre: Array) -> KeyRate:
    return phase_matching(_twin(hardware, fibre), SIGNALS, correction=hardware.correction)


def _curty_azuma_lo(hardware: Hardware, fibre: Array) -> KeyRate:
    turned_rad = np.arccos(1 - 2 * hardware.misalignment)
    link = _twin(hardware, fibre)
    return curty_azuma_lo(link, AMPLITUDES, turned_rad, correction=hardware.correction)


def _sending(hardware: Hardware, fibre: Array) -> KeyRate:
    link = _twin(hardware, fibre)
    return sending_or_not(link, SIGNALS, SENDING, hardware.misalignment, hardware.correction)


def _dps(hardware: Hardware, fibre: Array) -> KeyRate:
    train = PulseTrain(
        hardware.efficiency * fibre, hardware.dark_probability, hardware.misalignment
    )
    return dps(train, SIGNALS, hardware.correction)


def _gg02(hardware: Hardware, fibre: Array) -> KeyRate:
    link = GaussianLink(
        VARIANCES,
        fibre,
        hardware.excess_noise,
        hardware.homodyne_efficiency,
        hardware.electronic_noise,
    )
    return gg02(link, "homodyne", hardware.reconciliation)


PROTOCOLS: Mapping[str, Callable[[Hardware, Array], KeyRate]] = {
    "decoy-bb84": _bb84,
    "sarg04": _sarg04,
    "bbm92": _bbm92,
    "mdi": _mdi,
    "phase-matching": _phase_matching,
    "curty-azuma-lo": _curty_azuma_lo,
    "sending-or-not": _sending,
    "dps": _dps,
    "gg02": _gg02,
}
"""Every protocol that has a rate of its own on a fibre."""

TWIN_FIELD = frozenset({"phase-matching", "curty-azuma-lo", "sending-or-not"})
"""Those that pass a node half-way."""
