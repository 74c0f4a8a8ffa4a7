"""What a calibration stage needs of the testbed, and how a window can fail it."""

import math
from collections.abc import Mapping
from typing import Protocol

from calibration.clicks import Window


class Bench(Protocol):
    """Knobs to turn and a receiver to look at; every failure is an InstrumentError."""

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        """Set knobs together, through their limits; return what they settled on."""
        ...

    async def measure(self, photons: int) -> Window:
        """Integrate for about as long as ``photons`` detections take, all detectors together."""
        ...

    def limits(self, name: str) -> tuple[float, float]:
        """Lowest and highest value of a knob."""
        ...


class UnusableWindowError(Exception):
    """A window says nothing about the setting it was measured at."""


class LightLostError(UnusableWindowError):
    """There is no light, or much less than there should be: it may come back.

    Attributes:
        least_hz: Detections per second, all detectors, from which it counts as back.
    """

    def __init__(self, message: str, least_hz: float = 0.0) -> None:
        super().__init__(message)
        self.least_hz = least_hz


def refuse_unusable(window: Window) -> None:
    """Let pass only windows from which a QBER may be estimated.

    Raises:
        LightLostError: The window is dark.
        UnusableWindowError: It is saturated, or holds no sifted count.
    """
    if "dark" in window.flags:
        raise LightLostError(
            "no light: the counts are no more than dark counts (shutter shut, fibre pulled, or "
            "gate delays wrong?)"
        )
    if "saturated" in window.flags:
        raise UnusableWindowError("a detector saturates: more attenuation is needed")
    if math.isnan(window.signal.qber.value):
        raise UnusableWindowError(f"no sifted count among {window.photons} detections")
