"""Holding a setting while key is made: with a model by tracking, without one by watching."""

import logging
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from scipy.stats import binom

from calibration.clicks import Clicks
from calibration.tracking.disturbance import Cause
from calibration.tracking.phase import PhaseTracker
from calibration.tracking.polarization import PolarizationTracker
from calibration.tracking.report import Proposal, TrackingReport
from qkdctl.config import Testbed

log = logging.getLogger(__name__)

FALSE_ALARM = 1e-9
"""Probability that ordinary noise of one window is taken for a loss of lock: once in some years at
three windows a second."""

REFERENCE_SIFTED = 20_000
"""Sifted counts that make up the QBER which a watched setting is held against."""

Limits = Mapping[str, tuple[float, float]]


class LockLostError(Exception):
    """The setting no longer fits the link; the text says how that showed.

    Attributes:
        cause: What brought it about, as far as that is known.
        stage: The stage that is to be run anew; None for the one that aligns.
    """

    def __init__(self, text: str, cause: Cause = "drift", stage: str | None = None) -> None:
        super().__init__(text)
        self.cause: Cause = cause
        self.stage = stage


class Hold(Protocol):
    """A way of holding a setting; knows counts and settings, no instrument.

    Attributes:
        name: What is held, or ``watch`` without a model of it.
    """

    name: Literal["polarization", "phase", "watch"]

    def propose(self, now_s: float) -> Proposal:
        """Choose the setting of the next window, and how long it is to last."""
        ...

    def learn(
        self, clicks: Clicks, in_force: Mapping[str, float], now_s: float, *, is_frozen: bool
    ) -> TrackingReport | None:
        """Take in a window; None without a model.

        Args:
            clicks: Counts of the window.
            in_force: Setting while counting, as read back.
            now_s: When the window ended, s.
            is_frozen: Whether the counts say nothing of the setting.

        Raises:
            LockLostError: The setting no longer fits.
        """
        ...

    def posterior(self) -> Mapping[str, Any] | None:
        """What is known by now, for the next calibration or hold; None without a model."""
        ...

    def posterior_after_loss(self) -> Mapping[str, Any] | None:
        """What is still known once the lock is lost; None without a model."""
        ...


class Track:
    """Follows the fibre, or the phase, with a model of what undoes it."""

    def __init__(
        self,
        config: Testbed,
        setting: Mapping[str, float],
        posterior: Mapping[str, Any],
        limits: Limits,
        now_s: float,
    ) -> None:
        self.name: Literal["polarization", "phase", "watch"] = config.aligning_stage
        self._tracker = _tracker(config, posterior, setting, limits, now_s)

    def propose(self, now_s: float) -> Proposal:
        """Choose what the tracker would set."""
        return self._tracker.next_setting(now_s)

    def learn(
        self, clicks: Clicks, in_force: Mapping[str, float], now_s: float, *, is_frozen: bool
    ) -> TrackingReport:
        """Let the tracker learn; a lock that was lost in the dark shows when light is back."""
        report = self._tracker.update(clicks, in_force, now_s, dark=is_frozen)
        if report.lost and not report.dark:
            raise LockLostError(
                f"QBER {clicks.qber.value:.2%} where "
                f"{report.floor + report.expected_excess:.2%} was expected"
            )
        return report

    def posterior(self) -> Mapping[str, Any]:
        """What the tracker knows by now."""
        return self._tracker.posterior().to_dict()

    def posterior_after_loss(self) -> Mapping[str, Any] | None:
        """What the tracker knows of the controller; the fibre may be any. None of a phase."""
        if isinstance(self._tracker, PolarizationTracker):
            return self._tracker.posterior_after_jump().to_dict()
        return None


def _tracker(
    config: Testbed,
    posterior: Mapping[str, Any],
    setting: Mapping[str, float],
    limits: Limits,
    now_s: float,
) -> PolarizationTracker | PhaseTracker:
    """Make the tracker of the link's encoding."""
    drift_rad = config.tracking.drift_rad_per_sqrt_s
    window_s = (config.tracking.window_s, config.receiver.max_window_s)
    if config.aligning_stage == "phase":
        return PhaseTracker(
            posterior, setting, limits, now_s=now_s, drift_rad=drift_rad, window_s=window_s
        )
    return PolarizationTracker(
        posterior, setting, limits, now_s=now_s, drift_rad=drift_rad, window_s=window_s
    )


class Watch:
    """Leaves the setting alone and compares the QBER with what it was at first."""

    name: Literal["polarization", "phase", "watch"] = "watch"

    def __init__(self, config: Testbed, setting: Mapping[str, float]) -> None:
        self._window_s = config.tracking.window_s
        self._target_excess = config.alignment.target_excess
        self._setting = dict(setting)
        self._sifted = self._errors = 0

    def propose(self, now_s: float) -> Proposal:
        """Set nothing."""
        return Proposal({}, self._setting, (), self._window_s)

    def learn(
        self, clicks: Clicks, in_force: Mapping[str, float], now_s: float, *, is_frozen: bool
    ) -> None:
        """Compare; the first windows make up the reference."""
        if is_frozen:
            return
        if self._sifted < REFERENCE_SIFTED:
            self._sifted += clicks.sifted
            self._errors += clicks.errors
        else:
            self._compare(clicks.sifted, clicks.errors)

    def posterior(self) -> None:
        """Nothing is known without a model."""
        return

    def posterior_after_loss(self) -> None:
        """Nothing is known without a model."""
        return

    def _compare(self, sifted: int, errors: int) -> None:
        reference = (self._errors + 1) / (self._sifted + 2)
        allowed = reference + self._target_excess
        if binom.sf(errors - 1, sifted, allowed) < FALSE_ALARM:
            raise LockLostError(
                f"QBER {errors / sifted:.2%} of {sifted} sifted counts where {reference:.2%} was "
                "held before"
            )


def hold_for(
    config: Testbed,
    setting: Mapping[str, float],
    posterior: Mapping[str, Any] | None,
    limits: Limits,
    now_s: float,
) -> Hold:
    """Choose how to hold: with the model where there is one, else by watching."""
    if posterior is None or config.feed.pooled:
        return Watch(config, setting)
    try:
        return Track(config, setting, posterior, limits, now_s)
    except (KeyError, TypeError, ValueError) as exc:
        log.warning("the posterior on record is of no use (%s); watching without a model", exc)
        return Watch(config, setting)
