import asyncio
import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.detectors.singlequantum_websq import WebSq
from drivers.detectors.singlequantum_websq_counts import (
    CountLine,
    Window,
    parse_line,
    plan_periods,
)
from drivers.detectors.singlequantum_websq_messages import parse_message
from drivers.detectors.singlequantum_websq_options import WebSqOptions
from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.roles import PhotonCounter
from drivers.transport.connect import Connector
from drivers.transport.memory import MemoryChannel
from sim import virtual_time

ALL = b'{"request": "labelProps", "value": "None"}'
BIAS_SET = b'{"command": "SetAllBiasCurrents", "label": "BiasCurrent", "value": [12.5, 2.0]}'
OFF = b'{"command": "DetectorEnable", "label": "DetectorEnable", "value": false}'


def label(name: str, value: Any, **more: Any) -> bytes:
    return json.dumps({"label": name, "value": {"value": value, **more}}).encode()


def broadcast(name: str, value: Any) -> bytes:
    return json.dumps({"label": name, "value": value}).encode() + b"\x17"


def state(*, bias: Any = (1.0, 2.0), is_on: bool = True, n: int = 2, bounds: Any = None) -> bytes:
    """All labels as the unit tells them: some of its objects are glued."""
    return (
        label("SomethingElse", "x")
        + label("NumberOfDetectors", n)
        + b"\x17"
        + label("BiasCurrent", list(bias), bounds=bounds, units="uA")
        + b"\x17"
        + label("TriggerLevel", [100, 100], bounds=None, units="mV")
        + label("InptMeasurementPeriod", 100)
        + label("DetectorEnable", is_on)
        + b"\x17"
    )


async def opened(wire: Any, **options: Any) -> WebSq:
    said = {"inputs": (1, 2), "counts_resource": "tcp://host:1", "timeout_s": 0.05, **options}
    websq = WebSq("snspd", "memory:wire", WebSqOptions(**said), wire.connector)
    wire.channel.remaining.insert(0, wire.channel.remaining[0])  # once for who it is
    await websq.open()
    return websq


async def test_open_asks_for_all_labels_and_tells_how_many_detectors_there_are(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([(ALL, state())])
    websq = await opened(wire)
    assert isinstance(websq, PhotonCounter)
    assert "2 detectors" in (await reidentified(websq, wire)).model


async def reidentified(websq: WebSq, wire: Any) -> Any:
    wire.channel.remaining.append((ALL, state()))
    return await websq.identify()


async def test_a_bias_is_sent_with_those_of_the_others_and_confirmed_by_its_broadcast(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [(ALL, state()), (ALL, state()), (BIAS_SET, broadcast("BiasCurrent", [12.5, 2.0]))]
    )
    assert await (await opened(wire)).set_bias(1, 12.5) == 12.5
    assert not wire.channel.remaining


async def test_broadcasts_of_other_clients_are_not_taken_for_ours(
    scripted: Callable[..., Any],
) -> None:
    theirs = broadcast("BiasCurrent", [7.0, 2.0]) + broadcast("TriggerLevel", [12.5, 2.0])
    ours = broadcast("BiasCurrent", [12.5, 2.0])
    wire = scripted([(ALL, state()), (ALL, state()), (BIAS_SET, [theirs, ours])])
    assert await (await opened(wire)).set_bias(1, 12.5) == 12.5


async def test_a_broadcast_of_another_value_only_is_not_a_confirmation(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [(ALL, state()), (ALL, state()), (BIAS_SET, broadcast("BiasCurrent", [9.0, 2.0]))]
    )
    websq = await opened(wire)
    with pytest.raises(ReplyError, match="another value"):
        await websq.set_bias(1, 12.5)


async def test_without_a_broadcast_the_state_is_unknown(scripted: Callable[..., Any]) -> None:
    websq = await opened(scripted([(ALL, state()), (ALL, state()), (BIAS_SET, None)]))
    with pytest.raises(TransportError, match="state unknown: BiasCurrent"):
        await websq.set_bias(1, 12.5)


async def test_nothing_is_sent_where_the_label_has_the_value_already(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([(ALL, state()), (ALL, state())])
    assert await (await opened(wire)).set_bias(2, 2.0) == 2.0


async def test_a_label_with_error_in_its_name_after_a_command_is_a_refusal(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted(
        [(ALL, state()), (ALL, state()), (BIAS_SET, broadcast("ErrorMessage", "too much"))]
    )
    websq = await opened(wire)
    with pytest.raises(RejectedError, match="too much"):
        await websq.set_bias(1, 12.5)


async def test_a_fault_that_nobody_caused_is_logged_and_the_answer_taken(
    scripted: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    wire = scripted([(ALL, state()), (ALL, broadcast("CryoError", "warm") + state())])
    assert await (await opened(wire)).read_bias(1) == 1.0
    assert "warm" in caplog.text


async def test_the_rest_of_a_message_that_was_dropped_is_passed_over(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([(ALL, state()), (ALL, b'ent", "value": [3, 4]}\x17' + state())])
    assert await (await opened(wire)).read_bias(2) == 2.0


async def test_something_else_that_speaks_json_is_named_as_such(
    scripted: Callable[..., Any],
) -> None:
    with pytest.raises(ReplyError, match=r"no label BiasCurrent, .* you configured"):
        await opened(scripted([(ALL, label("NumberOfDetectors", 2) + b"\x17")]))


async def test_a_unit_with_too_few_detectors_is_refused(scripted: Callable[..., Any]) -> None:
    with pytest.raises(ReplyError, match="2 detectors and none with number 3"):
        await opened(scripted([(ALL, state())]), inputs=(1, 3))


async def test_labels_that_contradict_each_other_are_no_websq(
    scripted: Callable[..., Any],
) -> None:
    with pytest.raises(ReplyError, match="you configured"):
        await opened(scripted([(ALL, state(n=4))]))


async def test_limits_beyond_the_bounds_of_the_unit_are_refused(
    scripted: Callable[..., Any],
) -> None:
    with pytest.raises(SettingError, match="exceed the unit's 0 to 20"):
        await opened(scripted([(ALL, state(bounds=[0, 20]))]))


async def test_an_operating_point_is_set_and_switched_on_when_opened(
    scripted: Callable[..., Any],
) -> None:
    on = OFF.replace(b"false", b"true")
    wire = scripted(
        [
            (ALL, state(is_on=False)),
            (BIAS_SET, broadcast("BiasCurrent", [12.5, 2.0])),
            (on, broadcast("DetectorEnable", True)),
        ]
    )
    await opened(wire, bias_currents_ua={1: 12.5})
    assert not wire.channel.remaining


async def test_making_safe_switches_off_before_it_asks_anything(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([(ALL, state()), (OFF, None), (ALL, state(is_on=False))])
    await (await opened(wire)).make_safe()
    assert not wire.channel.remaining


async def test_a_bias_that_stays_on_is_reported(scripted: Callable[..., Any]) -> None:
    script = [(ALL, state()), (OFF, None), (ALL, state())]
    websq = await opened(scripted(script + script))
    with pytest.raises(ReplyError, match="still on"):
        await websq.make_safe()


async def test_the_bias_is_left_on_where_the_file_says_so(scripted: Callable[..., Any]) -> None:
    wire = scripted([(ALL, state())])
    await (await opened(wire, is_off_when_safe=False)).make_safe()
    assert not wire.channel.remaining


async def test_switching_off_is_confirmed(scripted: Callable[..., Any]) -> None:
    wire = scripted([(ALL, state()), (ALL, state()), (OFF, broadcast("DetectorEnable", False))])
    assert await (await opened(wire)).detector_enable(is_on=False) is False


@pytest.mark.parametrize(
    "options",
    [
        {"inputs": ()},
        {"inputs": (1, 1)},
        {"inputs": (1, 2), "bias_currents_ua": {3: 5.0}},
        {"bias_currents_ua": {1: 31.0}},
        {"bias_currents_ua": {1: math.nan}},
        {"min_bias_ua": 5.0, "max_bias_ua": 5.0},
        {"max_bias_ua": 91.0},
        {"max_trigger_mv": 20.05},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        WebSqOptions(**options)


@pytest.mark.parametrize(
    ("resource", "at"),
    [
        ("tcp://192.168.1.2:12000", "tcp://192.168.1.2:12345"),
        ("tcp://[fe80::1]:12000", "tcp://[fe80::1]:12345"),
        ("memory:x", None),
    ],
)
def test_counts_come_from_the_same_host_unless_said_otherwise(
    resource: str, at: str | None
) -> None:
    assert WebSqOptions().counts_at(resource) == at
    assert WebSqOptions(counts_resource="tcp://a:1").counts_at(resource) == "tcp://a:1"


# Messages.


@given(st.lists(st.dictionaries(st.text(max_size=3), st.floats(allow_nan=False)), max_size=5))
def test_glued_objects_are_told_apart(objects: list[dict[str, float]]) -> None:
    text = "".join(json.dumps({"label": "x", "value": each}) for each in objects)
    bare = [each.value for each in parse_message("a", text) if each.is_broadcast]
    assert bare == [each for each in objects if "value" not in each]


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(ReplyError):
        parse_message("a", text)


# Counts.


def test_a_line_is_a_time_and_a_count_for_each_detector() -> None:
    line = parse_line("a", "1700000000.25,12.0,0.0,3.0", 3)
    assert line == CountLine(1700000000.25, (12, 0, 3))


@pytest.mark.parametrize("text", ["", "1,2", "1,-2,3", "1,nan,3", "x,1,2", "nan,1,2", "1,inf,2"])
def test_a_line_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ReplyError, match="no counts of 2 detectors"):
        parse_line("a", text, 2)


@pytest.mark.parametrize(
    ("duration_s", "plan"),
    [(0.001, (1, 10)), (0.03, (3, 10)), (0.0503, (4, 13)), (1.0, (100, 10)), (600, (600, 1000))],
)
def test_a_duration_is_divided_so_that_the_count_is_over_soonest(
    duration_s: float, plan: tuple[int, int]
) -> None:
    assert plan_periods(duration_s) == plan


@given(st.floats(1e-6, 3600))
def test_the_periods_together_are_as_long_as_asked_but_hardly_longer(duration_s: float) -> None:
    n_periods, period_ms = plan_periods(duration_s)
    assert period_ms >= 10
    assert duration_s * 1e3 - 1e-3 <= n_periods * period_ms <= max(10, 1.3 * duration_s * 1e3 + 1)


def taken(window: Window, *lines: tuple[float, int, float]) -> list[int]:
    """Show lines (stamp, count, arrival) to a window; return the counts that it kept."""
    for stamp_s, count, arrived_s in lines:
        if window.take(CountLine(stamp_s, (count,)), arrived_s):
            break
    return [line.counts[0] for line in window.lines]


def test_a_window_begins_with_the_first_whole_period_after_the_call() -> None:
    window = Window(n_periods=2, period_s=0.1, since_s=5.04)
    lines = [(100.0 + n / 10, n, 5.0 + n / 10) for n in range(1, 9)]
    assert taken(window, *lines) == [2, 3]


def test_lines_that_were_held_up_on_the_way_are_not_taken_for_fresh_ones() -> None:
    window = Window(n_periods=1, period_s=0.1, since_s=10.05)
    held_up = [(100.0 + n / 10, n, 10.01) for n in range(1, 6)]
    live = [(100.6, 6, 10.1), (100.7, 7, 10.2), (100.8, 8, 10.3)]
    assert taken(window, *held_up, *live) == [7]


def test_a_missing_line_has_the_window_begin_again() -> None:
    window = Window(n_periods=3, period_s=0.1, since_s=0.0)
    stamps = (1, 2, 3, 5, 6, 7, 8)
    assert taken(window, *[(n / 10, n, n / 10) for n in stamps]) == [6, 7, 8]
    assert window.gaps == 1


def test_lines_of_another_period_are_left_out() -> None:
    window = Window(n_periods=1, period_s=0.1, since_s=0.0, skip=1)
    assert taken(window, (1.0, 1, 1.0), (1.5, 2, 1.5), (1.6, 3, 1.6), (1.7, 4, 1.7)) == [4]


class Unit:
    """A unit of one detector that is on and counts 1, 2, 3 … in 10 ms each."""

    def __init__(self) -> None:
        self.control, self.counts = MemoryChannel(), MemoryChannel()
        self.sends_line: Callable[[int], bool] = lambda n: True

    def driver(self) -> WebSq:
        ports = {"control": lambda: self.control, "counts": lambda: self.counts}
        options = WebSqOptions(inputs=(1,), counts_resource="memory:counts")
        return WebSq("snspd", "memory:control", options, Connector(memory=ports))

    async def answer(self) -> None:
        while True:
            await self.control.received.get()
            labels = [
                label("NumberOfDetectors", 1),
                label("BiasCurrent", [15.0]),
                label("TriggerLevel", [100.0]),
                label("InptMeasurementPeriod", 10),
                label("DetectorEnable", True),
            ]
            self.control.deliver(b"\x17".join(labels) + b"\x17")

    async def push(self) -> None:
        for n in range(1, 10_000):
            await asyncio.sleep(0.01)
            if self.sends_line(n):
                self.counts.deliver(f"{1e9 + n / 100},{n}\n".encode())


def counting(unit: Unit, story: Callable[[WebSq], Any]) -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            sides = [tasks.create_task(unit.answer()), tasks.create_task(unit.push())]
            driver = unit.driver()
            await driver.open()
            await story(driver)
            await driver.close()
            for side in sides:
                side.cancel()

    virtual_time.run(main())


def test_only_whole_periods_after_the_call_are_counted() -> None:
    async def story(driver: WebSq) -> None:
        await asyncio.sleep(0.105)
        counts = await driver.count(0.03, [1])
        assert counts.duration_s == 0.03
        assert counts.by_input == {1: 12 + 13 + 14}

    counting(Unit(), story)


def test_lines_that_nobody_read_since_the_last_count_are_not_counted() -> None:
    async def story(driver: WebSq) -> None:
        await driver.count(0.01, [1])
        await asyncio.sleep(0.5)
        assert (await driver.count(0.01, [1])).by_input[1] > 50

    counting(Unit(), story)


def test_a_count_with_a_gap_begins_anew_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    unit = Unit()
    unit.sends_line = lambda n: n != 4

    async def story(driver: WebSq) -> None:
        assert (await driver.count(0.03, [1])).by_input == {1: 6 + 7 + 8}
        assert "1 gaps" in caplog.text

    counting(unit, story)


def test_a_stream_that_falls_silent_is_given_up_and_opened_again() -> None:
    unit = Unit()
    unit.sends_line = lambda n: n > 500

    async def story(driver: WebSq) -> None:
        with pytest.raises(TransportError, match="no 3 whole periods"):
            await driver.count(0.03, [1])
        assert driver.health().errors == 1
        await asyncio.sleep(5)
        assert (await driver.count(0.03, [1])).duration_s == 0.03
        assert unit.counts.opened == 2

    counting(unit, story)


def test_a_count_on_a_connection_that_broke_meanwhile_opens_another() -> None:
    unit = Unit()

    async def story(driver: WebSq) -> None:
        await driver.count(0.01, [1])
        unit.counts.hang_up()
        assert (await driver.count(0.01, [1])).duration_s == 0.01
        assert unit.counts.opened == 2

    counting(unit, story)


def test_making_safe_breaks_a_count_off() -> None:
    unit = Unit()

    async def story(driver: WebSq) -> None:
        async with asyncio.TaskGroup() as tasks:
            measuring = tasks.create_task(counted(driver))
            await asyncio.sleep(0.5)
            with pytest.raises(ReplyError, match="still on"):  # this unit never switches off
                await driver.make_safe()
        assert "make_safe" in measuring.result()

    async def counted(driver: WebSq) -> str:
        with pytest.raises(TransportError) as caught:
            await driver.count(0.9, [1])
        return str(caught.value)

    counting(unit, story)


async def test_counting_needs_to_know_where_counts_come_from(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([(ALL, state())])
    websq = await opened(wire, counts_resource=None)
    with pytest.raises(SettingError, match="counts_resource"):
        await websq.count(0.1, [1])
