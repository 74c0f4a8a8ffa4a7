"""Posted windows on their way to whoever holds a setting, in virtual time."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from qkdctl.clock import epoch_clock
from qkdctl.feed_config import FeedConfig
from qkdctl.feed_inbox import FeedInbox
from qkdctl.feed_receiver import FeedReceiver
from qkdctl.settings_in_force import SettingsInForce
from sim import virtual_time

EPOCH_S = 1.7e9


class Desk:
    """An inbox with a receiver behind it, and the settings that its windows are made by.

    Its windows are half a second long and follow each other from the beginning.
    """

    window_s = 0.5

    def __init__(self, **config: Any) -> None:
        self.now = epoch_clock(EPOCH_S)
        self.settings = SettingsInForce(self.now)
        self.settings.settle({"knob": 0.0})
        self.inbox = FeedInbox(FeedConfig(**config), self.settings, self.now)
        self.receiver = FeedReceiver(self.inbox, self.settings, "signal", self.now)
        self.events: list[dict[str, Any]] = []
        self.inbox.on_event = lambda event: self.events.append(dict(event))

    def post(self, sequence: int, **changes: Any) -> dict[str, Any]:
        message = {
            "version": 1,
            "sequence": sequence,
            "start_s": EPOCH_S + sequence * self.window_s,
            "duration_s": self.window_s,
            "origin": "error-correction",
            "bases": {"Z": {"sifted": 100 + sequence, "errors": 2}},
        }
        return self.inbox.post(json.dumps(message | changes).encode())

    def set(self, value: float) -> None:
        self.settings.begin_change()
        self.settings.settle({"knob": value})

    def spent_s(self) -> float:
        return self.now() - EPOCH_S

    async def until(self, time_s: float) -> None:
        await asyncio.sleep(time_s - self.spent_s())


def run(story: Callable[[Desk], Awaitable[None]], **config: Any) -> Desk:
    async def live() -> Desk:
        desk = Desk(**config)
        await story(desk)
        return desk

    return virtual_time.run(live())


def test_an_accepted_line_is_answered_with_its_number() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(1)
        assert desk.post(0) == {"ok": True, "sequence": 0}

    run(story)


def test_a_refusal_is_one_answer_one_event_and_one_count() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(1)
        desk.post(0)
        answer = desk.post(0)
        assert (answer["ok"], answer["sequence"], answer["reason"]) == (False, 0, "duplicate")
        assert desk.events == [{"reason": "duplicate", "text": answer["error"], "refused": 1}]

    assert run(story).inbox.counts()["refused"] == {"duplicate": 1}


def test_a_flood_of_refusals_is_told_once_a_second() -> None:
    async def story(desk: Desk) -> None:
        for _ in range(3):
            for _ in range(500):
                desk.inbox.post(b"nonsense")
            await asyncio.sleep(1)

    desk = run(story)
    assert [event["refused"] for event in desk.events] == [1, 500, 500]
    assert desk.inbox.counts()["refused"] == {"not-json": 1500}


def test_a_window_from_the_future_tells_of_wrong_clocks() -> None:
    async def story(desk: Desk) -> None:
        answer = desk.post(10)
        assert answer["reason"] == "in-the-future"
        assert "clock" in answer["error"]

    run(story)


def test_posting_times_make_the_stacks_own_clock_do() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(1)
        stack_s = 50.0
        assert desk.post(0, start_s=stack_s, posted_s=stack_s + 1)["ok"]
        assert desk.inbox.latest is not None
        assert desk.inbox.latest.start_s == pytest.approx(EPOCH_S)

    run(story)


def test_a_window_older_than_what_is_remembered_is_too_late() -> None:
    async def story(desk: Desk) -> None:
        assert desk.post(0, start_s=EPOCH_S - 60)["reason"] == "too-late"

    run(story)


def test_pooled_errors_are_taken_only_where_the_file_wants_them() -> None:
    both = {"bases": {"both": {"sifted": 100, "errors": 2}}}

    async def refused(desk: Desk) -> None:
        await desk.until(1)
        assert "feed.pooled" in desk.post(0, **both)["error"]

    async def taken(desk: Desk) -> None:
        await desk.until(1)
        assert desk.post(0, **both)["ok"]

    run(refused)
    run(taken, pooled=True)


def test_the_oldest_windows_go_when_nobody_uses_them() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(10)
        for number in range(8):
            desk.post(number)
        window = await desk.inbox.next_by(desk.now())
        assert window is not None
        assert window.sequence == 5

    assert run(story, queue_windows=3).inbox.counts()["dropped"] == 5


def test_a_window_behind_a_gap_is_waited_for_no_longer_than_the_file_says() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(2)
        desk.post(0)
        desk.post(2)
        assert await desk.inbox.next_by(desk.now() + 60) is not None
        assert await desk.inbox.next_by(desk.now() + 60) is not None
        assert desk.spent_s() == pytest.approx(2 + 1.5, abs=1e-3)

    run(story, reorder_wait_s=1.5)


def test_late_windows_come_with_the_setting_that_they_were_measured_with() -> None:
    async def story(desk: Desk) -> None:
        for number in range(6):
            desk.set(float(number))
            await asyncio.sleep(desk.window_s)
        await asyncio.sleep(3)
        for number in range(6):
            desk.post(number)
        held = await desk.receiver.held({}, 0.1)
        assert [each.setting["knob"] for each in held] == [0, 1, 2, 3, 4, 5]
        assert [each.window.signal.sifted for each in held] == [100, 101, 102, 103, 104, 105]
        assert [each.end_s - EPOCH_S for each in held] == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]

    run(story)


def test_a_window_in_which_the_setting_changed_is_left_out_and_counted() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(0.75)
        desk.set(1.0)
        await desk.until(2)
        for number in range(4):
            desk.post(number)
        held = await desk.receiver.held({}, 0.1)
        assert [each.setting["knob"] for each in held] == [0.0, 1.0, 1.0]

    assert run(story).inbox.counts()["mixed"] == 1


def test_the_stack_may_say_itself_which_setting_was_in_force() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(0.2)
        desk.set(1.0)
        await desk.until(2)
        desk.post(0, in_force_s=EPOCH_S + 0.1)
        (held,) = await desk.receiver.held({}, 0.1)
        assert held.setting == {"knob": 0.0}

    run(story)


def test_a_setting_is_held_to_a_border_of_the_stacks_windows() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(1.1)
        desk.post(0)
        desk.post(1)
        await desk.receiver.held({}, 0.1)
        assert desk.spent_s() == pytest.approx(2.0, abs=1e-3)  # a whole window from 1.5 on

    run(story)


def test_a_setting_that_spoils_no_window_is_held_for_one() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(1.53)
        desk.post(0)
        desk.post(1)
        await desk.receiver.held({}, 0.1)
        assert desk.spent_s() == pytest.approx(2.0, abs=1e-3)

    run(story)


def test_silence_gives_a_dark_window_then_windows_again_as_they_come() -> None:
    async def story(desk: Desk) -> None:
        (silent,) = await desk.receiver.held({"knob": 7.0}, 0.5)
        assert silent.window.flags == {"dark", "stale"}
        assert silent.setting == {"knob": 7.0}
        assert desk.spent_s() == pytest.approx(3, abs=1e-3)
        desk.post(4)
        (again,) = await desk.receiver.held({}, 0.5)
        assert not again.window.flags

    desk = run(story, timeout_s=3.0)
    assert [event["reason"] for event in desk.events] == ["silent", "heard"]


def test_after_a_silence_one_window_is_used_of_those_measured_while_the_setting_stood_still() -> (
    None
):
    async def story(desk: Desk) -> None:
        await desk.receiver.held({}, 0.5)
        for number in range(4):
            desk.post(number)
        assert len(await desk.receiver.held({}, 0.5)) == 1
        await desk.until(6)
        for number in range(4, 9):
            desk.post(number)
        held = await desk.receiver.held({}, 0.1)
        assert [each.window.signal.sifted for each in held] == [107, 108]

    run(story, timeout_s=3.0)


def test_windows_from_before_key_was_made_are_not_used() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(1.1)
        desk.post(0)
        desk.receiver.begin()
        await desk.until(2.1)
        for number in (1, 2, 3):
            desk.post(number)
        held = await desk.receiver.held({}, 0.1)
        assert [each.window.signal.sifted for each in held] == [103]

    run(story)


def test_a_calibration_waits_for_windows_of_the_setting_in_force() -> None:
    async def story(desk: Desk) -> None:
        await desk.until(1.0)
        desk.set(1.0)
        async with asyncio.TaskGroup() as tasks:
            measuring = tasks.create_task(desk.receiver.measure(1.0))
            for number in range(6):
                await desk.until((number + 1) * desk.window_s + 0.7)
                desk.post(number)
        assert measuring.result().signal.sifted == 102 + 103
        assert measuring.result().duration_s == 1.0

    run(story)


def test_a_calibration_without_a_feed_gets_a_dark_window() -> None:
    async def story(desk: Desk) -> None:
        window = await desk.receiver.measure(1.0)
        assert window.flags == {"dark", "stale"}
        assert desk.spent_s() == pytest.approx(1.0 + 3.0, abs=1e-3)

    run(story, timeout_s=3.0)
