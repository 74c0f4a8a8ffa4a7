"""Constants of the tracking rivals, tuned once: ``python -m benchmarks.rivals.tracking_tuning``.

Found by grid on seeds 1000 and 1001 of runs of 1 500 windows, for a few ratios of drift to rate;
the others take those of the nearest ratio. Rivals are told the drift, so this is in their favour.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Gains:
    """Constants of a rival; what it has no use for is ignored.

    Attributes:
        dither: Size of dither, probe or step, in units of the bound's dither.
        window: Length of a window, in units of the time in which drift doubles the variance.
        gain: Share of what is read that is corrected.
        rest: Windows for which nothing is looked at.
    """

    dither: float
    window: float
    gain: float = 1.0
    rest: float = 0.0


TUNED: Mapping[str, Mapping[float, Gains]] = {
    "lock-in": {
        1e-10: Gains(1.0, 0.05, 0.2),
        1e-8: Gains(1.0, 0.05, 0.2),
        1e-6: Gains(0.7, 0.05, 0.1),
    },
    "periodic": {
        1e-10: Gains(4.0, 0.05, rest=18),
        1e-8: Gains(4.0, 0.05, rest=18),
        1e-6: Gains(4.0, 0.05, rest=6),
    },
    "spsa": {
        1e-10: Gains(1.0, 0.05, 0.3),
        1e-8: Gains(1.0, 0.05, 0.3),
        1e-6: Gains(1.0, 0.05, 0.1),
    },
    "random-local": {
        1e-10: Gains(2.0, 0.3),
        1e-8: Gains(2.0, 0.3),
        1e-6: Gains(1.0, 0.3),
    },
}
"""By ``drift^2 / rate``, rad^2 per detection."""


def tuned(method: str, drift_rad: float, rate_hz: float) -> Gains:
    """Look up the constants of a rival for a link."""
    by_ratio = TUNED[method]
    ratio = drift_rad**2 / rate_hz
    return by_ratio[min(by_ratio, key=lambda known: abs(math.log(known / ratio)))]
