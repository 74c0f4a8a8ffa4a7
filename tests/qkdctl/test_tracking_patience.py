"""When a link that is held, but not well, is aligned anew; and alarms that last."""

from collections.abc import Mapping
from typing import Any

import pytest

from calibration.tracking.report import TrackingReport
from qkdctl.alarms import Alarms
from qkdctl.holding import LockLostError
from qkdctl.tracking_patience import Patience

TARGET, PATIENCE_S = 0.003, 300.0


class Told:
    def __init__(self) -> None:
        self.events: list[tuple[str, bool]] = []
        self.alarms = Alarms(self._note)

    def _note(self, kind: str, data: Mapping[str, Any]) -> None:
        assert kind == "alarm"
        self.events.append((data["name"], data["is_active"]))


@pytest.fixture
def told() -> Told:
    return Told()


def patience(told: Told, *, is_restrained: bool = False, may_realign: bool = True) -> Patience:
    return Patience(
        TARGET,
        PATIENCE_S,
        is_restrained=is_restrained,
        may_realign=lambda: may_realign,
        alarms=told.alarms,
    )


def report(expected_excess: float, limit_excess: float = 0.0005) -> TrackingReport:
    return TrackingReport(
        expected_excess=expected_excess,
        excess_q90=2 * expected_excess,
        innovation=0.0,
        lost=False,
        photons=1000,
        floor=0.01,
        drift_rad=0.003,
        dark=False,
        dither_qber=0.0,
        limit_excess=limit_excess,
    )


def test_an_excess_that_stays_above_its_target_is_borne_for_a_while_only(told: Told) -> None:
    waiting = patience(told)
    for now_s in (0.0, 100.0, 299.0):
        waiting.heed(report(0.004), now_s)
    with pytest.raises(LockLostError, match=r"above 0\.30% for 300 s and is 0\.40% now"):
        waiting.heed(report(0.004), 300.0)


def test_an_excess_that_comes_and_goes_is_borne(told: Told) -> None:
    waiting = patience(told)
    for n in range(20):
        waiting.heed(report(0.004 if n % 2 else 0.002), 200.0 * n)
    assert told.events == []


@pytest.mark.parametrize(
    ("restrained", "may", "limit", "words"),
    [
        (False, True, 0.003, "no tracker could hold it below 0.30%"),
        (True, True, 0.0005, "tracking.max_key_cost leaves it too few windows"),
        (False, False, 0.0005, "aligned anew too often"),
    ],
    ids=["fibre too fast", "budget too small", "too many calibrations"],
)
def test_where_a_calibration_would_not_help_the_operator_is_told(
    told: Told, restrained: bool, may: bool, limit: float, words: str
) -> None:
    waiting = patience(told, is_restrained=restrained, may_realign=may)
    for now_s in (0.0, 300.0, 600.0):
        waiting.heed(report(0.004, limit), now_s)
    assert words in told.alarms.active["excess"]
    waiting.heed(report(0.001, limit), 601.0)
    assert told.events == [("excess", True), ("excess", False)]


def test_an_alarm_goes_up_once_and_comes_down_once(told: Told) -> None:
    for text in ("no light", "still no light"):
        told.alarms.put_up("link-dark", text)
    assert told.alarms.active == {"link-dark": "no light"}
    for _ in range(2):
        told.alarms.clear("link-dark", "light is back")
    assert told.events == [("link-dark", True), ("link-dark", False)]


def test_all_alarms_end_together(told: Told) -> None:
    for name in ("link-dark", "key-cost"):
        told.alarms.put_up(name, "")
    told.alarms.clear_all("tracking ended")
    assert told.alarms.active == {}
    assert len(told.events) == 4
