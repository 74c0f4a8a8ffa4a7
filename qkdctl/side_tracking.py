"""Trackers of what the stages before the alignment have set, on an opened testbed.

Whoever measures windows while key is made shows each of them to ``SideTracking.follow``, and calls
``settle`` when no more will come:

    side = SideTracking(bench, now)
    ...
    window = await bench.measure_for(window_s)
    for report in await side.follow(window):
        if report.lost:
            ...  # run the stage report.stage anew
    ...
    await side.settle()

What a tracker moves goes by the names under which its stage leaves values in force, so ``held`` is
what to remember over restarts.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from calibration.clicks import STATES, Window
from calibration.folding import Pattern
from calibration.tracking.bias import BiasReport, BiasTracker, ModulatorNull
from calibration.tracking.delay import ArrivalMoments, DelayTracker
from calibration.tracking.vacuum import VacuumCounts
from qkdctl.config import Testbed
from qkdctl.receiver import PatternReceiver
from qkdctl.side_config import why_bias_is_not_tracked, why_delay_is_not_tracked
from qkdctl.signal_bench import DELAY, put_in_force
from qkdctl.testbed import OpenTestbed

log = logging.getLogger(__name__)

NULL_SIGMA = 0.02
"""Standard error of a null found by the bias stage, or kept since, in half-wave voltages."""

DELAY_SIGMA_PS = 50.0
"""Standard error of a delay found by the delay stage, or kept since, ps."""

LONGEST_WINDOW_S = 60.0
"""For how long counts are put together at most before the bias is moved."""


@dataclass(frozen=True)
class SideReport:
    """What a window told of what a stage has set.

    Attributes:
        stage: The stage's name.
        moves: Values to put in force before the next window; empty: leave everything.
        figures: What is known by now, numbers with units in their names.
        lost: Why the stage must be run anew, or None.
    """

    stage: str
    moves: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    lost: str | None = None


class SideTracker(Protocol):
    """Holds what one stage has set.

    Attributes:
        stage: The stage's name.
    """

    stage: str

    def follow(self, window: Window, in_force: Mapping[str, float], now_s: float) -> SideReport:
        """Learn from a window.

        Args:
            window: What was measured.
            in_force: What was in force meanwhile, by the names of ``held``; a value that is not
                known is missing.
            now_s: Time at which the window ended, s.
        """
        ...

    def held(self) -> Mapping[str, float]:
        """Return what is to be in force, dither left out."""
        ...


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

    stage = "bias"

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
        self._held_v = bias_v
        self._pattern = pattern
        self._levels = dict(levels)
        self._vacuum = vacuum
        self._gate_share = gate_share
        self._wanted_s = 0.0
        self._counts: VacuumCounts | None = None
        self._report: BiasReport | None = None

    def follow(self, window: Window, in_force: Mapping[str, float], now_s: float) -> SideReport:
        """Count; once that is worth it learn, and say where the bias goes."""
        if self._knob not in in_force or not _is_usable(window):
            return self._say({})
        counts = VacuumCounts.of(
            window, self._pattern, self._levels, self._vacuum, self._gate_share
        )
        self._counts = counts if self._counts is None else self._counts + counts
        is_dark = "dark" in window.flags
        if self._counts.duration_s < self._wanted_s and not is_dark:
            return self._say({})
        self._report = self._tracker.update(self._counts, in_force, now_s, dark=is_dark)
        proposal = self._tracker.next_setting(now_s)
        self._counts, self._wanted_s = None, proposal.window_s
        self._held_v = proposal.held[self._knob]
        is_there = proposal.setting[self._knob] == in_force[self._knob]
        return self._say({} if is_there else proposal.setting)

    def held(self) -> dict[str, float]:
        """Return the bias without dither, by the name of its knob."""
        return {self._knob: self._held_v}

    def _say(self, moves: Mapping[str, float]) -> SideReport:
        report = self._report
        if report is None:
            return SideReport(self.stage)
        figures = {
            "bias_v": self._held_v,
            "excess": report.expected_excess,
            "floor": report.floor,
            "drift_v_per_sqrt_s": report.drift_v,
        }
        lost = None
        if report.lost:
            lost = (
                f"more light in the {self._vacuum!r} slots than a drift of the null explains "
                f"(floor {report.floor:.2%} of the signal, {report.expected_excess:.2%} above)"
            )
        return SideReport(self.stage, moves, figures, lost)


class DelaySide:
    """Holds the delays of the detectors.

    Args:
        tracker: The tracker.
        delays_ps: Delays in force, by detector letter, ps.
    """

    stage = "delay"

    def __init__(self, tracker: DelayTracker, delays_ps: Mapping[str, float]) -> None:
        self._tracker = tracker
        self._held_ps = dict(delays_ps)

    def follow(self, window: Window, in_force: Mapping[str, float], now_s: float) -> SideReport:
        """Learn from a window, and say where the gates go."""
        if any(DELAY + detector not in in_force for detector in STATES) or not _is_usable(window):
            return SideReport(self.stage)
        folded_ps = {detector: in_force[DELAY + detector] for detector in STATES}
        report = self._tracker.update(
            ArrivalMoments.of(window), folded_ps, now_s, dark="dark" in window.flags
        )
        self._held_ps = self._tracker.next_setting(now_s).setting
        moves = {DELAY + d: ps for d, ps in self._held_ps.items() if ps != folded_ps[d]}
        figures = {"error_ps": report.error_ps, "drift_ps_per_sqrt_s": report.drift_ps}
        lost = "clicks as bright as a detector's light come outside of its gate"
        return SideReport(self.stage, moves, figures, lost if report.lost else None)

    def held(self) -> dict[str, float]:
        """Return the delays, by their keys in the testbed file."""
        return {DELAY + detector: ps for detector, ps in self._held_ps.items()}


class SideTracking:
    """All side trackers of a testbed; moves what they want moved.

    Args:
        bench: The opened testbed.
        now: Tells seconds since the epoch.
    """

    def __init__(self, bench: OpenTestbed, now: Callable[[], float]) -> None:
        self._bench = bench
        self._now = now
        self.trackers = side_trackers(bench, now())

    async def follow(self, window: Window) -> list[SideReport]:
        """Show a window to every tracker, and make the moves that they ask for.

        Raises:
            InstrumentError: An instrument failed.
        """
        in_force = dict(self._bench.confirmed) | _delays_of(self._bench)
        reports = [each.follow(window, in_force, self._now()) for each in self.trackers]
        if moves := {name: value for each in reports for name, value in each.moves.items()}:
            await put_in_force(self._bench, moves)
        return reports

    async def settle(self) -> None:
        """Take all dither away.

        Raises:
            InstrumentError: An instrument failed.
        """
        for held in self.held().values():
            await put_in_force(self._bench, held)

    def held(self) -> dict[str, dict[str, float]]:
        """Return what each stage's tracker holds in force, dither left out, by stage."""
        return {each.stage: dict(each.held()) for each in self.trackers}


def side_trackers(bench: OpenTestbed, now_s: float) -> list[SideTracker]:
    """Make the trackers that the testbed file allows and its link can have."""
    config, receiver = bench.config, bench.receiver
    if not isinstance(receiver, PatternReceiver):
        return []
    trackers: list[SideTracker] = []
    if config.tracking.bias.enabled and why_bias_is_not_tracked(config) is None:
        trackers += _bias_sides(bench, receiver, now_s)
    if config.tracking.delay.enabled and why_delay_is_not_tracked(config) is None:
        trackers.append(_delay_side(config, receiver, now_s))
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


def _delay_side(config: Testbed, receiver: PatternReceiver, now_s: float) -> DelaySide:
    tracker = DelayTracker(
        receiver.delays_ps,
        gate_share=_gate_share(config, receiver),
        now_s=now_s,
        drift_ps=config.tracking.delay.drift_ps_per_sqrt_s,
        sigma_ps=DELAY_SIGMA_PS,
        dead_band_ps=config.tracking.delay.dead_band_ps,
    )
    return DelaySide(tracker, receiver.delays_ps)


def _gate_share(config: Testbed, receiver: PatternReceiver) -> float:
    """Return the share of a slot within the gate; 1 where light falls beside the gates too."""
    if config.link.encoding != "polarization":
        return 1.0
    return receiver.gate_ps / receiver.pattern.slot_ps


def _delays_of(bench: OpenTestbed) -> dict[str, float]:
    if not isinstance(bench.receiver, PatternReceiver):
        return {}
    return {DELAY + detector: ps for detector, ps in bench.receiver.delays_ps.items()}


def _is_usable(window: Window) -> bool:
    """Whether a window tells slots and arrivals apart, and its counts are to be trusted."""
    return window.source == "pattern" and "saturated" not in window.flags
