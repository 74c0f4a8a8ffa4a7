"""A pair of interferometers whose phase difference a voltage moves: what it does to the counts.

The phase is ``theta(v) = phase + sign pi (1 + scale) (v - centre) / half_wave``. A pair of bases
whose light interferes is a binomial; its probability of opposite sign is
``(1 - V cos(theta - offset)) / 2`` with the visibility ``V = 1 - 2 floor``:

- ``time-bin`` (early and late pulse, and two phases, in the bases Z and X): errors in X see the
  cosine. The mismatched bases see nothing of the phase, and the errors in Z neither.
- ``four-phase`` (bases Z and X are phases 0, pi and pi/2, 3 pi/2): errors in both bases see the
  cosine, and counts of mismatched bases the sine, free of charge.

The cosine is even: error counts alone do not tell a rising phase from a falling one, nor need they.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from calibration.batch import Array, Batch

Encoding = Literal["time-bin", "four-phase"]

SIZE = 3
"""Parameters: phase, scale, logarithm of the floor."""

PHASE, SCALE, LOG_FLOOR = range(SIZE)

LEAST_SCALE = -0.9
"""Smallest relative error of the half-wave voltage's inverse that is reckoned with."""

LOG_FLOOR_RANGE = (np.log(1e-7), np.log(0.49))

_ROWS: Mapping[Encoding, tuple[tuple[int, ...], tuple[float, ...]]] = {
    "time-bin": ((3,), (0.0,)),
    "four-phase": ((0, 1, 2, 3), (0.0, -np.pi / 2, np.pi / 2, 0.0)),
}
"""Binomials that see the phase (measured basis by sent basis, flat), and the offset of each."""


@dataclass(frozen=True)
class Phases(Batch):
    """Values of what is unknown, a batch of B.

    Attributes:
        phase: At the centre of the drive's range, rad, shape ``(B,)``.
        scale: Relative error of the phase per volt, shape ``(B,)``.
        log_floor: Logarithm of the error probability at phase zero, shape ``(B,)``.
        sign: 1 where the phase rises with the drive, -1 where it falls, shape ``(B,)``.
    """

    phase: Array
    scale: Array
    log_floor: Array
    sign: Array


@dataclass(frozen=True)
class Interferometer:
    """The model of an interferometer, and what is believed of it before anything is measured.

    Attributes:
        encoding: Which counts see the phase.
        half_wave: Nominal change of the drive for a phase of pi.
        centre: Drive at which ``phase`` is meant: the middle of its range.
        scale: Expected relative error of the phase per volt.
        scale_sigma: Its standard deviation.
        floor: Expected error probability at phase zero, 0 to 0.5.
        floor_log_sigma: Standard deviation of its logarithm.
        sign: 1 or -1 where the slope is known, 0 where it is not.

    Raises:
        ValueError: A width or the half-wave voltage is not positive, or there is no such encoding.
    """

    encoding: Encoding
    half_wave: float
    centre: float = 0.0
    scale: float = 0.0
    scale_sigma: float = 0.1
    floor: float = 0.01
    floor_log_sigma: float = 0.6
    sign: int = 0

    def __post_init__(self) -> None:
        if self.encoding not in _ROWS:
            raise ValueError(f"no encoding {self.encoding!r}; there are {', '.join(_ROWS)}")
        if not min(self.half_wave, self.scale_sigma, self.floor_log_sigma) > 0:
            raise ValueError("half-wave voltage and uncertainties must be positive")
        if not 0 < self.floor < 0.5:
            raise ValueError(f"a floor of {self.floor} is not between 0 and 0.5")
        if self.sign not in (-1, 0, 1):
            raise ValueError(f"a slope's sign is 1, -1, or 0 for unknown, not {self.sign}")

    @property
    def rows(self) -> tuple[int, ...]:
        """Which of the four binomials (measured by sent basis, flat) see the phase."""
        return _ROWS[self.encoding][0]

    @property
    def offsets(self) -> Array:
        """Phase at which each of them has its fewest errors, rad, shape ``(R,)``."""
        return np.array(_ROWS[self.encoding][1])

    @property
    def signs(self) -> tuple[int, ...]:
        """Slopes that the counts could tell apart, and that are possible."""
        if self.encoding == "time-bin":
            return (self.sign or 1,)
        return (self.sign,) if self.sign else (1, -1)

    @property
    def share_of_bases(self) -> float:
        """Share of the two key bases whose errors see the phase."""
        return 0.5 if self.encoding == "time-bin" else 1.0

    def lever(self, drives: Array) -> Array:
        """Return the nominal phase relative to the centre, rad, same shape."""
        return np.pi * (drives - self.centre) / self.half_wave

    def theta(self, at: Phases, drives: Array) -> Array:
        """Return the phase at each drive, rad, not wrapped, shape ``(B, M)``."""
        slope = at.sign * (1 + at.scale)
        return np.asarray(at.phase[:, None] + slope[:, None] * self.lever(drives))

    def drive_at(self, at: Phases, theta: Array) -> Array:
        """Return the drive at which the phase has a value, rad; shapes ``(B,)``."""
        turned = at.sign * (theta - at.phase) / (1 + at.scale)
        return np.asarray(self.centre + self.half_wave / np.pi * turned)

    def error_probability(self, at: Phases, drives: Array) -> Array:
        """Return the probability of opposite sign of each binomial, shape ``(B, M, R)``."""
        behind = self.theta(at, drives)[..., None] - self.offsets
        return np.asarray(0.5 * (1 - at.visibility[:, None, None] * np.cos(behind)))

    def linearise(self, at: Phases, drives: Array) -> tuple[Array, Array]:
        """Return the probabilities, and their derivatives by the parameters.

        Returns:
            Shapes ``(B, M, R)`` and ``(B, M, R, 3)``: by phase, scale and logarithm of the floor.
        """
        behind = self.theta(at, drives)[..., None] - self.offsets
        visibility = at.visibility[:, None, None]
        cosine = np.cos(behind)
        by_phase = 0.5 * visibility * np.sin(behind)
        by_scale = by_phase * (at.sign[:, None] * self.lever(drives))[..., None]
        by_log_floor = at.floor[:, None, None] * cosine
        slope = np.stack([by_phase, by_scale, by_log_floor], axis=-1)
        return np.asarray(0.5 * (1 - visibility * cosine)), slope

    def excess(self, at: Phases, drives: Array) -> Array:
        """Return the QBER above the floor, mean of both bases, shape ``(B, M)``."""
        loss = 0.5 * at.visibility[:, None] * (1 - np.cos(self.theta(at, drives)))
        return np.asarray(self.share_of_bases * loss)

    def log_prior(self, at: Phases) -> tuple[Array, Array, Array]:
        """Return log density, shape ``(B,)``, its gradient ``(B, 3)``, and the precision ``(3,)``.

        Any phase is as likely as any other.
        """
        apart = np.stack(
            [
                np.zeros(len(at)),
                at.scale - self.scale,
                at.log_floor - np.log(self.floor),
            ],
            axis=-1,
        )
        precision = np.array([0.0, self.scale_sigma**-2, self.floor_log_sigma**-2])
        pull = -precision * apart
        return np.asarray(0.5 * np.sum(pull * apart, axis=-1)), pull, precision

    def step(self, at: Phases, by: Array) -> Phases:
        """Move by steps in the parameters, shape ``(B, 3)``, within what is possible."""
        return Phases(
            phase=at.phase + by[:, PHASE],
            scale=np.maximum(at.scale + by[:, SCALE], LEAST_SCALE),
            log_floor=np.clip(at.log_floor + by[:, LOG_FLOOR], *LOG_FLOOR_RANGE),
            sign=at.sign,
        )

    def is_like(self, other: Interferometer) -> bool:
        """Tell whether another model describes the same kind of device."""
        return (self.encoding, self.half_wave, self.centre) == (
            other.encoding,
            other.half_wave,
            other.centre,
        )

    def to_dict(self) -> dict[str, Any]:
        """Give a JSON-able description."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Interferometer:
        """Restore what :meth:`to_dict` gave.

        Raises:
            TypeError: A key is missing or unknown.
            ValueError: A value is impossible.
        """
        return replace(cls(**stored))


def wrapped(phase: Array) -> Array:
    """Return a phase between -pi and pi, rad."""
    return np.asarray((phase + np.pi) % (2 * np.pi) - np.pi)
