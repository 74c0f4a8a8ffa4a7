import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.instruments.websq import COUNTS, WebSq, WebSqSettings
from sim.record import REJECTED, Limits, Record
from sim.wire import MAIN


class Detectors:
    """Counts 100 times the detector's number in a second, while it is biased."""

    def __init__(self) -> None:
        self.bias_ua: dict[int, float] = {}
        self.windows: list[tuple[float, float]] = []

    def set_bias(self, detector: int, current_ua: float, now_s: float) -> None:
        self.bias_ua[detector] = current_ua

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        self.windows.append((start_s, duration_s))
        return np.array([round(100 * n * duration_s) for n in (1, 2, 3, 4)])


class Bench:
    def __init__(self, settings: WebSqSettings | None = None) -> None:
        self.detectors = Detectors()
        self.record = Record({("snspd", "bias current"): Limits(0, 20)})
        self.unit = WebSq("snspd", self.detectors, self.detectors, self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))

    def send(self, command: str, value: Any, now_s: float = 0.0) -> bytes:
        """Send a command; return what is broadcast soon after."""
        assert self.ask(json.dumps({"command": command, "value": value}).encode(), now_s) == b""
        replies = self.unit.tick(now_s + 0.01)
        return b"".join(reply.data for reply in replies if reply.port == MAIN)

    def lines(self, now_s: float) -> list[bytes]:
        return [reply.data for reply in self.unit.tick(now_s) if reply.port == COUNTS]


def test_all_labels_come_with_value_bounds_and_units_and_the_first_two_are_glued() -> None:
    messages = Bench().ask(b'{"request": "labelProps", "value": "None"}').split(b"\x17")

    assert messages.pop() == b""
    assert b"}{" in messages.pop(0)
    labels = {each["label"]: each["value"] for each in map(json.loads, messages)}
    assert labels["BiasCurrent"] == {
        "value": [15.0] * 4,
        "bounds": [-90.9, 90.9],
        "units": "uA",
    }


def test_a_change_is_not_acknowledged_but_broadcast_to_everybody() -> None:
    bench = Bench()

    told = bench.send("SetAllBiasCurrents", [12.5, 0, 1, 2])

    assert told == b'{"label": "BiasCurrent", "value": [12.5, 0.0, 1.0, 2.0]}\x17'


def test_where_nothing_changes_nothing_is_broadcast() -> None:
    assert Bench().send("SetAllBiasCurrents", [15, 15, 15, 15]) == b""


def test_no_current_flows_while_the_detectors_are_off() -> None:
    bench = Bench()
    bench.send("SetAllBiasCurrents", [12.5, 0, 1, 2])
    assert set(bench.detectors.bias_ua.values()) == {0.0}

    bench.send("DetectorEnable", True)

    assert bench.detectors.bias_ua == {1: 12.5, 2: 0.0, 3: 1.0, 4: 2.0}


@pytest.mark.parametrize(
    ("command", "value"),
    [
        ("SetAllBiasCurrents", [99, 0, 0, 0]),
        ("SetAllBiasCurrents", [1, 2, 3]),
        ("SetAllBiasCurrents", 3),
        ("SetAllTriggerLevels", [1, 2, 3, "x"]),
        ("SetMeasurementPeriod", 9),
        ("DetectorEnable", 1),
        ("AutoCaliBiasCurrents", False),
        ("Dance", True),
    ],
)
def test_a_refused_command_is_told_by_a_label_with_error_in_its_name(
    command: str, value: Any
) -> None:
    bench = Bench()
    before = bench.unit.outputs(0.0)

    assert b'"ErrorMessage"' in bench.send(command, value)
    assert bench.unit.outputs(0.0) == before
    assert bench.record.totals["snspd", REJECTED] == 1


def test_a_bias_beyond_the_limits_of_the_bench_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    bench.send("SetAllBiasCurrents", [25, 15, 15, 15])
    assert [each.text for each in bench.record.violations] == [
        "bias current of channel 1 25 uA is outside 0 to 20 uA"
    ]


def test_one_line_of_counts_is_pushed_for_each_period() -> None:
    bench = Bench(WebSqSettings(period_ms=100, epoch_s=1000.0))

    assert bench.unit.due_s() == 0.1
    assert bench.lines(0.25) == [
        b"1000.100000,10.0,20.0,30.0,40.0\n",
        b"1000.200000,10.0,20.0,30.0,40.0\n",
    ]
    assert bench.unit.due_s() == pytest.approx(0.3)


def test_a_changed_period_begins_at_once() -> None:
    bench = Bench()
    bench.send("SetMeasurementPeriod", 20, now_s=0.05)
    bench.lines(0.08)
    assert bench.detectors.windows == [(0.05, 0.02)]


def test_a_calibration_in_the_dark_finds_the_bias_and_says_when_it_is_over() -> None:
    bench = Bench(WebSqSettings(calibration_s=3.0, found_ua=16.0))
    bench.send("DarkCountsAutoIV", [100, 100, 100, 100])
    assert b'"StartAutoIV", "value": true' in bench.send("AutoCaliBiasCurrents", True)
    assert b'"value": true' in bench.ask(b'{"request": "StartAutoIV"}', 1.0)

    bench.unit.tick(3.1)

    assert b'"value": false' in bench.ask(b'{"request": "StartAutoIV"}', 3.2)
    assert bench.unit.outputs(3.2)["bias-1"] == 16.0


def test_a_calibration_in_the_light_lands_too_low() -> None:
    bench = Bench()
    bench.send("DarkCountsAutoIV", [15, 15, 15, 15])
    bench.send("AutoCaliBiasCurrents", True)
    bench.unit.tick(3.1)
    biases = [bench.unit.outputs(3.2)[f"bias-{n}"] for n in (1, 2)]
    assert biases == [16.0, 8.0]


def test_after_a_power_cycle_the_detectors_are_off_and_the_currents_as_stored() -> None:
    bench = Bench()
    bench.send("DetectorEnable", True)
    bench.send("SetAllBiasCurrents", [1, 2, 3, 4])

    bench.unit.power_cycle(5.0)

    outputs = bench.unit.outputs(5.0)
    assert (outputs["enabled"], outputs["bias-1"]) == (False, 15.0)
    assert set(bench.detectors.bias_ua.values()) == {0.0}


def test_objects_may_come_in_pieces_or_one_behind_the_other() -> None:
    bench = Bench()
    assert bench.ask(b'{"request": "StartA') == b""
    assert bench.ask(b'utoIV"}{"request": "DetectorEnable"}').count(b"\x17") == 2


def test_half_an_object_is_forgotten_when_the_client_goes() -> None:
    bench = Bench()
    bench.ask(b'{"request": "StartA')
    bench.unit.reset_line(0.0)
    assert b"StartAutoIV" in bench.ask(b'{"request": "StartAutoIV"}')


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([b"[]", b"{}", b"7"]))))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for n, piece in enumerate(pieces):
        bench.unit.handle(piece, n / 100)
    bench.unit.reset_line(1.0)
    assert b"StartAutoIV" in bench.ask(b'{"request": "StartAutoIV"}', 2.0)
