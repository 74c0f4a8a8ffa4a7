"""Superconducting nanowires: what the bias current does to efficiency and dark counts."""

from dataclasses import dataclass
from math import erf, exp, isfinite
from typing import Final

import numpy as np

from sim.stokes import Floats
from sim.timeline import Timeline

WIRES: Final = (1, 2, 3, 4)


@dataclass(frozen=True)
class NanowireSettings:
    """Four like nanowires.

    Attributes:
        default_bias_ua: Bias until somebody sets another, uA: well on the plateau. Efficiencies
            and dark count rates of the receiver hold here.
        onset_ua: Bias at which the efficiency is half of that on the plateau, uA.
        width_ua: How gradually the plateau is reached, uA.
        dark_scale_ua: Bias by which dark counts grow ``e``-fold, uA.
        switching_ua: Bias above which a wire turns normal and latches, uA.
        retrapping_ua: Bias at or below which a latched wire becomes superconducting again, uA.
    """

    default_bias_ua: float = 15.0
    onset_ua: float = 8.0
    width_ua: float = 2.0
    dark_scale_ua: float = 1.5
    switching_ua: float = 25.0
    retrapping_ua: float = 3.0

    def __post_init__(self) -> None:
        if not 0 <= self.retrapping_ua < self.default_bias_ua < self.switching_ua:
            raise ValueError("bias currents must be in the order retrapping, default, switching")
        if not (self.width_ua > 0 and self.dark_scale_ua > 0):
            raise ValueError("width_ua and dark_scale_ua must be positive")


@dataclass(frozen=True)
class _Bias:
    current_ua: float
    is_latched: bool


class Nanowires:
    """Bias of four superconducting nanowire single-photon detectors.

    Relative to the default bias, the efficiency follows ``1 + erf((I - I_0) / w)``, a plateau with
    a soft edge, and dark counts grow as ``exp(I / I_d)``. Above the switching current a wire stays
    normal, blind and silent, until the bias has been taken down. The sign of a current does not
    matter.
    Sources: efficiency: M. Caloz et al., Appl. Phys. Lett. 110, 083106 (2017); dark counts:
    H. Bartolf et al., Phys. Rev. B 81, 024502 (2010); latching: J. K. W. Yang et al., IEEE Trans.
    Appl. Supercond. 17, 581 (2007).
    """

    def __init__(self, settings: NanowireSettings | None = None) -> None:
        self.settings = settings or NanowireSettings()
        rest = _Bias(self.settings.default_bias_ua, is_latched=False)
        self._wires = {detector: Timeline(rest) for detector in WIRES}

    def set_bias(self, detector: int, current_ua: float, now_s: float) -> None:
        """Set the bias current of one detector, 1 to 4 for H, V, D, A; it is there at once.

        Raises:
            ValueError: There is no such detector, or the current is not finite.
        """
        if not isfinite(current_ua):
            raise ValueError(f"a bias of {current_ua} uA is not possible")
        wire, size_ua = self._wire(detector), abs(current_ua)
        is_normal = size_ua > self.settings.switching_ua
        stays_normal = wire.latest.is_latched and size_ua > self.settings.retrapping_ua
        wire.set(_Bias(current_ua, is_normal or stays_normal), now_s)

    def bias_ua(self, detector: int, now_s: float) -> float:
        """Return the bias current of a detector at a time, uA."""
        return self._wire(detector).at(now_s).current_ua

    def is_latched(self, detector: int, now_s: float) -> bool:
        """Tell whether a wire is normal at a time."""
        return self._wire(detector).at(now_s).is_latched

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which a bias was set."""
        return [t for wire in self._wires.values() for t in wire.changes(start_s, end_s)]

    def response(self, now_s: float) -> tuple[Floats, Floats]:
        """Return efficiency and dark count rate as multiples of those at the default bias.

        Both are exactly 1 there.

        Returns:
            Two arrays of shape ``(4,)``.
        """
        states = [wire.at(now_s) for wire in self._wires.values()]
        plateau = self._share(self.settings.default_bias_ua)
        factors = [
            (0.0, 0.0)
            if state.is_latched or state.current_ua == 0
            else (self._share(state.current_ua) / plateau, self._darkness(state.current_ua))
            for state in states
        ]
        efficiency, dark = np.array(factors).T
        return efficiency, dark

    def _share(self, current_ua: float) -> float:
        return 0.5 * (1 + erf((abs(current_ua) - self.settings.onset_ua) / self.settings.width_ua))

    def _darkness(self, current_ua: float) -> float:
        return exp((abs(current_ua) - self.settings.default_bias_ua) / self.settings.dark_scale_ua)

    def _wire(self, detector: int) -> Timeline[_Bias]:
        if detector not in self._wires:
            raise ValueError(f"detector {detector} is not one of 1 to 4")
        return self._wires[detector]
