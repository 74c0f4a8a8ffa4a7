"""What one integration saw, and the error rates in it."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from calibration.inversion import NOTHING, Inverted, exchanged

STATES = ("H", "V", "D", "A")
"""Order of sent states and of detectors everywhere: +e1, -e1, +e2, -e2 in Stokes space."""

CONFIDENCE = 0.9
"""Two-sided confidence of every interval that is shown."""


@dataclass(frozen=True)
class Estimate:
    """A share with its exact (Clopper-Pearson) interval; NaN and [0, 1] where nothing was seen."""

    value: float
    low: float
    high: float


def estimate_share(hits: int, trials: int, confidence: float = CONFIDENCE) -> Estimate:
    """Estimate a binomial probability with its Clopper-Pearson interval.

    Source: C. J. Clopper and E. S. Pearson, Biometrika 26, 404 (1934).

    Args:
        hits: Number of hits, 0 to ``trials``.
        trials: Number of trials.
        confidence: Two-sided confidence, 0 to 1.

    Raises:
        ValueError: ``hits`` is outside 0 to ``trials``.
    """
    if not 0 <= hits <= trials:
        raise ValueError(f"{hits} hits in {trials} trials")
    if trials == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    tail = (1 - confidence) / 2
    low = 0.0 if hits == 0 else float(beta.ppf(tail, hits, trials - hits + 1))
    high = 1.0 if hits == trials else float(beta.ppf(1 - tail, hits + 1, trials - hits))
    return Estimate(hits / trials, low, high)


@dataclass(frozen=True)
class Clicks:
    """State-resolved counts of the signal intensity, what an estimator needs.

    Attributes:
        table: Counts, shape ``(4, 4)``: sent state by detector, both in the order of STATES.
    """

    table: NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.table.shape != (4, 4) or np.any(self.table < 0):
            raise ValueError("clicks must be a 4 x 4 table of counts that are not negative")

    def __add__(self, other: "Clicks") -> "Clicks":
        return Clicks(self.table + other.table)

    def inverted(self, bases: Inverted) -> "Clicks":
        """Give the counts as they are once the bits of these bases are inverted."""
        return Clicks(exchanged(self.table, bases)) if bases else self

    def by_basis(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Reduce to four binomials, measured basis by sent basis (Z, X).

        Adding both signs cancels a detector-efficiency mismatch in the mean.

        Returns:
            All counts ``n`` and those of opposite sign ``k``, each of shape ``(2, 2)``, indexed
            ``[measured basis, sent basis]``.
        """
        signed = self.table.reshape(2, 2, 2, 2)  # sent basis, sent sign, measured basis, sign
        n = signed.sum(axis=(1, 3)).T
        k = (signed[:, 0, :, 1] + signed[:, 1, :, 0]).T
        return n, k

    @property
    def qber_z(self) -> Estimate:
        """QBER of the Z basis (H, V)."""
        n, k = self.by_basis()
        return estimate_share(int(k[0, 0]), int(n[0, 0]))

    @property
    def qber_x(self) -> Estimate:
        """QBER of the X basis (D, A)."""
        n, k = self.by_basis()
        return estimate_share(int(k[1, 1]), int(n[1, 1]))

    @property
    def qber(self) -> Estimate:
        """QBER of both bases taken together."""
        return estimate_share(self.errors, self.sifted)

    @property
    def sifted(self) -> int:
        """Counts measured in the basis they were sent in."""
        return int(np.trace(self.by_basis()[0]))

    @property
    def errors(self) -> int:
        """Sifted counts of opposite sign."""
        return int(np.trace(self.by_basis()[1]))

    @property
    def photons(self) -> int:
        """All counts of the table."""
        return int(self.table.sum())


Disclosure = Literal["calibration", "mismatched", "sampled", "error-correction"]
Source = Literal["pattern", "scan", "feed"]


@dataclass(frozen=True)
class Window:
    """One integration.

    Detectors are named as they are wired: delays and biases belong to the one that is named. Where
    the bits of a basis are inverted in software, a click of H stands for the bit of V, and the
    other way round; only ``signal``, from which error rates come, heeds that.

    Attributes:
        start_s: Start, seconds since the epoch.
        duration_s: Exposure, s.
        source: Where the counts come from.
        disclosure: Which counts these are; nothing else may be looked at (no key bits).
        intensities: Names of the sent intensities; the first is the signal.
        clicks: Counts, shape ``(n_intensities, 4, 4)``: intensity, sent state, detector.
        singles: All clicks per detector, in or out of the gate, shape ``(4,)``.
        double_clicks: Slots in which more than one detector clicked; None where the source cannot
            tell.
        timing_mean_ps: Mean arrival after the slot's centre per detector, ps, shape ``(4,)``.
        timing_std_ps: Its standard deviation, ps, shape ``(4,)``.
        flags: What makes the window doubtful: ``dark``, ``saturated``.
        inverted: Bases whose bits are inverted in software.
    """

    start_s: float
    duration_s: float
    source: Source
    disclosure: Disclosure
    intensities: tuple[str, ...]
    clicks: NDArray[np.int64]
    singles: NDArray[np.int64]
    double_clicks: int | None = None
    timing_mean_ps: NDArray[np.float64] = field(default_factory=lambda: np.full(4, np.nan))
    timing_std_ps: NDArray[np.float64] = field(default_factory=lambda: np.full(4, np.nan))
    flags: frozenset[str] = frozenset()
    inverted: Inverted = NOTHING

    @property
    def photons(self) -> int:
        """Detections that the window cost, whatever they were used for."""
        return int(self.singles.sum())

    @property
    def signal(self) -> Clicks:
        """The counts of the signal intensity, by the bit that a detector's clicks stand for."""
        return Clicks(self.clicks[0]).inverted(self.inverted)
