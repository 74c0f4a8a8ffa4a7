"""Ways of holding a phase while key is made that know no more of it than a QBER or a sine.

Each takes what a laboratory is told of the link, and constants. How long they look and how far
they step is counted in what the link sets: the memory time (in which drift doubles the variance of
the best estimate) and the standard deviation of the phase that the best estimate leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np

from benchmarks.phase_drift_twin import Held


@dataclass(frozen=True)
class PhaseTold:
    """What a method is told.

    Attributes:
        encoding: Which counts see the phase.
        limits_v: Lowest and highest voltage.
        half_wave_v: Nominal half-wave voltage.
        start_v: Voltage that a calibration left.
        start_sigma_rad: What the calibration left of the phase.
        floor: QBER at phase zero, as the calibration had it.
        drift_guess: Variance of the phase's walk, rad^2/s, right within two decades either way.
        latency_windows: Windows whose counts are not there yet when the next one is chosen.
        play_v: Half width of the drive's play, as far as it is known, V.
        has_sensor: Whether a temperature comes with every window.
        shortest_s: Shortest window.
        memory_s: Memory time of the best estimate: for rivals and the oracle alone.
        sigma_rad: Standard deviation of its error: for rivals and the oracle alone.
        drift: The true one: for the oracle alone.
        rate_hz: Counts that see the phase.
        seed: For methods with chances of their own.
        now_s: When the method starts.
    """

    encoding: Literal["four-phase", "errors-only"]
    limits_v: tuple[float, float]
    half_wave_v: float
    start_v: float
    start_sigma_rad: float
    floor: float
    drift_guess: float
    latency_windows: int
    play_v: float
    has_sensor: bool
    shortest_s: float
    memory_s: float
    sigma_rad: float
    drift: float
    rate_hz: float
    seed: int
    now_s: float = 0.0

    @property
    def rad_per_v(self) -> float:
        """Nominal phase per volt."""
        return float(np.pi / self.half_wave_v)


class Holder(Protocol):
    """A way of holding a phase.

    Attributes:
        lost: Whether it says that the lock is lost.
        takes_off_play: Whether it takes the drive's play off itself; else the knob does.
    """

    lost: bool
    takes_off_play: ClassVar[bool]

    def propose(self, now_s: float) -> tuple[float, float]:
        """Give the voltage of the next window, V, and its length, s."""
        ...

    def learn(self, held: Held, drive_v: float, now_s: float) -> None:
        """Take in one window, which ended at a time; windows come in their order."""
        ...


def qber(held: Held) -> tuple[int, int]:
    """Count errors and counts of the matched bases that see the phase."""
    wrong = held.table[[0, 1, 2, 3], [1, 0, 3, 2]].sum()
    return int(wrong), int(wrong + np.trace(held.table))


def sine(held: Held) -> float:
    """Estimate the sine of the phase from the mismatched bases; 0 without counts."""
    table = held.table
    right, left = table[:2, 2:], table[2:, :2]
    plus = right[0, 0] + right[1, 1] + left[0, 1] + left[1, 0]
    total = right.sum() + left.sum()
    return float((2 * plus - total) / total) if total else 0.0


class Resting:
    """Leave the voltage alone."""

    lost = False
    takes_off_play: ClassVar[bool] = False

    def __init__(self, told: PhaseTold, tuned: Mapping[str, float]) -> None:
        self._told, self._drive_v = told, told.start_v
        self._window_s = max(tuned.get("window", 0.1) * told.memory_s, told.shortest_s)

    def propose(self, now_s: float) -> tuple[float, float]:
        """Propose what was proposed before."""
        return self._drive_v, self._window_s

    def learn(self, held: Held, drive_v: float, now_s: float) -> None:
        """Learn nothing."""

    def _correct(self, by_rad: float) -> None:
        """Take a phase off, and go back by a period at an end of the range."""
        drive_v = self._drive_v - by_rad / self._told.rad_per_v
        low, high = self._told.limits_v
        period_v = 2 * self._told.half_wave_v
        if drive_v < low:
            drive_v += period_v
        elif drive_v > high:
            drive_v -= period_v
        self._drive_v = drive_v


class LockIn(Resting):
    """Dither by a fixed phase, and integrate the difference of the QBER on both sides."""

    def __init__(self, told: PhaseTold, tuned: Mapping[str, float]) -> None:
        super().__init__(told, tuned)
        self._gain, self._dither_rad = tuned["gain"], tuned["dither"] * told.sigma_rad
        self._sides: list[float] = []
        self._next = 1.0
        self._seen: dict[float, float] = {}

    def propose(self, now_s: float) -> tuple[float, float]:
        """Propose the voltage held, and one side of it."""
        side, self._next = self._next, self._following()
        self._sides.append(side)
        shift_v = side * self._dither_rad / self._told.rad_per_v
        return float(np.clip(self._drive_v + shift_v, *self._told.limits_v)), self._window_s

    def learn(self, held: Held, drive_v: float, now_s: float) -> None:
        """Correct after every pair of sides."""
        wrong, total = qber(held)
        self._seen[self._sides.pop(0)] = wrong / max(total, 1)
        if len(self._seen) == 2:
            difference = self._seen[1.0] - self._seen[-1.0]
            self._correct(self._step(difference))
            self._seen = {}

    def _following(self) -> float:
        return -self._next

    def _step(self, difference: float) -> float:
        """Return the phase to take off: the QBER is ``(1 - V cos) / 2``."""
        contrast = 1 - 2 * self._told.floor
        return float(self._gain * difference / (contrast * np.sin(self._dither_rad)))


class Spsa(LockIn):
    """Simultaneous perturbation: the same, the sides in random order and the step limited.

    Source: J. C. Spall, IEEE Trans. Autom. Control 37, 332 (1992); gains constant, for tracking.
    """

    def __init__(self, told: PhaseTold, tuned: Mapping[str, float]) -> None:
        super().__init__(told, tuned)
        self._rng = np.random.default_rng([told.seed, 0x5B])
        self._is_second = True
        self._next = self._following()

    def _following(self) -> float:
        self._is_second = not self._is_second
        return -self._next if self._is_second else float(self._rng.choice([-1.0, 1.0]))

    def _step(self, difference: float) -> float:
        return float(np.clip(super()._step(difference), -self._dither_rad, self._dither_rad))


class Pid(Resting):
    """Proportional and integral control of an error signal.

    With four phases the signal is the sine, free of charge; else that of a dither.
    """

    def __init__(self, told: PhaseTold, tuned: Mapping[str, float]) -> None:
        super().__init__(told, tuned)
        self._gain, self._reset = tuned["gain"], tuned["reset"]
        self._dither_rad = tuned.get("dither", 0.0) * told.sigma_rad
        if told.encoding == "four-phase":
            self._dither_rad = 0.0
        self._sum_rad, self._side = 0.0, 1.0
        self._sides: list[float] = []

    def propose(self, now_s: float) -> tuple[float, float]:
        """Propose the voltage held; where there is no sine, one side of it."""
        self._side = -self._side
        self._sides.append(self._side)
        shift_v = self._side * self._dither_rad / self._told.rad_per_v
        return float(np.clip(self._drive_v + shift_v, *self._told.limits_v)), self._window_s

    def learn(self, held: Held, drive_v: float, now_s: float) -> None:
        """Correct by the signal and its sum."""
        side = self._sides.pop(0)
        if self._told.encoding == "four-phase":
            error_rad = sine(held)
        else:
            wrong, total = qber(held)
            above = wrong / max(total, 1) - self._told.floor
            error_rad = side * (2 * above - (1 - np.cos(self._dither_rad)))
            error_rad /= np.sin(self._dither_rad)
        self._sum_rad += self._reset * error_rad
        self._correct(self._gain * error_rad + self._sum_rad)


class PerturbAndObserve(Resting):
    """Go on by fixed steps as long as the QBER falls, and turn round when it rises."""

    def __init__(self, told: PhaseTold, tuned: Mapping[str, float]) -> None:
        super().__init__(told, tuned)
        self._step_rad = tuned["dither"] * told.sigma_rad
        self._before = 1.0

    def learn(self, held: Held, drive_v: float, now_s: float) -> None:
        """Compare with the window before."""
        wrong, total = qber(held)
        if wrong / max(total, 1) > self._before:
            self._step_rad = -self._step_rad
        self._before = wrong / max(total, 1)
        self._correct(self._step_rad)


class Periodic(Resting):
    """Stand still, and every so often measure both sides at a distance and go to the middle."""

    def __init__(self, told: PhaseTold, tuned: Mapping[str, float]) -> None:
        super().__init__(told, tuned)
        self._rest_s = tuned["rest"] * told.memory_s
        self._aside_rad = tuned["dither"]
        self._sides: list[float] = []
        self._seen: dict[float, float] = {}
        self._next_s = told.now_s
        self._plan = [1.0, -1.0]

    def propose(self, now_s: float) -> tuple[float, float]:
        """Propose to rest, or one side."""
        if now_s >= self._next_s and not self._plan:
            self._plan = [1.0, -1.0]
        side = self._plan.pop() if self._plan else 0.0
        if side and not self._plan:
            self._next_s = now_s + self._rest_s
        self._sides.append(side)
        shift_v = side * self._aside_rad / self._told.rad_per_v
        window_s = self._window_s if side else max(self._rest_s / 4, self._told.shortest_s)
        return float(np.clip(self._drive_v + shift_v, *self._told.limits_v)), window_s

    def learn(self, held: Held, drive_v: float, now_s: float) -> None:
        """Correct once both sides are known."""
        side = self._sides.pop(0)
        if not side:
            return
        wrong, total = qber(held)
        self._seen[side] = wrong / max(total, 1)
        if len(self._seen) == 2:
            difference = self._seen[1.0] - self._seen[-1.0]
            contrast = 1 - 2 * self._told.floor
            sine = np.clip(difference / (contrast * np.sin(self._aside_rad)), -1, 1)
            self._correct(float(np.arcsin(sine)))
            self._seen = {}


class Oracle(Resting):
    """A Kalman filter that is told drift and floor, with the optimum dither."""

    def __init__(self, told: PhaseTold, tuned: Mapping[str, float]) -> None:
        super().__init__(told, {"window": 0.03})
        self._phase, self._variance = 0.0, told.start_sigma_rad**2
        self._side, self._learnt_s = 1.0, told.now_s
        self._centre_v = told.start_v

    def propose(self, now_s: float) -> tuple[float, float]:
        """Propose phase zero as expected, and one side of it where errors alone see the phase."""
        variance = self._variance + self._told.drift * max(now_s - self._learnt_s, 0.0)
        dither_rad = 0.0
        if self._told.encoding == "errors-only":
            self._side = -self._side
            dither_rad = self._side * min(np.sqrt(variance / 2), 0.3)
        self._correct(self._phase_at(self._drive_v))
        shift_v = dither_rad / self._told.rad_per_v
        return float(np.clip(self._drive_v + shift_v, *self._told.limits_v)), self._window_s

    def learn(self, held: Held, drive_v: float, now_s: float) -> None:
        """Take one step of scoring."""
        self._variance += self._told.drift * max(now_s - self._learnt_s, 0.0)
        self._learnt_s = now_s
        theta = self._phase_at(drive_v)
        contrast = 1 - 2 * self._told.floor
        wrong, total = qber(held)
        expected = (1 - contrast * np.exp(-self._variance / 2) * np.cos(theta)) / 2
        slope = contrast * np.sin(theta) / 2
        information = total * slope**2 / (expected * (1 - expected))
        score = (wrong - total * expected) * slope / (expected * (1 - expected))
        if self._told.encoding == "four-phase":
            crossed = int(held.table.sum()) - total
            expected = (1 + contrast * np.sin(theta)) / 2
            slope = contrast * np.cos(theta) / 2
            plus = crossed * (1 + sine(held)) / 2
            information += crossed * slope**2 / (expected * (1 - expected))
            score += (plus - crossed * expected) * slope / (expected * (1 - expected))
        self._variance = 1 / (1 / self._variance + information)
        self._phase += self._variance * score

    def _phase_at(self, drive_v: float) -> float:
        return self._phase + self._told.rad_per_v * (drive_v - self._centre_v)
