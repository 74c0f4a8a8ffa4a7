"""Constants of the tracking rivals, tuned once: ``python -m benchmarks.rivals.tracking_tuning``.

Found by grid on seeds 1000 and 1001 of runs a third as long, for a few ratios of drift to rate; the
others take those of the nearest ratio. Rivals are told the drift, so this is in their favour.
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
    "lock-in": {1e-8: Gains(1.4, 0.05, 0.3)},
    "periodic": {1e-8: Gains(4.0, 0.05, rest=20)},
    "spsa": {1e-8: Gains(1.4, 0.05, 0.3)},
    "random-local": {1e-8: Gains(1.4, 0.2)},
}
"""By ``drift^2 / rate``, rad^2 per detection."""


def tuned(method: str, drift_rad: float, rate_hz: float) -> Gains:
    """Look up the constants of a rival for a link."""
    by_ratio = TUNED[method]
    ratio = drift_rad**2 / rate_hz
    return by_ratio[min(by_ratio, key=lambda known: abs(math.log(known / ratio)))]
