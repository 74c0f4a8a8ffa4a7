"""Twin of a link whose fibre drifts while key is made: the alignment's twin, held window by window.

The fibre walks within a window too: counts and excess are averages over its path.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from benchmarks.twin import MAXIMUM_V, STOKES, Twin, TwinOptions

Array = NDArray[np.float64]

INSTANTS = 3
"""Instants of a window, evenly spread, at which the fibre is looked at."""


@dataclass(frozen=True)
class TrackingOptions(TwinOptions):
    """What the bench is like.

    Attributes:
        rate_hz: Detections per second, all detectors, at perfect alignment; sets the clock.
        play_error: Relative error, half width, uniform, of the hysteresis that the knobs take off
            (``play-inverse``); None leaves the play alone.
    """

    rate_hz: float = 1e5
    play_error: float | None = None
    settle_s: float = 0.0
    dark_probability: float = 0.0


@dataclass(frozen=True)
class Held:
    """What a window showed, and what was true.

    Attributes:
        table: Counts, sent state by detector, shape ``(4, 4)``.
        qber: True QBER of Z and of X, averaged over the window, shape ``(2,)``.
    """

    table: NDArray[np.int64]
    qber: Array


class TrackingTwin(Twin):
    """One bench, drawn at random; it stands still until ``is_drifting`` is set.

    Args:
        seed: Fixes the bench and all its noise.
        options: What it is like.

    Attributes:
        is_drifting: Whether time moves the fibre.
    """

    options: TrackingOptions

    def __init__(self, seed: int, options: TrackingOptions | None = None) -> None:
        given = options if options is not None else TrackingOptions()
        super().__init__(seed, given)
        clock_hz = given.clock_hz * given.rate_hz / self.detections_hz
        self.options = replace(given, clock_hz=clock_hz)
        self.is_drifting = False
        self._believed = np.zeros(4)
        self._inverted_v: float | None = None
        if given.play_error is not None:
            error = self._rng.uniform(-given.play_error, given.play_error)
            self._inverted_v = given.hysteresis_v * (1 + error)

    @property
    def limits(self) -> Array:
        """Lowest and highest drives, shape ``(2, 4)``; with room for the play taken off."""
        room = self._inverted_v or 0.0
        return np.array([np.full(4, room - MAXIMUM_V), np.full(4, MAXIMUM_V - room)])

    def hold(self, drives: Array, duration_s: float) -> Held:
        """Set the drives and count for a while, as time passes; settling comes before.

        Args:
            drives: Shape ``(4,)``, V.
            duration_s: How long to count.
        """
        self._set(drives)
        states = STOKES @ np.swapaxes(self._path(duration_s), -1, -2)
        turned = states @ (self._receiver @ self._controller(self._felt)).T
        clicks = self._clicks(turned @ self._analysers.T, np.ones(4))
        self.elapsed_s += duration_s
        gates_per_state = self.options.clock_hz * duration_s / 4
        table = self._rng.poisson(gates_per_state * clicks.mean(axis=0))
        return Held(np.asarray(table, dtype=np.int64), _qber_by_basis(clicks.mean(axis=0)))

    def wait(self, duration_s: float) -> None:
        """Let time pass without counting."""
        self._pass(duration_s)

    def turn_anywhere(self) -> None:
        """Replace the fibre by any other, uniformly."""
        self._fibre = Rotation.random(rng=self._rng).as_matrix()

    def _set(self, drives: Array) -> None:
        super()._set(drives)
        self._believed = np.array(drives, dtype=float)

    def _pass(self, duration_s: float) -> None:
        if self.is_drifting:
            self._fibre = self._turns(np.array([duration_s]))[0] @ self._fibre
        self.elapsed_s += duration_s

    def _felt_at(self, drives: Array) -> Array:
        """Let the knobs take the play off as they know it: up on the way up, down on the way."""
        if self._inverted_v is None:
            return super()._felt_at(drives)
        sent = drives + self._inverted_v * np.sign(drives - self._believed)
        play = self.options.hysteresis_v
        moved = np.clip(self._felt, sent - play, sent + play)
        return np.where(drives == self._believed, self._felt, moved)

    def _path(self, duration_s: float) -> Array:
        """Let the fibre turn and give it at the instants, shape ``(INSTANTS, 3, 3)``."""
        if not self.is_drifting:
            return self._fibre[None]
        steps_s = np.full(INSTANTS + 1, duration_s / INSTANTS)
        steps_s[[0, -1]] /= 2
        fibres = np.empty((INSTANTS + 1, 3, 3))
        for instant, turn in enumerate(self._turns(steps_s)):
            fibres[instant] = self._fibre = turn @ self._fibre
        return fibres[:-1]

    def _turns(self, steps_s: Array) -> Array:
        """Draw how the fibre turns in successive steps of time from now, shape ``(N, 3, 3)``."""
        sigma = self.options.drift_rad * np.sqrt(steps_s)[:, None]
        walk = sigma * self._rng.normal(size=(len(steps_s), 3))
        return np.asarray(Rotation.from_rotvec(walk).as_matrix())


def _qber_by_basis(clicks: Array) -> Array:
    """Compute the QBER of Z and of X from clicks of shape ``(4, 4)``, shape ``(2,)``."""
    wrong = np.array([clicks[0, 1] + clicks[1, 0], clicks[2, 3] + clicks[3, 2]])
    return np.asarray(wrong / np.array([clicks[:2, :2].sum(), clicks[2:, 2:].sum()]))
