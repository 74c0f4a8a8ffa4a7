from math import inf

import pytest

from sim.timeline import DEPTH, Ramp, Timeline


@pytest.mark.parametrize(
    ("now_s", "value"), [(9.0, 1.0), (10.0, 1.0), (10.5, 2.0), (11.0, 3.0), (99.0, 3.0)]
)
def test_a_ramp_rises_at_its_speed_and_stops_at_its_target(now_s: float, value: float) -> None:
    assert Ramp(10.0, 1.0, 3.0, 2.0).at(now_s) == pytest.approx(value)


def test_a_falling_ramp_falls() -> None:
    assert Ramp(0.0, 3.0, 1.0, 2.0).at(0.25) == pytest.approx(2.5)


def test_a_ramp_of_infinite_speed_has_arrived_when_it_starts() -> None:
    assert Ramp(5.0, 0.0, 4.0, inf).at(5.0) == 4.0


def test_a_turned_ramp_leaves_from_where_it_was() -> None:
    turned = Ramp(0.0, 0.0, 10.0, 1.0).turned(0.0, 4.0, 2.0)

    assert (turned.at(4.0), turned.at(5.0), turned.end_s) == (4.0, 2.0, 6.0)


def test_a_timeline_remembers_what_was_in_force() -> None:
    timeline = Timeline("a")
    timeline.set("b", 1.0)
    timeline.set("c", 2.0)

    assert [timeline.at(t) for t in (0.5, 1.0, 1.5, 2.0, 3.0)] == ["a", "b", "b", "c", "c"]
    assert timeline.latest == "c"


def test_a_change_that_comes_late_counts_after_the_one_before() -> None:
    timeline = Timeline("a")
    timeline.set("b", 2.0)
    timeline.set("c", 1.0)
    timeline.set("d", 1.5)

    assert [timeline.at(t) for t in (1.7, 2.0)] == ["a", "d"]


def test_changes_are_those_strictly_between_two_times() -> None:
    timeline = Timeline(0)
    for t in (1.0, 2.0, 3.0):
        timeline.set(1, t)

    assert timeline.changes(1.0, 3.0) == [2.0]
    assert timeline.changes(0.0, 9.0) == [1.0, 2.0, 3.0]


def test_a_timeline_forgets_the_oldest_but_keeps_its_depth() -> None:
    timeline = Timeline(0)
    last = 5 * DEPTH
    for i in range(1, last + 1):
        timeline.set(i, float(i))

    assert len(timeline.changes(-inf, inf)) <= 2 * DEPTH
    assert timeline.at(last - DEPTH + 1) == last - DEPTH + 1
    assert timeline.at(0.0) > 0, "before its memory, a timeline shows the oldest that it has"
