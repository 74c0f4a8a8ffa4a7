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
    """

    expected_excess: float
    excess_q90: float
    innovation: float
    lost: bool
    photons: int
    floor: float
    drift_rad: float
    dark: bool
