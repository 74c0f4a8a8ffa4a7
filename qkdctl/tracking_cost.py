"""What tracking costs in key, window by window, and how a budget for it is kept.

Two things cost key. Counts that are looked at are no key: all of a calibration frame, the sampled
ones of a window of key, none of those in mismatched bases or told by error correction. And a dither
that is in force while key is made adds QBER, which costs key in error correction and in privacy
amplification.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from calibration.clicks import Window
from calibration.tracking.report import Proposal, TrackingReport
from keyrate.entropy import binary_entropy

CORRECTION = 1.16
"""Leak of error correction over the least possible one."""

MEMORY_S = 600.0
"""Time over which costs are averaged, s."""

KNOWN_AFTER_S = 120.0
"""Time after which the averages say something, s."""

TOLERANCE = 1.2
"""Factor on the budget: times and shares of dither are not exact."""

LEAST_DITHER = 0.3
"""Share of its dither that a tracker keeps whatever the budget: without any it would be blind."""


def key_share(qber: float) -> float:
    """Return the secret share of sifted bits, ``1 - (1 + f) h(Q)``, at one QBER in both bases."""
    return max(1 - (1 + CORRECTION) * float(binary_entropy(qber)), 0.0)


def key_lost(qber: float, added_qber: float) -> float:
    """Return the share of the key that a part of the QBER costs, 0 to 1.

    Args:
        qber: QBER with that part in it.
        added_qber: The part.
    """
    without = key_share(max(qber - added_qber, 0.0))
    return 0.0 if without == 0 else 1 - key_share(qber) / without


@dataclass(frozen=True)
class WindowCost:
    """What one window cost.

    Attributes:
        photons_not_key: Detections that were looked at and are no key.
        looked_at_share: Share of all detections since the last window that they are.
        dither_qber: QBER that the dither added to key made meanwhile.
        key_cost: Share of the key that both cost together, 0 to 1.
    """

    photons_not_key: int
    looked_at_share: float
    dither_qber: float
    key_cost: float

    def as_dict(self) -> dict[str, Any]:
        """Give the cost as JSON can hold it."""
        return asdict(self)


class KeyCost:
    """Accounts what tracking costs, and says what a budget leaves of it.

    A frame of known states is no key at all, so a budget is kept by pauses between frames, without
    dither. In windows of key the dither is scaled down instead.

    Args:
        budget: Share of the key that tracking may cost, 0 to 1, or None.

    Attributes:
        looked_at_share: Share of all detections that are no key, averaged.
        dither_qber: QBER that dither adds to key, averaged.
        key_cost: Share of the key that tracking costs, averaged.
        dither_scale: By how much the next dither is scaled down, 1 to LEAST_DITHER.
    """

    def __init__(self, budget: float | None) -> None:
        self.budget = budget
        self.looked_at_share = self.dither_qber = self.key_cost = 0.0
        self.dither_scale = 1.0
        self._weight_s = 0.0

    @property
    def is_over(self) -> bool:
        """Whether tracking costs more than it may, though all that can be saved is."""
        is_known = self._weight_s >= KNOWN_AFTER_S
        return self.budget is not None and is_known and self.key_cost > TOLERANCE * self.budget

    def restrained(self, proposal: Proposal) -> dict[str, float]:
        """Return the setting of a proposal with as much of its dither as the budget leaves."""
        held = proposal.held
        return {
            name: held[name] + self.dither_scale * (value - held[name])
            for name, value in proposal.setting.items()
        }

    def account(
        self, window: Window, report: TrackingReport | None, elapsed_s: float, rested_s: float
    ) -> WindowCost:
        """Take a window into account.

        Args:
            window: What was looked at.
            report: What the tracker says of it; None without one, and thus without dither.
            elapsed_s: Time since the end of the window before, s.
            rested_s: Part of that without dither, s.
        """
        looked_at = _looked_at_share(window, elapsed_s)
        dither_qber = loss = 0.0
        if report is not None:
            full = float(report.dither_qber) * _dithered_share(window, elapsed_s, rested_s)
            qber = min(float(report.floor + report.expected_excess), 0.5)
            dither_qber = full * self.dither_scale**2  # QBER grows with the square of the angle
            loss = key_lost(qber, dither_qber)
            if window.disclosure != "calibration":
                self._scale_dither(key_lost(qber, full), looked_at)
        key_cost = looked_at + (1 - looked_at) * loss
        cost = WindowCost(_not_key(window), looked_at, dither_qber, key_cost)
        self._average(cost, elapsed_s)
        return cost

    def rest_s(self, window: Window) -> float:
        """Return for how long a calibration frame is to be followed by key, s."""
        if self.budget is None or window.disclosure != "calibration":
            return 0.0
        return window.duration_s * (1 / self.budget - 1)

    def _scale_dither(self, full_loss: float, looked_at: float) -> None:
        if self.budget is None or full_loss <= 0:
            return
        left = max(self.budget - looked_at, 0.0)
        self.dither_scale = min(max(math.sqrt(left / full_loss), LEAST_DITHER), 1.0)

    def as_dict(self) -> dict[str, Any]:
        """Give the averages and the budget as JSON can hold them."""
        return {
            "looked_at_share": self.looked_at_share,
            "dither_qber": self.dither_qber,
            "key_cost": self.key_cost,
            "max_key_cost": self.budget,
        }

    def _average(self, cost: WindowCost, elapsed_s: float) -> None:
        self._weight_s = self._weight_s * math.exp(-elapsed_s / MEMORY_S) + elapsed_s
        share = elapsed_s / self._weight_s if self._weight_s > 0 else 0.0
        self.looked_at_share += share * (cost.looked_at_share - self.looked_at_share)
        self.dither_qber += share * (cost.dither_qber - self.dither_qber)
        self.key_cost += share * (cost.key_cost - self.key_cost)


def _not_key(window: Window) -> int:
    match window.disclosure:
        case "calibration":
            return window.photons
        case "sampled":
            return window.signal.photons
        case "mismatched" | "error-correction":
            return 0


def _dithered_share(window: Window, elapsed_s: float, rested_s: float) -> float:
    """Return the share of the time for key in which the dither was in force."""
    key_s = elapsed_s - (window.duration_s if window.disclosure == "calibration" else 0.0)
    return min(max(1 - rested_s / key_s, 0.0), 1.0) if key_s > 0 else 0.0


def _looked_at_share(window: Window, elapsed_s: float) -> float:
    match window.disclosure:
        case "calibration":
            return min(window.duration_s / elapsed_s, 1.0) if elapsed_s > 0 else 1.0
        case "sampled":
            return min(window.signal.photons / max(window.photons, 1), 1.0)
        case "mismatched" | "error-correction":
            return 0.0
