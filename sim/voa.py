"""Physics of a variable optical attenuator with a shutter."""

from math import isfinite

from sim.timeline import Ramp, Timeline

FULL_SPEED_DB_PER_S = 1000.0


class AttenuatorModel:
    """A filter that moves at a set speed, and a shutter that shuts at once but opens at that speed.

    An opening shutter is a ramp of optical power: its own attenuation falls from the filter's
    maximum to nothing. The shutter is shut at power-up.

    Args:
        attenuation_db: Filter's position at power-up, dB.
        maximum_db: Filter's range, from 0, dB.
        speed_db_per_s: Transition speed, dB/s.
    """

    def __init__(
        self,
        attenuation_db: float = 0.0,
        *,
        maximum_db: float = 45.0,
        speed_db_per_s: float = FULL_SPEED_DB_PER_S,
    ) -> None:
        self.maximum_db = maximum_db
        self._speed_db_per_s = speed_db_per_s
        self._check(attenuation_db)
        self._filter = Timeline(Ramp(0.0, attenuation_db, attenuation_db, speed_db_per_s))
        self._shutter: Timeline[Ramp | None] = Timeline(None)  # None: shut

    def move_to(self, attenuation_db: float, now_s: float) -> None:
        """Send the filter towards an attenuation, dB.

        Raises:
            ValueError: The attenuation is outside the filter's range.
        """
        self._check(attenuation_db)
        ramp = self._filter.latest.turned(attenuation_db, now_s, self._speed_db_per_s)
        self._filter.set(ramp, now_s)

    def set_speed(self, speed_db_per_s: float) -> None:
        """Set the speed of the transitions that begin from now on, dB/s.

        Raises:
            ValueError: The speed is not a positive number.
        """
        if not (isfinite(speed_db_per_s) and speed_db_per_s > 0):
            raise ValueError(f"speed {speed_db_per_s} dB/s is not positive")
        self._speed_db_per_s = speed_db_per_s

    @property
    def target_db(self) -> float:
        """Attenuation that was commanded last, dB."""
        return self._filter.latest.target

    @property
    def speed_db_per_s(self) -> float:
        """Transition speed, dB/s."""
        return self._speed_db_per_s

    def actual_db(self, now_s: float) -> float:
        """Return where the filter is at a time, dB, the shutter left aside."""
        return self._filter.at(now_s).at(now_s)

    def set_shutter(self, is_open: bool, now_s: float) -> None:
        """Shut the shutter at once, or begin to open it."""
        if not is_open:
            self._shutter.set(None, now_s)
        elif self._shutter.latest is None:
            self._shutter.set(Ramp(now_s, self.maximum_db, 0.0, self._speed_db_per_s), now_s)

    def shutter_open(self, now_s: float) -> bool:
        """Tell whether the shutter is open or opening."""
        return self._shutter.at(now_s) is not None

    def time_left_s(self, now_s: float) -> float:
        """Return how long filter and shutter still move, s."""
        ramps = (self._filter.at(now_s), self._shutter.at(now_s))
        return max(0.0, *(ramp.end_s - now_s for ramp in ramps if ramp is not None))

    def transmission(self, now_s: float) -> float:
        """Return the share of the light that passes, 0 to 1."""
        shutter = self._shutter.at(now_s)
        if shutter is None:
            return 0.0
        return float(10 ** (-(self.actual_db(now_s) + shutter.at(now_s)) / 10))

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which filter or shutter was told to move."""
        return self._filter.changes(start_s, end_s) + self._shutter.changes(start_s, end_s)

    def _check(self, attenuation_db: float) -> None:
        if not 0 <= attenuation_db <= self.maximum_db:
            raise ValueError(f"{attenuation_db} dB is outside 0 to {self.maximum_db:g} dB")
