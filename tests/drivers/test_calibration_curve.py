"""Curves that put a knob in the unit in which the optics respond."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.calibration_curve import CalibrationCurve, in_unit_of
from drivers.errors import SettingError
from drivers.knob import Knob, KnobLimits
from drivers.roles import Actuator
from sim.virtual_time import run

VOLTS = [1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 25.0]
WAVES = [1.08, 0.98, 0.73, 0.42, 0.21, 0.09, 0.03]
CELL = CalibrationCurve(VOLTS, WAVES, "waves")


@dataclass
class Output:
    """One output in volts, read back in millivolts."""

    value_v: float = 0.0
    written_v: list[float] = field(default_factory=list)

    def actuator(self, maximum_v: float = 25.0) -> Actuator:
        return Actuator("V", 0.0, maximum_v, 0.001, self._write, self._read, settle_s=0.1)

    async def _write(self, value_v: float) -> float:
        self.written_v.append(value_v)
        self.value_v = round(value_v, 3)
        return self.value_v

    async def _read(self) -> float:
        return self.value_v


@given(st.floats(0.03, 1.08))
def test_the_drive_of_a_value_brings_that_value_about(waves: float) -> None:
    assert CELL.value(CELL.drive(waves)) == pytest.approx(waves, abs=1e-9)


@given(st.floats(1.2, 25.0), st.floats(1.2, 25.0))
def test_more_drive_never_gives_more_where_the_points_fall(one_v: float, other_v: float) -> None:
    less_v, more_v = sorted((one_v, other_v))
    assert CELL.value(more_v) <= CELL.value(less_v)


def test_the_curve_goes_through_its_points() -> None:
    assert [CELL.value(volts) for volts in VOLTS] == pytest.approx(WAVES)
    assert [CELL.drive(waves) for waves in WAVES] == pytest.approx(VOLTS)


def test_beyond_its_ends_the_curve_stays_where_it_is() -> None:
    assert CELL.value(0.0) == 1.08
    assert CELL.value(40.0) == 0.03
    assert CELL.drive(2.0) == pytest.approx(1.2)
    assert CELL.drive(-1.0) == pytest.approx(25.0)


def test_a_knob_in_waves_sends_volts_and_tells_what_they_bring_about() -> None:
    output = Output()
    knob = Knob("cell-1", in_unit_of(CELL, output.actuator()), KnobLimits("waves", 0.1, 1.0))

    confirmed = run(knob.set(0.73))

    assert output.written_v == pytest.approx([2.0])
    assert confirmed == pytest.approx(0.73, abs=1e-3)


def test_what_the_instrument_may_not_do_is_no_part_of_the_range() -> None:
    cell = in_unit_of(CELL, Output().actuator(maximum_v=10.0))

    assert (cell.minimum, cell.maximum) == pytest.approx((0.09, 1.08))
    with pytest.raises(SettingError, match="do not lie within"):
        Knob("cell-1", cell, KnobLimits("waves", 0.05, 1.0))


def test_a_curve_that_the_instrument_cannot_follow_anywhere_is_refused() -> None:
    with pytest.raises(ValueError, match="the instrument goes from 0 to 1"):
        in_unit_of(CELL, Output().actuator(maximum_v=1.0))


@pytest.mark.parametrize(
    ("drive", "value", "said"),
    [
        ([1, 2], [1], "2 drives and 1 values"),
        ([1], [1], "at least 2"),
        ([1, 1], [1, 2], "must rise from each point"),
        ([1, 2, 3], [1, 1, 0], "below a threshold"),
        ([1, 2, 3], [1, 0, 1], "rise throughout or fall throughout"),
        ([1, float("nan")], [1, 0], "no number"),
    ],
)
def test_points_that_make_no_curve_are_refused(
    drive: list[float], value: list[float], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        CalibrationCurve(drive, value, "waves")
