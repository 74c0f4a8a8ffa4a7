"""Windows in order, and which setting was in force when."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qkdctl.feed import FeedError, FeedMessage
from qkdctl.feed_clock import RECENT, StackClock
from qkdctl.feed_order import MAX_STREAMS, Sequencer
from qkdctl.settings_in_force import REMEMBERED, SettingsInForce

DEPTH, WAIT_S = 3, 2.0


@dataclass(frozen=True)
class Numbered:
    sequence: int
    start_s: float


class Order:
    """A sequencer, and what has left it."""

    def __init__(self) -> None:
        self.sequencer = Sequencer[Numbered](DEPTH, WAIT_S)
        self.released: list[int] = []

    def put(self, *numbers: int, now_s: float = 0.0, stream: str = "") -> "Order":
        for number in numbers:
            window = Numbered(number, float(number))
            self._note(self.sequencer.put(stream, window, now_s))
        return self

    def wait_until(self, now_s: float) -> "Order":
        self._note(self.sequencer.overdue(now_s))
        return self

    def refused(self, number: int) -> FeedError:
        with pytest.raises(FeedError) as caught:
            self.put(number)
        return caught.value

    def _note(self, windows: list[Numbered]) -> None:
        self.released += [window.sequence for window in windows]


def test_windows_in_order_pass_at_once() -> None:
    assert Order().put(4, 5, 6).released == [4, 5, 6]


def test_windows_out_of_order_are_put_in_order() -> None:
    order = Order().put(4, 6, 7, 5)

    assert order.released == [4, 5, 6, 7]
    assert order.sequencer.counts.late == 1
    assert order.sequencer.counts.missing == 0


def test_a_gap_is_waited_for_and_then_counted() -> None:
    order = Order().put(4, 7)
    assert order.wait_until(WAIT_S - 0.1).released == [4]

    assert order.wait_until(WAIT_S).released == [4, 7]
    assert order.sequencer.counts.missing == 2


def test_a_gap_is_given_up_once_too_many_windows_wait() -> None:
    order = Order().put(4, 6, 7, 8)
    assert order.released == [4]

    assert order.put(9).released == [4, 6, 7, 8, 9]
    assert order.sequencer.counts.missing == 1


def test_a_window_of_a_gap_that_was_given_up_is_too_late() -> None:
    error = Order().put(4, 6).wait_until(WAIT_S).refused(5)

    assert error.reason == "too-late"
    assert error.sequence == 5


@pytest.mark.parametrize("number", [5, 6, 8])
def test_a_number_that_came_before_is_a_duplicate(number: int) -> None:
    assert Order().put(4, 5, 6, 8).refused(number).reason == "duplicate"


def test_a_stack_that_begins_anew_is_followed() -> None:
    order = Order().put(4, 5)
    order.sequencer.put("", Numbered(0, 10.0), 0.0)
    order.sequencer.put("", Numbered(1, 11.0), 0.0)

    assert order.sequencer.counts.restarts == 1


def test_streams_count_for_themselves() -> None:
    assert Order().put(4, 5).put(1, 2, stream="bob").released == [4, 5, 1, 2]


def test_streams_are_forgotten_when_there_are_too_many() -> None:
    order = Order().put(4, stream="first")
    for number in range(MAX_STREAMS):
        order.put(1, stream=f"other-{number}")

    assert order.put(4, stream="first").released.count(4) == 2


@settings(max_examples=50)
@given(st.lists(st.integers(0, 30), max_size=40), st.data())
def test_whatever_comes_leaves_once_and_in_order(numbers: list[int], data: st.DataObject) -> None:
    order, accepted, now_s = Order(), [], 0.0
    for number in numbers:
        now_s += data.draw(st.sampled_from([0.0, 0.5, WAIT_S]))
        try:
            order.put(number, now_s=now_s)
        except FeedError:
            continue
        accepted.append(number)
    order.wait_until(now_s + WAIT_S)
    while order.sequencer.next_due_s is not None:
        order.wait_until(now_s + WAIT_S)

    assert order.released == sorted(set(order.released))
    assert sorted(order.released) == sorted(accepted)


class History:
    """Settings in force by a clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.settings = SettingsInForce(lambda: self.now_s)

    def change(self, begun_s: float, settled_s: float, value: float) -> "History":
        self.now_s = begun_s
        self.settings.begin_change()
        self.now_s = settled_s
        self.settings.settle({"knob": value})
        return self


@pytest.mark.parametrize(
    ("start_s", "end_s", "value"),
    [
        (1.0, 2.0, 10.0),
        (1.5, 2.05, 10.0),  # a tenth of it moved
        (2.09, 3.0, 20.0),
        (1.5, 2.5, None),
        (0.1, 0.9, None),  # nothing was known yet
        (2.02, 2.08, None),
        (3.0, 900.0, 20.0),
    ],
)
def test_a_window_belongs_to_the_setting_that_was_in_force_for_nearly_all_of_it(
    start_s: float, end_s: float, value: float | None
) -> None:
    history = History().change(0.5, 1.0, 10.0).change(2.0, 2.1, 20.0)

    found = history.settings.during(start_s, end_s, 0.9)

    assert (found or {}).get("knob") == value


def test_no_window_reaches_across_an_interruption() -> None:
    history = History().change(0.5, 1.0, 10.0)
    history.now_s = 2.0
    history.settings.interrupt()

    assert history.settings.during(1.5, 2.5, 0.9) is None
    assert history.settings.during(2.0, 2.5, 0.9) == {"knob": 10.0}


def test_the_memory_of_settings_is_bounded() -> None:
    history = History()
    for number in range(REMEMBERED):
        history.change(number, number + 0.1, number)

    assert history.settings.remembered_since_s > REMEMBERED / 2 - 2
    assert history.settings.at(REMEMBERED - 0.5) == {"knob": REMEMBERED - 1}


def posted(start_s: float, posted_s: float | None) -> FeedMessage:
    return FeedMessage(
        version=1,
        sequence=0,
        start_s=start_s,
        duration_s=1.0,
        posted_s=posted_s,
        origin="calibration",
        counts=[[0] * 4] * 4,
    )


def test_the_stacks_clock_is_read_from_the_fastest_message() -> None:
    clock = StackClock(0.0)
    clock.start_s(posted(0.0, posted_s=100.0), 5100.3)
    clock.start_s(posted(0.0, posted_s=101.0), 5101.001)

    assert clock.start_s(posted(90.0, posted_s=102.0), 5102.7) == pytest.approx(5090.001)


def test_a_clock_that_runs_off_is_followed() -> None:
    clock = StackClock(0.0)
    for number in range(2 * RECENT):
        clock.start_s(posted(0.0, posted_s=number), number * 1.001)

    assert clock.start_s(posted(0.0, posted_s=2 * RECENT), 2 * RECENT * 1.001) > 0.03


def test_a_message_that_does_not_say_when_it_was_posted_goes_by_the_file() -> None:
    assert StackClock(-3.0).start_s(posted(90.0, posted_s=None), 5000.0) == 87.0
