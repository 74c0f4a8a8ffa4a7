"""Trackers of what the stages before the alignment have set, built from the testbed file.

They learn from the windows that the alignment's tracker measures, and take no time of their own:
before a window they are asked what knobs to set, after it they are shown what it told.
"""

import logging
from collections.abc import Mapping
from typing import Any, Protocol

from calibration.clicks import Window
from calibration.folding import Pattern
from calibration.tracking.bias import BiasReport, BiasTracker, ModulatorNull, VacuumCounts
from calibration.tracking.delay import ArrivalMoments, DelayReport, DelayTracker
from qkdctl.config import Testbed
from qkdctl.receiver import PatternReceiver
from qkdctl.side_config import why_bias_is_not_tracked, why_delay_is_not_tracked
from qkdctl.signal_bench import DELAY, SignalBench
from qkdctl.testbed import OpenTestbed

log = logging.getLogger(__name__)

NULL_SIGMA = 0.02
"""Standard error of a null found by the bias stage, or kept since, in half-wave voltages."""

DELAY_SIGMA_PS = 50.0
"""Standard error of a delay found by the delay stage, or kept since, ps."""

LONGEST_WINDOW_S = 60.0
"""For how long counts are put together at most before the bias is moved."""


class BiasSide:
    """Holds the modulator's null; puts windows together until they are worth a move of the bias.

    Args:
        tracker: The tracker.
        knob: Name of the bias's knob.
        bias_v: Bias in force, V.
        pattern: What Alice sends.
        levels: Mean photon number of each intensity.
        vacuum: The intensity whose pulses should be empty.
        gate_share: Share of a slot within the gate, 1 where clicks outside are no background.
    """

    name = "bias"

    def __init__(
        self,
        tracker: BiasTracker,
        knob: str,
        bias_v: float,
        *,
        pattern: Pattern,
        levels: Mapping[str, float],
        vacuum: str,
        gate_share: float,
    ) -> None:
        self._tracker = tracker
        self._knob = knob
        self._bias_v = self._held_v = bias_v
        self._pattern = pattern
        self._levels = dict(levels)
        self._vacuum = vacuum
        self._gate_share = gate_share
        self._wanted_s = 0.0
        self._is_due = True
        self._counts: VacuumCounts | None = None
        self._report: BiasReport | None = None

    def propose(self, now_s: float) -> dict[str, float]:
        """Return the bias for the next window, if it is to change."""
        if not self._is_due:
            return {}
        proposal = self._tracker.next_setting(now_s)
        self._is_due, self._counts = False, None
        self._wanted_s, self._held_v = proposal.window_s, proposal.held[self._knob]
        return {} if proposal.setting[self._knob] == self._bias_v else proposal.setting

    def learn(
        self, window: Window, in_force: Mapping[str, float], now_s: float, *, is_dark: bool
    ) -> None:
        """Count a window; once that is worth it, learn.

        Args:
            window: Clicks by intensity.
            in_force: Knobs as read back; where the bias is missing it has not changed.
            now_s: When the window ended, s.
            is_dark: Whether there was no light to learn from.
        """
        self._bias_v = in_force.get(self._knob, self._bias_v)
        if not _is_usable(window):
            return
        levels, share = self._levels, self._gate_share
        counts = VacuumCounts.of(window, self._pattern, levels, self._vacuum, share)
        self._counts = counts if self._counts is None or is_dark else self._counts + counts
        if is_dark or self._counts.duration_s >= self._wanted_s:
            setting = {self._knob: self._bias_v}
            self._report = self._tracker.update(self._counts, setting, now_s, dark=is_dark)
            self._is_due = True

    def held(self) -> dict[str, float]:
        """Return the bias without dither, by the name of its knob."""
        return {self._knob: self._held_v}

    def status(self) -> dict[str, Any]:
        """Say how it fares, light given as a share of the signal's."""
        report = self._report
        if report is None:
            return {"state": "starting", "bias_v": self._held_v}
        return {
            "state": _state(report),
            "bias_v": self._held_v,
            "excess": report.expected_excess,
            "floor": report.floor,
            "drift_v_per_sqrt_s": report.drift_v,
        }


class Folding(Protocol):
    """Who folds tags, by delays that may be changed between windows."""

    def delays_ps(self) -> dict[str, float]:
        """Return the delays in force, by detector letter, ps."""
        ...

    def set_delays(self, delays_ps: Mapping[str, float]) -> None:
        """Fold by other delays from now on."""
        ...


class DelaySide:
    """Holds the delays of the detectors; they are no knobs, so it sets them by itself.

    Args:
        tracker: The tracker.
        folding: Who folds by them.
    """

    name = "delay"

    def __init__(self, tracker: DelayTracker, folding: Folding) -> None:
        self._tracker = tracker
        self._folding = folding
        self._report: DelayReport | None = None

    def propose(self, now_s: float) -> dict[str, float]:
        """Set the delays for the next window; there are no knobs to set."""
        setting = self._tracker.next_setting(now_s).setting
        if setting != self._folding.delays_ps():
            self._folding.set_delays(setting)
        return {}

    def learn(
        self, window: Window, in_force: Mapping[str, float], now_s: float, *, is_dark: bool
    ) -> None:
        """Learn from a window.

        Args:
            window: Moments of the arrivals.
            in_force: Knobs; of no interest.
            now_s: When the window ended, s.
            is_dark: Whether there was no light to learn from.
        """
        if _is_usable(window):
            moments, folded_ps = ArrivalMoments.of(window), self._folding.delays_ps()
            self._report = self._tracker.update(moments, folded_ps, now_s, dark=is_dark)

    def held(self) -> dict[str, float]:
        """Return the delays, by their keys in the testbed file."""
        return {DELAY + detector: ps for detector, ps in self._folding.delays_ps().items()}

    def status(self) -> dict[str, Any]:
        """Say how it fares."""
        report, delays = self._report, {"delays_ps": self._folding.delays_ps()}
        if report is None:
            return {"state": "starting", **delays}
        return {
            "state": _state(report),
            **delays,
            "error_ps": report.error_ps,
            "drift_ps_per_sqrt_s": report.drift_ps,
        }


def side_trackers(bench: OpenTestbed, now_s: float) -> list[BiasSide | DelaySide]:
    """Make the trackers that the testbed file wants and its link can have.

    Args:
        bench: The opened testbed; what its stages have set is in force.
        now_s: Time, s, by the clock of the windows.
    """
    config, receiver = bench.config, bench.receiver
    if not isinstance(receiver, PatternReceiver):
        return []
    trackers: list[BiasSide | DelaySide] = []
    if config.tracking.bias.enabled and why_bias_is_not_tracked(config) is None:
        trackers += _bias_sides(bench, receiver, now_s)
    if config.tracking.delay.enabled and why_delay_is_not_tracked(config) is None:
        trackers.append(_delay_side(bench, receiver, now_s))
    return trackers


def _bias_sides(bench: OpenTestbed, receiver: PatternReceiver, now_s: float) -> list[BiasSide]:
    config, bias = bench.config, bench.config.stages.bias
    if bias is None or bias.knob is None:
        return []
    if bias.knob not in bench.confirmed:
        log.warning("the bias %r is not known; its null is not tracked", bias.knob)
        return []
    bias_v = bench.confirmed[bias.knob]
    null = ModulatorNull(
        null_v=bias_v,
        null_sigma_v=NULL_SIGMA * bias.half_wave_v,
        half_wave_v=bias.half_wave_v,
        half_wave_sigma=bias.half_wave_sigma,
        floor=float(10 ** (-bias.good_extinction_db / 10)),
    )
    tracker = BiasTracker(
        null,
        {bias.knob: bias_v},
        {bias.knob: bench.limits(bias.knob)},
        now_s=now_s,
        drift_v=config.tracking.bias.drift_v_per_sqrt_s,
        window_s=(config.tracking.window_s, LONGEST_WINDOW_S),
    )
    return [
        BiasSide(
            tracker,
            bias.knob,
            bias_v,
            pattern=receiver.pattern,
            levels=config.link.intensities,
            vacuum=bias.vacuum,
            gate_share=_gate_share(config, receiver),
        )
    ]


def _delay_side(bench: OpenTestbed, receiver: PatternReceiver, now_s: float) -> DelaySide:
    config = bench.config
    tracker = DelayTracker(
        receiver.delays_ps,
        gate_share=_gate_share(config, receiver),
        now_s=now_s,
        drift_ps=config.tracking.delay.drift_ps_per_sqrt_s,
        sigma_ps=DELAY_SIGMA_PS,
        dead_band_ps=config.tracking.delay.dead_band_ps,
    )
    return DelaySide(tracker, SignalBench(bench))


def _gate_share(config: Testbed, receiver: PatternReceiver) -> float:
    """Return the share of a slot within the gate; 1 where light falls beside the gates too."""
    if config.link.encoding != "polarization":
        return 1.0
    return receiver.gate_ps / receiver.pattern.slot_ps


def _is_usable(window: Window) -> bool:
    """Whether a window tells slots and arrivals apart, and its counts are to be trusted."""
    return window.source == "pattern" and "saturated" not in window.flags


def _state(report: BiasReport | DelayReport) -> str:
    if report.lost:
        return "lost"
    return "frozen" if report.dark else "following"
