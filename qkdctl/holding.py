"""Holding a setting while key is made: with a model by tracking, without one by watching."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from scipy.stats import binom

from calibration.tracking.phase import PhaseTracker
from calibration.tracking.polarization import PolarizationTracker
from qkdctl.config import Testbed
from qkdctl.testbed import OpenTestbed

log = logging.getLogger(__name__)

FALSE_ALARM = 1e-9
"""Probability that ordinary noise of one window is taken for a loss of lock: once in some years at
three windows a second."""

REFERENCE_SIFTED = 20_000
"""Sifted counts that make up the QBER which a watched setting is held against."""


class LockLostError(Exception):
    """The setting no longer fits the fibre; the text says how that showed."""


@dataclass(frozen=True)
class HoldReport:
    """One step of holding.

    Attributes:
        setting: What is in force, dither left out: the setting to go back to.
        expected_excess: QBER above the best reachable one, or None without a model.
    """

    setting: Mapping[str, float]
    expected_excess: float | None


class Hold(Protocol):
    """A way of holding a setting."""

    async def step(self) -> HoldReport:
        """Measure one window and act on it.

        Raises:
            LockLostError: The setting no longer fits.
            InstrumentError: An instrument failed.
        """
        ...

    def posterior(self) -> Mapping[str, Any] | None:
        """What is known by now, for the next calibration or hold; None without a model."""
        ...


class Track:
    """Follows the fibre, or the phase, with a model of what undoes it."""

    def __init__(
        self,
        bench: OpenTestbed,
        setting: Mapping[str, float],
        posterior: Mapping[str, Any],
        now: Callable[[], float],
    ) -> None:
        self._bench = bench
        self._now = now
        limits = {name: bench.limits(name) for name in bench.config.alignment.knobs}
        self._tracker = _tracker(bench.config, posterior, setting, limits, now())

    async def step(self) -> HoldReport:
        """Set what the tracker proposes, measure, let it learn."""
        proposal = self._tracker.next_setting(self._now())
        in_force = await self._bench.apply(proposal.setting)
        expected_excess = None
        for held in await self._bench.measure_held(in_force, proposal.window_s):
            clicks, is_dark = held.window.signal, "dark" in held.window.flags
            report = self._tracker.update(clicks, held.setting, held.end_s, dark=is_dark)
            if report.lost:
                raise LockLostError(
                    f"QBER {clicks.qber.value:.2%} where "
                    f"{report.floor + report.expected_excess:.2%} was expected"
                )
            expected_excess = report.expected_excess
        return HoldReport(proposal.held, expected_excess)

    def posterior(self) -> Mapping[str, Any]:
        """What the tracker knows by now."""
        return self._tracker.posterior().to_dict()


def _tracker(
    config: Testbed,
    posterior: Mapping[str, Any],
    setting: Mapping[str, float],
    limits: Mapping[str, tuple[float, float]],
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

    def __init__(self, bench: OpenTestbed, setting: Mapping[str, float]) -> None:
        self._bench = bench
        self._setting = dict(setting)
        self._sifted = self._errors = 0

    async def step(self) -> HoldReport:
        """Measure one window; the first ones make up the reference."""
        window_s = self._bench.config.tracking.window_s
        for held in await self._bench.measure_held(self._setting, window_s):
            sifted, errors = held.window.signal.sifted, held.window.signal.errors
            if self._sifted < REFERENCE_SIFTED:
                self._sifted += sifted
                self._errors += errors
            else:
                self._compare(sifted, errors)
        return HoldReport(self._setting, None)

    def posterior(self) -> None:
        """Nothing is known without a model."""
        return

    def _compare(self, sifted: int, errors: int) -> None:
        reference = (self._errors + 1) / (self._sifted + 2)
        allowed = reference + self._bench.config.alignment.target_excess
        if binom.sf(errors - 1, sifted, allowed) < FALSE_ALARM:
            raise LockLostError(
                f"QBER {errors / sifted:.2%} of {sifted} sifted counts where {reference:.2%} was "
                "held before"
            )


def hold_for(
    bench: OpenTestbed,
    setting: Mapping[str, float],
    posterior: Mapping[str, Any] | None,
    now: Callable[[], float],
) -> Hold:
    """Choose how to hold: with the model where there is one, else by watching."""
    if posterior is None or bench.config.feed.pooled:
        return Watch(bench, setting)
    try:
        return Track(bench, setting, posterior, now)
    except (KeyError, TypeError, ValueError) as exc:
        log.warning("the posterior on record is of no use (%s); watching without a model", exc)
        return Watch(bench, setting)
