"""An output given in another unit than the instrument's: what its drive brings about.

A liquid-crystal retarder is driven in volts, and what matters is its retardance, in waves; the data
sheet or a measurement ties them together. Searches and trackers work best, or at all, in the unit
in which the optics respond evenly.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.interpolate import PchipInterpolator

from drivers.roles import Actuator


class CalibrationCurve:
    """A monotone curve through measured points, and its inverse.

    Piecewise cubic without overshoot (F. N. Fritsch and J. Butland, SIAM J. Sci. Stat. Comput. 5,
    300 (1984)); beyond the first and the last point the value stays.

    Args:
        drive: What the instrument is set to, rising.
        value: What comes of it, same length, rising or falling.
        unit: Unit of the values.

    Attributes:
        unit: As above.
        drives: Least and largest drive of the table.
        values: Least and largest value.

    Raises:
        ValueError: The points make no curve that can be inverted.
    """

    def __init__(self, drive: Sequence[float], value: Sequence[float], unit: str) -> None:
        if len(drive) != len(value) or len(drive) < 2:
            raise ValueError(
                f"a curve of {len(drive)} drives and {len(value)} values; give as many, at least 2"
            )
        if not (np.all(np.isfinite(drive)) and np.all(np.isfinite(value))):
            raise ValueError("a curve with a point that is no number; correct it")
        if not np.all(np.diff(drive) > 0):
            raise ValueError("the drives of a curve must rise from each point to the next")
        steps = np.diff(value)
        if not (np.all(steps > 0) or np.all(steps < 0)):
            raise ValueError(
                "the values of a curve must rise throughout or fall throughout; leave out points "
                "at which the output does not respond, such as those below a threshold"
            )
        self.unit = unit
        self.drives = float(drive[0]), float(drive[-1])
        self.values = float(min(value)), float(max(value))
        self._curve = PchipInterpolator(drive, value)

    def value(self, drive: float) -> float:
        """Tell what a drive brings about."""
        return float(np.clip(self._curve(np.clip(drive, *self.drives)), *self.values))

    def drive(self, value: float) -> float:
        """Tell which drive brings about a value; one beyond all values takes the nearest."""
        roots = self._curve.solve(float(np.clip(value, *self.values)), extrapolate=False)
        if len(roots) == 0:  # rounding put an end of the curve just out of its own reach
            first, last = self.drives
            is_first = abs(value - self.value(first)) < abs(value - self.value(last))
            return first if is_first else last
        return float(np.clip(roots[0], *self.drives))


def in_unit_of(curve: CalibrationCurve, actuator: Actuator) -> Actuator:
    """Give an output in the unit of its curve; the instrument rounds as it does.

    Raises:
        ValueError: No drive of the curve lies within the instrument's limits.
    """
    least = max(actuator.minimum, curve.drives[0])
    most = min(actuator.maximum, curve.drives[1])
    if least > most:
        raise ValueError(
            f"its curve is known from {curve.drives[0]:g} to {curve.drives[1]:g} {actuator.unit}, "
            f"the instrument goes from {actuator.minimum:g} to {actuator.maximum:g}"
        )
    minimum, maximum = sorted((curve.value(least), curve.value(most)))

    async def write(value: float) -> float:
        drive = min(max(curve.drive(value), least), most)
        return curve.value(await actuator.write(drive))

    async def read() -> float:
        return curve.value(await actuator.read())

    return replace(
        actuator,
        unit=curve.unit,
        minimum=minimum,
        maximum=maximum,
        resolution=0.0,
        write=write,
        read=read,
    )
