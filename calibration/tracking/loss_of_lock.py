"""Test for a lost lock: has the QBER risen beyond what drift and noise explain?"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

WINDOWS_BETWEEN_FALSE_ALARMS = 1e10
"""At least, on average: a century at three windows a second."""

RATIOS = (1.5, 3.0, 9.0, 27.0)
"""By what factors the QBER may have risen above its limit."""

LARGEST_QBER = 0.5

THRESHOLD_NATS = math.log(WINDOWS_BETWEEN_FALSE_ALARMS * len(RATIOS))


@dataclass
class LossOfLock:
    """Page's cumulative sum test on the errors of the matched bases, for several rises at once.

    Each sum adds the log likelihood ratio of a QBER at its factor above the limit to one at the
    limit, and restarts at zero. As long as the QBER is at or below the limit, the likelihood ratio
    has mean 1 or less, and the time to a false alarm of each sum is at least ``exp(threshold)``
    windows on average, whatever the counts per window; nothing is taken to be Gaussian.

    Sources: E. S. Page, Biometrika 41, 100 (1954); G. Lorden, Ann. Math. Stat. 42, 1897 (1971),
    theorem 2 (bound on false alarms).

    Attributes:
        sums: Evidence gathered so far for each factor, nats.
    """

    sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(len(RATIOS)))

    def update(self, trials: float, errors: float, limit: float) -> None:
        """Take in one window.

        Args:
            trials: Counts in matched bases.
            errors: Errors among them.
            limit: QBER that drift and noise still explain.
        """
        limit = min(limit, LARGEST_QBER * (1 - 1e-9))
        unrisen, sums = math.log1p(-limit), []
        for before, ratio in zip(self.sums.tolist(), RATIOS, strict=True):
            risen = min(limit * ratio, LARGEST_QBER)
            correct = math.log1p(-risen) - unrisen
            gain = errors * math.log(risen / limit) + (trials - errors) * correct
            sums.append(max(before + gain, 0.0))
        self.sums = np.array(sums)

    @property
    def score(self) -> float:
        """Evidence for a lost lock as a share of what is demanded; lost at 1."""
        return float(self.sums.max()) / THRESHOLD_NATS
