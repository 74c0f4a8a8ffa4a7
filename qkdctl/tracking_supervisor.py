"""The supervisor of trackers: one window after the other, what each tells, costs and leads to.

It decides which window any tracker may learn from, keeps the budget, tells the operator what it
sees, and gives up when holding does not go on. What follows then is the conductor's business.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from calibration.clicks import Window
from calibration.tracking.disturbance import UNDISTURBED, Cause, Disturbances, Finding
from calibration.tracking.report import Proposal, TrackingReport
from qkdctl.alarms import Alarms, Publish
from qkdctl.feed_windows import STALE
from qkdctl.holding import Hold, LockLostError
from qkdctl.receiver import HeldWindow, PatternReceiver
from qkdctl.side_tracking import SideReport, SideTracking
from qkdctl.testbed import OpenTestbed
from qkdctl.tracking_cost import KeyCost, WindowCost
from qkdctl.tracking_patience import Patience

JUMP_REMEMBERED_S = 10.0
"""A lock that is lost so soon after the QBER jumped was lost by the jump."""


ALARMS = frozenset({"link-dark", "weak-light", "stray-light"})
"""What a disturbance puts up for as long as it lasts."""


class TrackingSupervisor:
    """Runs the trackers of one link.

    Args:
        bench: The opened testbed.
        hold: Holds the alignment.
        setting: The setting in force.
        now: Tells seconds since the epoch.
        alarms: Where lasting trouble is told.
        publish: Is told the kind of an event and its data: ``tracking``, for every window.
        may_realign: Whether another calibration may be asked for though the lock is not lost.

    Attributes:
        setting: The alignment to go back to, dither left out.
        report: What the tracker said last; None without a model.
        dark_since_s: Since when there has been no light, seconds since the epoch, or None.
        cost: What tracking costs.
    """

    def __init__(
        self,
        bench: OpenTestbed,
        hold: Hold,
        setting: Mapping[str, float],
        now: Callable[[], float],
        alarms: Alarms,
        publish: Publish,
        may_realign: Callable[[], bool],
    ) -> None:
        self._bench = bench
        self._hold = hold
        self._sides = SideTracking(bench, now)
        self._side_reports: list[SideReport] = []
        self._now = now
        self._alarms = alarms
        self._publish = publish
        self._may_realign = may_realign
        self._disturbances = _disturbances(bench)
        self._finding = UNDISTURBED
        self._is_silent = False
        self._jumped_s = -math.inf
        tracking = bench.config.tracking
        self._patience = Patience(
            bench.config.alignment.target_excess,
            tracking.recalibrate_after_s,
            is_restrained=tracking.max_key_cost is not None,
            may_realign=may_realign,
            alarms=alarms,
        )
        self._ended_s: float | None = None
        self._rested_s = self._window_s = 0.0
        self.cost = KeyCost(tracking.max_key_cost)
        self.setting: Mapping[str, float] = setting
        self.report: TrackingReport | None = None
        self.dark_since_s: float | None = None

    async def step(self) -> None:
        """Measure one window and act on it; then leave time for key, if the budget wants that.

        Raises:
            LockLostError: The setting no longer fits, or has not been good enough for long.
            InstrumentError: An instrument failed.
            CeilingError: There was too much light.
        """
        since_s, self._ended_s = self._ended_s, None  # unless this step gets to its end
        proposal = self._hold.propose(self._now())
        moves = self.cost.restrained(proposal)
        in_force = await self._bench.apply(moves) if moves else proposal.held
        windows = await self._bench.measure_held(in_force, self._exposure_s(proposal))
        for held in windows:
            await self._take_in(held, held.window.start_s if since_s is None else since_s)
            since_s = held.end_s
        self.setting = proposal.held
        await self._rest(windows[-1].window, proposal)
        self._ended_s = since_s

    async def settle(self) -> None:
        """Take the dither of what is held beside the alignment away.

        Raises:
            InstrumentError: An instrument failed.
        """
        await self._sides.settle()

    @property
    def held_beside(self) -> Mapping[str, Mapping[str, float]]:
        """What is held beside the alignment, dither left out, by stage."""
        return self._sides.held()

    def posterior(self) -> Mapping[str, Any] | None:
        """What is known by now; None without a model."""
        return self._hold.posterior()

    def posterior_after_loss(self) -> Mapping[str, Any] | None:
        """What is still known once the lock is lost; None where that is nothing of use."""
        return self._hold.posterior_after_loss()

    def status(self) -> dict[str, Any]:
        """Tell what is tracked, how well and at what cost, as JSON can hold it."""
        return {
            "trackers": {
                self._hold.name: {"state": self._state},
                **{each.stage: self._side_status(each) for each in self._side_reports},
            },
            "disturbance": self._finding.cause,
            "window_s": self._window_s,
            "drift_rad": None if self.report is None else self.report.drift_rad,
            "dither_scale": self.cost.dither_scale,
            **self.cost.as_dict(),
        }

    @property
    def _is_blind(self) -> bool:
        """Whether there is nothing to see, be it that light or windows are missing."""
        return self._is_silent or self.dark_since_s is not None

    @property
    def _is_frozen(self) -> bool:
        return self._is_silent or self._finding.is_frozen

    @property
    def _state(self) -> str:
        if self._is_frozen:
            return "frozen"
        return "watching" if self._hold.name == "watch" else "following"

    def _exposure_s(self, proposal: Proposal) -> float:
        """Return how long to count: with a budget, that goes for a frame and the key after it."""
        config, budget = self._bench.config, self.cost.budget
        if budget is None or config.receiver.source == "feed":
            return proposal.window_s
        return max(budget * proposal.window_s, config.tracking.window_s)

    async def _take_in(self, held: HeldWindow, since_s: float) -> None:
        """Let everybody learn from a window; tell what it said and cost since the one before."""
        window, now_s = held.window, held.end_s
        if STALE in window.flags:
            self._is_silent = True
            self._alarms.put_up("feed-silent", "the QKD stack posts no window of use")
        else:
            self._is_silent = False
            self._alarms.clear("feed-silent", "the QKD stack posts windows again")
            self._heed(self._disturbances.look(window), now_s)
        self._learn(window, held.setting, now_s)
        self._window_s = window.duration_s
        self._account(window, max(now_s - since_s, 0.0))
        if self.report is not None and not self._is_blind:
            self._patience.heed(self.report, now_s)
        await self._follow_sides(window)

    def _heed(self, finding: Finding, now_s: float) -> None:
        """Take note of what disturbs the link.

        It becomes an alarm with the second window that shows it: the first may have begun before
        the trouble, and looks like a smaller one.
        """
        before, self._finding = _alarm_of(self._finding), finding
        if finding.cause == "jump":
            self._jumped_s = now_s
        trouble = _alarm_of(finding)
        if trouble is not None and trouble == before:
            self._alarms.put_up(trouble, finding.text, finding.cause)
        over = "the light is as usual"
        if self.dark_since_s is not None and not finding.is_dark:
            over = f"light is back after {now_s - self.dark_since_s:.0f} s"
        for name in ALARMS - {trouble}:
            self._alarms.clear(name, over)
        if not finding.is_dark:
            self.dark_since_s = None
        elif self.dark_since_s is None:
            self.dark_since_s = now_s

    def _learn(self, window: Window, in_force: Mapping[str, float], now_s: float) -> None:
        try:
            self.report = self._hold.learn(
                window.signal, in_force, now_s, is_frozen=self._is_frozen
            )
        except LockLostError as exc:
            raise LockLostError(f"{self._cause(now_s)}: {exc}", self._cause(now_s)) from None

    async def _follow_sides(self, window: Window) -> None:
        """Let what is held beside the alignment learn, unless the window is of no use.

        Light that has left the gates of a detector looks like a cut here, and not to the tracker of
        delays; so that one is shown the dark too.
        """
        if self._finding.cause == "stray light":
            return
        if self._is_frozen:
            window = replace(window, flags=window.flags | {"dark"})
        self._side_reports = await self._sides.follow(window)
        for report in self._side_reports:
            if report.lost is None:
                continue
            text = f"{report.stage}: {report.lost}"
            if self._may_realign():
                raise LockLostError(text, stage=report.stage)
            self._alarms.put_up(f"{report.stage}-lost", f"{text}; calibrated too often to go on")

    def _side_status(self, report: SideReport) -> dict[str, Any]:
        state = "frozen" if self._is_frozen else "following"
        return {"state": state if report.lost is None else "lost", **report.figures}

    def _cause(self, now_s: float) -> Cause:
        return "jump" if now_s - self._jumped_s <= JUMP_REMEMBERED_S else "drift"

    def _account(self, window: Window, elapsed_s: float) -> None:
        """Say what the window told and cost; in the dark there is no key that it could cost."""
        cost = None
        if not self._is_blind:
            cost = self.cost.account(window, self.report, elapsed_s, self._rested_s)
        self._publish("tracking", self._told(window, cost))
        if self.cost.is_over:
            self._alarms.put_up(
                "key-cost",
                f"tracking costs {self.cost.key_cost:.2%} of the key, and tracking.max_key_cost "
                f"allows {self.cost.budget:.2%}; no more can be saved here",
            )
        else:
            self._alarms.clear("key-cost", "tracking costs no more than it may")

    def _told(self, window: Window, cost: WindowCost | None) -> dict[str, Any]:
        told: dict[str, Any] = {
            "start_s": window.start_s,
            "window_s": window.duration_s,
            "photons": window.photons,
            "state": self._state,
            "disturbance": self._finding.cause,
        }
        if self.report is not None:
            told |= {
                "expected_excess": self.report.expected_excess,
                "excess_q90": self.report.excess_q90,
                "limit_excess": self.report.limit_excess,
                "innovation": self.report.innovation,
                "floor": self.report.floor,
                "drift_rad": self.report.drift_rad,
            }
        return told if cost is None else told | cost.as_dict()

    async def _rest(self, window: Window, proposal: Proposal) -> None:
        """Leave time for key after a calibration frame, without dither; none while it is dark."""
        self._rested_s = 0.0
        rest_s = self.cost.rest_s(window)
        if rest_s == 0 or self._is_blind:
            return
        if any(proposal.dither_rad):
            await self._bench.apply(proposal.held)
        await asyncio.sleep(rest_s)
        self._rested_s = rest_s


def _alarm_of(finding: Finding) -> str | None:
    """Name the alarm that a disturbance is worth, if any."""
    if finding.is_dark:
        return "link-dark"
    match finding.cause:
        case "cut":
            return "weak-light"
        case "stray light":
            return "stray-light"
        case _:
            return None


def _disturbances(bench: OpenTestbed) -> Disturbances:
    """Choose how disturbances are told by how windows are taken."""
    receiver = bench.receiver
    if bench.config.receiver.source != "pattern" or not isinstance(receiver, PatternReceiver):
        return Disturbances()
    pattern = receiver.pattern
    signal_slots = np.count_nonzero(pattern.intensity_of_slot == 0)
    return Disturbances(min(receiver.gate_ps / pattern.slot_ps, 1.0), signal_slots / pattern.period)
