"""What the supervisor of trackers makes of window after window; no bench, invented counts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from calibration.clicks import Clicks, Window
from calibration.tracking.report import Proposal, TrackingReport
from qkdctl.alarms import Alarms
from qkdctl.config import Testbed, load_testbed
from qkdctl.feed_windows import stale_window
from qkdctl.holding import LockLostError
from qkdctl.receiver import HeldWindow
from qkdctl.tracking_supervisor import TrackingSupervisor

EXAMPLE = Path(__file__).parents[2] / "examples" / "polarization-bb84.toml"

WINDOW_S = 0.2
RATE_HZ = 20_000.0
SETTING = {"squeezer-1": 1.0}
DITHERED = {"squeezer-1": 1.1}


class InventedBench:
    """Hands out windows as they were put in, on a clock of its own."""

    receiver = None
    confirmed: Mapping[str, float] = SETTING

    def __init__(self, config: Testbed) -> None:
        self.config = config
        self.now_s = 1000.0
        self.told: list[Mapping[str, float]] = []
        self.windows: list[Window] = []

    async def apply(self, setting: Mapping[str, float]) -> dict[str, float]:
        self.told.append(dict(setting))
        return dict(setting)

    async def measure_held(
        self, in_force: Mapping[str, float], duration_s: float
    ) -> list[HeldWindow]:
        self.now_s += WINDOW_S
        return [HeldWindow(self.windows.pop(0), in_force, self.now_s)]


class InventedTracker:
    """Notes what it is shown, and says that the lock is lost when it is told to."""

    name: Literal["polarization", "phase", "watch"] = "polarization"

    def __init__(self) -> None:
        self.shown: list[bool] = []
        self.is_lost = False
        self.expected_excess = 0.0002

    def propose(self, now_s: float) -> Proposal:
        is_frozen = bool(self.shown) and self.shown[-1]
        setting = SETTING if is_frozen else DITHERED
        return Proposal(setting, SETTING, (0.0 if is_frozen else 0.1,), WINDOW_S)

    def learn(
        self, clicks: Clicks, in_force: Mapping[str, float], now_s: float, *, is_frozen: bool
    ) -> TrackingReport:
        self.shown.append(is_frozen)
        if self.is_lost:
            raise LockLostError("QBER 20 % where 1 % was expected")
        return TrackingReport(
            expected_excess=self.expected_excess,
            excess_q90=0.0004,
            innovation=0.0,
            lost=False,
            photons=clicks.photons,
            floor=0.01,
            drift_rad=0.003,
            dark=is_frozen,
            dither_qber=0.0001,
            limit_excess=0.0001,
        )

    def posterior(self) -> None:
        return


class Story:
    """A supervisor with everything about it invented."""

    def __init__(self) -> None:
        self.bench = InventedBench(load_testbed(EXAMPLE))
        self.tracker = InventedTracker()
        self.events: list[dict[str, Any]] = []
        self.alarms = Alarms(self.publish)
        self.supervisor = TrackingSupervisor(
            self.bench,  # type: ignore[arg-type]
            self.tracker,
            SETTING,
            lambda: self.bench.now_s,
            self.alarms,
            self.publish,
            lambda: True,
        )

    def publish(self, kind: str, data: Mapping[str, Any]) -> None:
        self.events.append({"kind": kind, **data})

    async def see(self, *windows: Window) -> None:
        self.bench.windows += windows
        for _ in windows:
            await self.supervisor.step()

    @property
    def alarmed(self) -> list[tuple[str, bool]]:
        alarms = [event for event in self.events if event["kind"] == "alarm"]
        return [(event["name"], event["is_active"]) for event in alarms]


@pytest.fixture
async def story() -> Story:
    """One that has seen ten ordinary windows."""
    story = Story()
    await story.see(*[window() for _ in range(10)])
    return story


def window(rate_hz: float = RATE_HZ, qber: float = 0.01) -> Window:
    table = np.full((4, 4), 1 / 16)
    for first in (0, 2):
        table[first : first + 2, first : first + 2] = (
            np.array([[1 - qber, qber], [qber, 1 - qber]]) / 8
        )
    clicks = np.rint(rate_hz * WINDOW_S * table).astype(np.int64)
    return Window(
        start_s=0.0,
        duration_s=WINDOW_S,
        source="pattern",
        disclosure="calibration",
        intensities=("signal",),
        clicks=clicks[None],
        singles=clicks.sum(axis=0),
        flags=frozenset() if clicks.any() else frozenset({"dark"}),
    )


async def test_the_tracker_learns_from_ordinary_windows_only(story: Story) -> None:
    await story.see(window(0.0), window(0.0), window(), window())
    assert story.tracker.shown[10:] == [True, True, True, False]


async def test_the_first_dark_window_freezes_and_the_second_one_alarms(story: Story) -> None:
    await story.see(window(0.0))
    assert (story.supervisor.status()["trackers"], story.alarmed) == (
        {"polarization": {"state": "frozen"}},
        [],
    )
    await story.see(window(0.0), window(0.0))
    assert story.alarmed == [("link-dark", True)]
    assert story.bench.told[-1] == SETTING


async def test_returning_light_clears_the_alarm_and_says_for_how_long_it_was_gone(
    story: Story,
) -> None:
    await story.see(*[window(0.0)] * 10, window(), window())
    assert story.alarmed == [("link-dark", True), ("link-dark", False)]
    assert "light is back after 2 s" in [event.get("text") for event in story.events]
    assert story.supervisor.dark_since_s is None


async def test_a_window_cut_short_by_darkness_is_no_alarm_of_its_own(story: Story) -> None:
    await story.see(window(RATE_HZ / 4), window(0.0), window(0.0))
    assert story.alarmed == [("link-dark", True)]


async def test_dark_windows_cost_no_key(story: Story) -> None:
    before = story.supervisor.cost.as_dict()
    await story.see(*[window(0.0)] * 5)
    assert story.supervisor.cost.as_dict() == before
    assert "key_cost" not in story.events[-1]


@pytest.mark.parametrize(("qber", "cause"), [(0.2, "jump"), (0.011, "drift")])
async def test_a_lost_lock_says_whether_the_fibre_jumped(
    story: Story, qber: float, cause: str
) -> None:
    story.tracker.is_lost = True
    with pytest.raises(LockLostError, match=f"{cause}: QBER 20 %") as lost:
        await story.see(window(qber=qber))
    assert lost.value.cause == cause


async def test_a_silent_feed_is_not_taken_for_a_dark_link(story: Story) -> None:
    silent = stale_window(0.0, WINDOW_S, "signal", ())
    await story.see(silent, silent, window())
    assert story.alarmed == [("feed-silent", True), ("feed-silent", False)]
    assert story.tracker.shown[10:] == [True, True, False]
    assert story.supervisor.dark_since_s is None


async def test_an_excess_that_lasts_leads_to_a_calibration_but_not_in_the_dark(
    story: Story,
) -> None:
    story.tracker.expected_excess = 0.01
    await story.see(window())
    story.bench.now_s += story.bench.config.tracking.recalibrate_after_s
    await story.see(window(0.0), window(0.0))
    with pytest.raises(LockLostError, match="drift: the expected excess QBER has been above"):
        await story.see(window(), window())


async def test_time_without_an_instrument_is_not_charged(story: Story) -> None:
    story.tracker.is_lost = True
    with pytest.raises(LockLostError):
        await story.see(window())
    story.tracker.is_lost = False
    story.bench.now_s += 3600
    await story.see(replace(window(), start_s=story.bench.now_s))
    assert story.events[-1]["looked_at_share"] == pytest.approx(1.0)
