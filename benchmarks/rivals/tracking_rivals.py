"""How laboratories hold a polarization: from the errors of Z and X alone, without a model of drift.

Where a rival turns the link about an axis, it does so with the controller as the alignment has
learnt it, which is more than most have. Lengths of time are in units of the time in which drift
doubles the variance at the bound, angles in units of the bound's dither, so that one set of
constants, tuned once, fits links of any rate (``tracking_gains``).
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.rivals.tracking_gains import Gains
from benchmarks.tasks.tracking_loop import Given, Move
from calibration import kinematics
from calibration.clicks import Clicks

Array = NDArray[np.float64]

SIGNS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=float)
"""Senses of the dither about S1, S2, S3 in four windows: each as often up as down, whatever the
others do."""

WEIGHTS = np.array([1.0, 1.0, 2.0]) / 8
"""Excess QBER per squared rotation about S1, S2, S3; rad^-2."""

RELINEARISED_V = 0.1
"""Change of a voltage after which the effect of all is computed anew."""


class Steering:
    """Turns the link about axes in front of the receiver, with the controller as learnt."""

    def __init__(self, given: Given) -> None:
        self._posterior = given.start.posterior
        self._span = given.twin.limits
        self._seen_at: Array | None = None
        self.drives = given.start.drives

    def turned(self, turn_rad: Array) -> Array:
        """Give the drives for a small turn about S1, S2, S3, shape ``(3,)``, from here."""
        mode = self._posterior.modes[:1]
        if self._seen_at is None or np.abs(self.drives - self._seen_at).max() > RELINEARISED_V:
            controller, axes = self._posterior.chain.actuator_axes(mode, self.drives[None])
            behind = mode.receiver[0] @ controller[0, 0]
            effect = behind @ axes[0, 0].T
            self._inverse = np.linalg.pinv(effect, rcond=0.1)
            self._seen_at = self.drives
        return self.moved(self._inverse @ turn_rad)

    def turn(self, turn_rad: Array) -> None:
        """Make such a turn for good."""
        self.drives = self.turned(turn_rad)

    def moved(self, step_rad: Array) -> Array:
        """Give the drives moved by nominal radians of retardance, shape ``(4,)``."""
        chain, mode = self._posterior.chain, self._posterior.modes[:1]
        drives = self.drives + step_rad * chain.half_turn / np.pi
        return kinematics.bring_into_range(drives, chain.period(mode)[0], self._span)

    def move(self, step_rad: Array) -> None:
        """Move so for good."""
        self.drives = self.moved(step_rad)


class Rival:
    """A method written as a generator of moves that is sent the errors of Z and of X.

    Args:
        given: What it begins with.
        gains: Its constants.
    """

    def __init__(self, given: Given, gains: Gains) -> None:
        bound = given.case.bound
        self.gains = gains
        self.dither_rad = gains.dither * bound.dither_rad
        self.window_s = gains.window * bound.window_s(given.case.twin.drift_rad, share=1.0)
        self.steering = Steering(given)
        self.rng = np.random.default_rng([given.seed, 0x52])
        self._steps = self.steps()
        self._move = next(self._steps)

    def steps(self) -> Iterator[Move]:
        """Yield moves; :attr:`seen` is then the QBER of Z and of X, shape ``(2,)``."""
        raise NotImplementedError

    def next_move(self, now_s: float) -> Move:
        """Give the move that is due."""
        return self._move

    def learn(
        self, table: NDArray[np.int64], drives: Array, now_s: float, *, is_dark: bool = False
    ) -> bool:
        """Read the errors; a rival never says that it is lost."""
        clicks = Clicks(table)
        self.seen = np.array([clicks.qber_z.value, clicks.qber_x.value])
        self._move = next(self._steps)
        return False

    def aside(self, turn_rad: Array) -> Move:
        """Look a small turn aside of what is held."""
        spent = float(WEIGHTS @ np.square(turn_rad))
        return Move(self.steering.turned(turn_rad), self.window_s, spent)


class LockIn(Rival):
    """Dithers about three axes at once, demodulates the errors, integrates."""

    def steps(self) -> Iterator[Move]:
        """Correct after every four windows."""
        while True:
            demodulated = np.zeros((2, 3))
            for signs in SIGNS:
                yield self.aside(self.dither_rad * signs)
                demodulated += self.seen[:, None] * signs / len(SIGNS)
            self.steering.turn(-self.gains.gain * _angles(demodulated, self.dither_rad))


class Periodic(Rival):
    """Holds still, and now and then re-optimises: a step to either side about each axis."""

    def steps(self) -> Iterator[Move]:
        """Probe six settings, go to the minimum of the parabolas, hold."""
        while True:
            demodulated = np.zeros((2, 3))
            for axis in range(3):
                for side in (1.0, -1.0):
                    yield self.aside(self.dither_rad * side * np.eye(3)[axis])
                    demodulated[:, axis] += 0.5 * side * self.seen
            self.steering.turn(-_angles(demodulated, self.dither_rad))
            for _ in range(round(self.gains.rest)):
                yield Move(self.steering.drives, self.window_s)


class Spsa(Rival):
    """Simultaneous perturbation of all voltages, constant gains: two windows to a step.

    Source: J. C. Spall, IEEE Trans. Autom. Control 37, 332 (1992).
    """

    def steps(self) -> Iterator[Move]:
        """Look at either end of a random diagonal and go towards the better one."""
        spent = 4 * self.dither_rad**2 / 8
        while True:
            diagonal = self.rng.choice([-1.0, 1.0], size=4)
            away = self.dither_rad * diagonal
            yield Move(self.steering.moved(away), self.window_s, spent)
            above = self.seen.mean()
            yield Move(self.steering.moved(-away), self.window_s, spent)
            slope = (above - self.seen.mean()) / (2 * self.dither_rad)
            self.steering.move(-self.gains.gain * slope * diagonal)


class RandomLocal(Rival):
    """Random local search on the QBER: keeps a random step that looks better than staying."""

    def steps(self) -> Iterator[Move]:
        """Look at what is held and at a random step from it."""
        while True:
            yield Move(self.steering.drives, self.window_s)
            here = self.seen.mean()
            step = self.dither_rad * self.rng.normal(size=4)
            yield Move(self.steering.moved(step), self.window_s, float(step @ step) / 8)
            if self.seen.mean() < here:
                self.steering.move(step)


def _angles(demodulated: Array, dither_rad: float) -> Array:
    """Read angles off the errors of Z and X that go with a dither, shape ``(2, 3)``.

    Errors in Z are a quarter of the squared rotations about S2 and S3, those in X about S1 and S3.
    """
    z, x = demodulated
    return np.array([2 * x[0], 2 * z[1], z[2] + x[2]]) / dither_rad
