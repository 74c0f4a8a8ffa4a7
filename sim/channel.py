"""What somebody does to the way between Alice and Bob: a bend, a cut, light from outside."""

from math import isfinite

from sim.timeline import Timeline


class Channel:
    """Loss and stray light that come and go at once; to begin with there is neither."""

    def __init__(self) -> None:
        self._loss_db: Timeline[float] = Timeline(0.0)
        self._stray_hz: Timeline[float] = Timeline(0.0)

    def bend(self, loss_db: float, now_s: float) -> None:
        """Let the channel lose more from now on, dB; some 100 dB are a cut, 0 mends it.

        Raises:
            ValueError: The loss is negative or not finite.
        """
        self._loss_db.set(_not_negative("loss", loss_db, "dB"), now_s)

    def illuminate(self, stray_hz: float, now_s: float) -> None:
        """Let light from outside make clicks in each detector from now on, Hz; 0 ends it.

        Raises:
            ValueError: The rate is negative or not finite.
        """
        self._stray_hz.set(_not_negative("stray light", stray_hz, "Hz"), now_s)

    def loss_db(self, now_s: float) -> float:
        """Return the loss that was added, dB."""
        return self._loss_db.at(now_s)

    def stray_hz(self, now_s: float) -> float:
        """Return the clicks that light from outside makes in each detector, Hz."""
        return self._stray_hz.at(now_s)

    def changes(self, start_s: float, end_s: float) -> list[float]:
        """Return the times between two times at which something was done to it."""
        return self._loss_db.changes(start_s, end_s) + self._stray_hz.changes(start_s, end_s)


def _not_negative(what: str, value: float, unit: str) -> float:
    if not (isfinite(value) and value >= 0):
        raise ValueError(f"{what} of {value} {unit} is not possible")
    return float(value)
