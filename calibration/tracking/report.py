"""What every tracker proposes for a window, and what it says of one."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Proposal:
    """What to set for the next window.

    Attributes:
        setting: Drive of each channel, dither included.
        held: The setting without dither: the one to go back to.
        dither_rad: Dither of each angle that is probed: rotation about S1 and S2 in front of the
            receiver, or the phase, rad.
        window_s: How long to count, s.
    """

    setting: dict[str, float]
    held: dict[str, float]
    dither_rad: tuple[float, ...]
    window_s: float


@dataclass(frozen=True)
class TrackingReport:
    """What a window told.

    Attributes:
        expected_excess: Expected QBER above the floor, mean of both bases, dither included.
        excess_q90: Bound on it that holds with a probability of 90 %.
        innovation: Evidence that the lock is lost, as a share of what is demanded.
        lost: Whether the lock is lost; stays so.
        photons: Detections of the window.
        floor: QBER with nothing left to correct, as learnt.
        drift_rad: Drift per angle in one second, as learnt, rad.
        dark: Whether nothing was learnt because nothing arrived.
        dither_qber: QBER that the dither alone cost in this window, part of the expected excess.
        limit_excess: Least mean excess that any tracker could reach at the drift learnt and the
            present rate of detections, dither included; 0 while no rate is known.
    """

    expected_excess: float
    excess_q90: float
    innovation: float
    lost: bool
    photons: int
    floor: float
    drift_rad: float
    dark: bool
    dither_qber: float
    limit_excess: float


RATE_FADING = 0.9
"""Per window, of the share that older windows have in the rate of detections."""


@dataclass
class Rate:
    """Rate of detections, averaged over the newest windows.

    Attributes:
        photons: Detections, older ones faded.
        duration_s: In what time, faded alike, s.
    """

    photons: float = 0.0
    duration_s: float = 0.0

    @property
    def hz(self) -> float:
        """Detections per second; 0 as long as there were none."""
        return self.photons / self.duration_s if self.duration_s > 0 else 0.0

    def count(self, photons: int, duration_s: float) -> None:
        """Take in a window."""
        self.photons = RATE_FADING * self.photons + photons
        self.duration_s = RATE_FADING * self.duration_s + duration_s
