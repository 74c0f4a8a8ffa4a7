"""Knobs: nothing outside the limits is ever written, and every move is as slow as it must be."""

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from drivers.errors import RejectedError, SettingError, TransportError
from drivers.knob import Knob, KnobLimits, set_together
from drivers.roles import Actuator
from sim.virtual_time import run

LIMITS = KnobLimits("V", minimum=-4.0, maximum=4.0)


@dataclass
class Output:
    """One output of an instrument.

    Attributes:
        value: In force.
        resolution: The instrument rounds to it.
        written: What was written, with its time.
        failures: What the next writes raise.
        takes_s: How long one write takes.
    """

    value: float = 0.0
    resolution: float = 0.001
    written: list[tuple[float, float]] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    takes_s: float = 0.0

    @property
    def values(self) -> list[float]:
        return [round(value, 9) for _, value in self.written]

    @property
    def actuator(self) -> Actuator:
        return Actuator("V", -5.0, 5.0, self.resolution, self._write, self._read)

    async def _write(self, value: float) -> float:
        self.written.append((asyncio.get_running_loop().time(), value))
        await asyncio.sleep(self.takes_s)
        if self.failures:
            raise self.failures.pop(0)
        self.value = value
        return value

    async def _read(self) -> float:
        return self.value


def knob(output: Output, name: str = "squeezer-1", **limits: Any) -> Knob:
    return Knob(name, output.actuator, replace(LIMITS, **limits))


async def timed(work: Coroutine[Any, Any, Any]) -> float:
    """Do ``work``; return how long it took, s."""
    started_s = asyncio.get_running_loop().time()
    await work
    return asyncio.get_running_loop().time() - started_s


def test_a_value_is_written_once_and_what_was_confirmed_is_returned() -> None:
    output = Output()
    squeezer = knob(output)

    assert run(squeezer.set(1.2344)) == 1.234
    assert output.values == [1.234]
    assert squeezer.last == 1.234


@pytest.mark.parametrize("value", [4.001, -4.001, math.nan, math.inf, -math.inf, 1e300])
def test_a_value_outside_the_limits_is_refused_before_anything_is_sent(value: float) -> None:
    output = Output()

    with pytest.raises(SettingError) as caught:
        run(knob(output).set(value))

    assert str(caught.value) == f"squeezer-1: {value:g} V is outside -4 to 4 V"
    assert output.written == []


@pytest.mark.parametrize(
    ("limits", "problem"),
    [
        ({"maximum": 5.5}, "do not lie within the instrument's -5 to 5 V"),
        ({"minimum": -6.0}, "do not lie within"),
        ({"minimum": 2.0, "maximum": 1.0}, "do not lie within"),
        ({"minimum": math.nan}, "do not lie within"),
        ({"unit": "mV"}, "limits are in mV, the instrument takes V"),
        ({"rest": 4.5}, "4.5 V is outside -4 to 4 V"),
        ({"slew_per_s": 0.0}, "slew_per_s 0 must be more than 0"),
        ({"period": math.inf}, "period inf must be more than 0"),
        ({"settle_s": -1.0}, "settle_s -1 must be 0 or more"),
        ({"hysteresis": math.nan}, "hysteresis nan must be 0 or more"),
        ({"resolution": 3.0, "minimum": 1.0, "maximum": 2.0}, "no multiple of 3 V lies within"),
    ],
)
def test_limits_that_cannot_be_kept_are_refused(limits: dict[str, Any], problem: str) -> None:
    with pytest.raises(SettingError, match="squeezer-1: ") as caught:
        knob(Output(), **limits)

    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("value", "sent"),
    [(0.3, 0.3), (0.349, 0.3), (-0.351, -0.4), (4.0, 4.0), (3.96, 4.0), (-4.0, -4.0)],
)
def test_values_are_rounded_to_the_grid(value: float, sent: float) -> None:
    output = Output()
    run(knob(output, resolution=0.1).set(value))

    assert output.values == [sent]


def test_rounding_never_leaves_the_limits() -> None:
    output = Output()
    squeezer = knob(output, resolution=0.1, minimum=-0.97, maximum=0.97)
    run(squeezer.set(0.97))
    run(squeezer.set(-0.97))

    assert output.values == [0.9, -0.9]


def test_a_grid_that_the_instrument_cannot_follow_becomes_the_next_coarser_one() -> None:
    output = Output(resolution=0.2)
    run(knob(output, resolution=0.3).set(0.9))

    assert output.values == [0.8]


def test_a_move_waits_until_the_output_has_settled() -> None:
    assert run(timed(knob(Output(), settle_s=0.25).set(1.0))) == pytest.approx(0.25)


def test_a_slew_limited_move_goes_in_steps_and_no_faster_than_allowed() -> None:
    output = Output(value=0.0)
    duration_s = run(timed(knob(output, slew_per_s=2.0).set(0.33)))

    assert output.values == pytest.approx([0.03, 0.13, 0.23, 0.33])
    assert duration_s == pytest.approx(0.33 / 2.0)


def test_a_slew_limited_move_goes_down_too() -> None:
    output = Output(value=0.2)
    run(knob(output, slew_per_s=2.0).set(-0.1))

    assert output.values == pytest.approx([0.1, 0.0, -0.1])


def test_a_slew_slower_than_the_grid_goes_step_by_step() -> None:
    output = Output()
    duration_s = run(timed(knob(output, resolution=0.1, slew_per_s=0.2).set(0.3)))

    assert output.values == pytest.approx([0.1, 0.2, 0.3])
    assert duration_s == pytest.approx(1.5)


def test_an_output_found_outside_the_limits_enters_them_at_once() -> None:
    output = Output(value=5.0)
    run(knob(output, slew_per_s=2.0).set(3.9))

    assert output.values == pytest.approx([3.9])


def test_approach_from_below_goes_below_by_twice_the_play_and_a_grid_step() -> None:
    output = Output()
    duration_s = run(
        timed(knob(output, hysteresis=0.05, approach="from-below", settle_s=0.2).set(1.0))
    )

    assert output.values == [0.899, 1.0]
    assert duration_s == pytest.approx(0.4)  # The play is taken up before it goes back up.


def test_approach_from_below_stays_within_the_limits() -> None:
    output = Output()
    run(knob(output, hysteresis=0.05, approach="from-below").set(-3.95))

    assert output.values == [-4.0, -3.95]


def test_approach_from_below_comes_from_below_at_the_last_steps_of_a_ramp() -> None:
    output = Output(value=2.0)
    run(knob(output, hysteresis=0.1, approach="from-below", slew_per_s=4.0).set(1.0))

    before, last = output.values[-2:]
    assert min(output.values) == pytest.approx(0.799)
    assert before < last == 1.0


# the inverse of the play


@dataclass
class Sluggish(Output):
    """An output that lags behind its drive by a play of half width ``play``."""

    play: float = 0.3
    felt: float = 0.0

    async def _write(self, value: float) -> float:
        self.felt = min(max(self.felt, value - self.play), value + self.play)
        return await super()._write(value)


def inverting(output: Output, **limits: Any) -> Knob:
    return knob(output, hysteresis=0.3, approach="play-inverse", **limits)


@given(
    values=st.lists(st.floats(-3.6, 3.6), min_size=1, max_size=8),
    felt=st.floats(-0.3, 0.3),
    slew_per_s=st.sampled_from([None, 40.0]),
)
def test_with_the_inverse_of_the_play_the_output_is_where_it_was_wanted(
    values: list[float], felt: float, slew_per_s: float | None
) -> None:
    output = Sluggish(felt=felt)
    squeezer = inverting(output, slew_per_s=slew_per_s)

    async def set_all() -> None:
        for value in values:
            reached = await squeezer.set(value)
            assert reached == pytest.approx(value, abs=0.001)
            assert output.felt == pytest.approx(value, abs=0.001)
            assert await squeezer.read() == reached

    run(set_all())

    assert all(-4 <= value <= 4 for _, value in output.written)


def test_the_inverse_of_the_play_comes_from_below_only_while_the_side_is_unknown() -> None:
    output = Sluggish()
    squeezer = inverting(output)

    run(squeezer.set(1.0))
    run(squeezer.set(2.0))
    run(squeezer.set(1.5))
    squeezer.last = None  # as after a rest
    run(squeezer.set(1.5))

    assert output.values == [0.699, 1.3, 2.3, 1.2, 1.199, 1.8]


def test_a_move_cut_short_leaves_the_side_of_the_play_unknown() -> None:
    output = Sluggish(failures=[RejectedError("epc", "Error!")])
    squeezer = inverting(output)
    with pytest.raises(RejectedError):
        run(squeezer.set(1.0))

    run(squeezer.set(1.0))

    assert output.felt == pytest.approx(1.0)


def test_where_the_play_would_need_more_than_the_limits_a_value_is_refused() -> None:
    output = Sluggish()

    with pytest.raises(SettingError, match=r"3\.9 V is outside -3\.699 to 3\.7 V"):
        run(inverting(output).set(3.9))

    assert output.values == []


@pytest.mark.parametrize(
    ("approach", "usable"),
    [("any", (-4.0, 4.0)), ("from-below", (-3.399, 4.0)), ("play-inverse", (-3.699, 3.7))],
)
def test_what_is_usable_leaves_room_for_the_play(
    approach: str, usable: tuple[float, float]
) -> None:
    reachable = knob(Output(), hysteresis=0.3, approach=approach).usable

    assert reachable == pytest.approx(usable)


def test_a_play_as_wide_as_the_range_is_refused() -> None:
    with pytest.raises(SettingError, match="leaves no room"):
        knob(Output(), hysteresis=4.5, approach="from-below")


# interlocks and failures


def test_an_interlock_forbids_the_move_and_says_why() -> None:
    output = Output()
    squeezer = knob(output)
    squeezer.interlock = lambda: "the bench is safe"

    with pytest.raises(SettingError, match="squeezer-1: may not be moved now: the bench is safe"):
        run(squeezer.set(1.0))

    assert output.written == []


def test_an_interlock_stops_a_move_on_its_way() -> None:
    output = Output()
    squeezer = knob(output, slew_per_s=1.0)
    squeezer.interlock = lambda: "too bright" if output.value >= 0.2 else None

    with pytest.raises(SettingError, match="too bright"):
        run(squeezer.set(1.0))

    assert output.value == squeezer.last == pytest.approx(0.2)


def test_going_to_rest_needs_no_permission() -> None:
    output = Output(value=3.0)
    squeezer = knob(output, rest=0.5, approach="from-below", hysteresis=0.1, settle_s=10.0)
    squeezer.interlock = lambda: "the bench is safe"

    assert run(squeezer.to_rest()) == 0.5
    assert output.values == [0.5]


def test_going_to_rest_keeps_the_slew_limit() -> None:
    output = Output(value=1.0)

    assert run(timed(knob(output, rest=0.0, slew_per_s=2.0).to_rest())) == pytest.approx(0.5)


def test_a_knob_without_rest_value_is_left_alone() -> None:
    output = Output(value=3.0)

    assert run(knob(output).to_rest()) is None
    assert output.written == []


def test_a_lost_write_leaves_the_value_unknown_and_is_not_repeated() -> None:
    output = Output(failures=[TransportError("epc", "link lost")])
    squeezer = knob(output)
    squeezer.last = 0.5

    with pytest.raises(TransportError):
        run(squeezer.set(1.0))

    assert squeezer.last is None
    assert output.values == [1.0]


def test_a_cancelled_write_leaves_the_value_unknown() -> None:
    async def set_and_cancel(squeezer: Knob) -> None:
        async with asyncio.TaskGroup() as tasks:
            setting = tasks.create_task(squeezer.set(1.0))
            await asyncio.sleep(0.05)
            setting.cancel()

    squeezer = knob(Output(takes_s=0.1))
    squeezer.last = 0.5
    run(set_and_cancel(squeezer))

    assert squeezer.last is None


def test_a_refused_write_leaves_the_old_value() -> None:
    squeezer = knob(Output(failures=[RejectedError("epc", "Error!")]))
    squeezer.last = 0.5

    with pytest.raises(RejectedError):
        run(squeezer.set(1.0))

    assert squeezer.last == 0.5


def test_reading_makes_an_unknown_value_known() -> None:
    squeezer = knob(Output(value=0.7))

    assert run(squeezer.read()) == 0.7
    assert squeezer.last == 0.7


def test_two_moves_of_one_knob_do_not_mix() -> None:
    async def both(squeezer: Knob) -> None:
        await asyncio.gather(squeezer.set(0.2), squeezer.set(-0.1))

    output = Output()
    run(both(knob(output, slew_per_s=2.0)))

    assert output.values == pytest.approx([0.1, 0.2, 0.1, 0.0, -0.1])


def test_knobs_set_together_share_each_wait() -> None:
    first, second = Output(), Output()
    knobs = [
        knob(first, "a", hysteresis=0.05, approach="from-below", settle_s=0.2),
        knob(second, "b", hysteresis=0.10, approach="from-below", settle_s=0.1),
    ]

    async def move() -> float:
        return await timed(set_together({knobs[0]: 1.0, knobs[1]: 2.0}))

    assert run(move()) == pytest.approx(0.4)
    assert [first.values, second.values] == [[0.899, 1.0], [1.799, 2.0]]
    assert max(time_s for time_s, _ in first.written[:1] + second.written[:1]) == 0.0


def test_knobs_set_together_ramp_side_by_side() -> None:
    fast, slow = Output(), Output()
    settings = {knob(fast, "a", slew_per_s=4.0): 0.4, knob(slow, "b", slew_per_s=2.0): 0.4}

    assert run(timed(set_together(settings))) == pytest.approx(0.2)
    assert fast.values == pytest.approx([0.2, 0.4])
    assert slow.values == pytest.approx([0.1, 0.2, 0.3, 0.4])


def test_knobs_set_together_return_what_was_confirmed_by_name() -> None:
    settings = {knob(Output(), "a"): 1.0, knob(Output(), "b"): -1.0}

    assert run(set_together(settings)) == {"a": 1.0, "b": -1.0}


@pytest.mark.parametrize("reason", ["value", "interlock"])
def test_one_forbidden_knob_keeps_all_from_moving(reason: str) -> None:
    first, second = Output(), Output()
    bad = knob(second, "b")
    if reason == "interlock":
        bad.interlock = lambda: "no"

    with pytest.raises(SettingError, match="b: "):
        run(set_together({knob(first, "a"): 1.0, bad: 9.0 if reason == "value" else 1.0}))

    assert first.written == second.written == []


def test_settings_that_share_knobs_do_not_wait_for_each_other_for_ever() -> None:
    a, b = knob(Output(takes_s=0.1), "a"), knob(Output(takes_s=0.1), "b")

    async def both() -> None:
        async with asyncio.timeout(10):
            await asyncio.gather(a.set(0), set_together({a: 1, b: 1}), set_together({b: 2, a: 2}))

    run(both())

    assert a.last == b.last


@given(
    values=st.lists(st.floats(-6, 6) | st.floats(), max_size=6),
    start=st.floats(-5, 5),
    edges=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    resolution=st.sampled_from([0.0, 0.001, 0.1, 0.37]),
    instrument_resolution=st.sampled_from([0.0, 0.001, 0.1]),
    slew_per_s=st.sampled_from([None, 0.7, 40.0]),
    hysteresis=st.sampled_from([0.0, 0.05, 3.0]),
    approach=st.sampled_from(["any", "from-below"]),
)
def test_whatever_is_asked_nothing_outside_the_limits_is_written(
    values: list[float],
    start: float,
    edges: tuple[float, float],
    instrument_resolution: float,
    **limits: Any,
) -> None:
    output = Output(value=start, resolution=instrument_resolution)
    minimum, maximum = sorted(edges)
    try:
        squeezer = knob(output, minimum=minimum, maximum=maximum, **limits)
    except SettingError:
        reject()  # No multiple of the resolution lies between the edges.

    async def set_all() -> None:
        for value in values:
            try:
                reached = await squeezer.set(value)
            except SettingError:
                assert not minimum <= value <= maximum
            else:
                assert abs(reached - value) <= max(limits["resolution"], instrument_resolution) * 2

    run(set_all())

    assert all(minimum <= value <= maximum for _, value in output.written)
