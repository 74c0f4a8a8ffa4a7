import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.mdt693b import Mdt693b, Mdt693bSettings
from sim.record import REJECTED, Limits, Record


class Bench:
    def __init__(self, settings: Mdt693bSettings | None = None) -> None:
        self.record = Record({("piezo", "voltage"): Limits(0, 60)})
        self.unit = Mdt693b("piezo", self.record, settings or Mdt693bSettings(echoes=False))

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))


def test_the_sheets_dialogue_is_spoken() -> None:
    bench = Bench(Mdt693bSettings())
    assert bench.ask(b"echo=0\r") == b"echo=0\r>"
    assert bench.ask(b"xvoltage=25.000\r", 1.0) == b">"
    assert bench.ask(b"xvoltage?\r", 2.0) == b"[ 25.00]\r>"
    assert bench.ask(b"xvoltage=999\r", 3.0) == b"!\r>"


def test_an_echo_comes_first() -> None:
    bench = Bench(Mdt693bSettings(echoes=True))
    assert bench.ask(b"vlimit?\r") == b"vlimit?\r0\r>"


@pytest.mark.parametrize("command", [b"", b"wvoltage?", b"xvoltage"])
def test_what_is_no_command_is_not_defined(command: bytes) -> None:
    bench = Bench()
    assert bench.ask(command + b"\r") == b"CMD_NOT_DEFINED>"
    assert bench.record.totals["piezo", REJECTED] == 1


@pytest.mark.parametrize("value", [b"75.01", b"-1", b"ten", b"", b"1e1", b"nan"])
def test_a_value_that_it_does_not_take_changes_nothing(value: bytes) -> None:
    bench = Bench()
    assert bench.ask(b"yvoltage=" + value + b"\r") == b"!\r>"
    assert bench.unit.outputs(1.0)["y"] == 0.0


def test_keywords_may_be_in_capitals() -> None:
    assert Bench().ask(b"XVOLTAGE?\r\n") == b"[  0.00]\r>"


def test_the_switch_at_the_rear_caps_what_is_out_already() -> None:
    bench = Bench(Mdt693bSettings(echoes=False, switch=2))
    bench.ask(b"xvoltage=140\r")
    bench.unit.move_switch(0)

    assert bench.ask(b"vlimit?\r", 1.0) == b"0\r>"
    assert bench.unit.outputs(1.0)["x"] == 75.0
    assert bench.ask(b"xvoltage=80\r", 1.0) == b"!\r>"


def test_axis_limits_of_the_unit_hold() -> None:
    bench = Bench()
    assert bench.ask(b"xmax=30\rxmax?\r") == b">30\r>"
    assert bench.ask(b"xvoltage=31\r") == b"!\r>"


def test_master_scan_adds_to_all_axes() -> None:
    bench = Bench()
    bench.ask(b"xvoltage=10\rmsvoltage=5\rmsenable=1\r")

    assert bench.ask(b"xyzvoltage?\r", 1.0) == b"[ 15.00,  5.00,  5.00]\r>"
    assert bench.unit.outputs(1.0)["master scan"] is True


def test_a_stack_is_charged_at_the_current_limit() -> None:
    bench = Bench()
    bench.ask(b"xvoltage=43\r")
    assert bench.unit.outputs(0.0005)["x"] == pytest.approx(21.5)
    assert bench.unit.outputs(0.001)["x"] == pytest.approx(43, abs=0.002)


def test_all_axes_may_be_set_at_once() -> None:
    bench = Bench()
    bench.ask(b"allvoltage=3\rxyzvoltage=1,2,3\r")
    outputs = bench.unit.outputs(1.0)
    assert [outputs[axis] for axis in "xyz"] == pytest.approx([1, 2, 3], abs=0.002)


def test_a_unit_with_one_axis_knows_no_other_and_no_master_scan() -> None:
    bench = Bench(Mdt693bSettings(model="MDT694B", echoes=False))
    assert b"MDT694B" in bench.ask(b"id?\r")
    assert bench.ask(b"yvoltage?\rmsenable?\r") == b"CMD_NOT_DEFINED>" * 2
    assert set(bench.unit.outputs(0.0)) == {"x", "master scan"}


def test_power_up_prints_a_prompt_and_starts_from_zero() -> None:
    bench = Bench()
    bench.ask(b"xvoltage=10\r")
    bench.unit.power_cycle(10.0)

    assert bench.ask(b"xvoltage?\r", 10.1) == b""
    assert bench.unit.due_s() == 10.5
    assert [reply.data for reply in bench.unit.tick(10.5)] == [b">"]
    assert bench.unit.due_s() is None
    assert bench.unit.outputs(11.0)["x"] == 0.0


def test_a_voltage_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    assert bench.ask(b"zvoltage=70\r") == b">"
    assert [each.text for each in bench.record.violations] == [
        "voltage of channel 3 70 V is outside 0 to 60 V"
    ]


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for n, piece in enumerate(pieces):
        bench.unit.handle(piece, float(n))
    bench.unit.reset_line(100.0)
    assert bench.ask(b"vlimit?\r", 100.0).endswith(b">")


@given(
    st.lists(
        st.from_regex(rb"([xyz]|all|ms)(voltage|min|max|enable)=[0-9.]{1,6}\r", fullmatch=True),
        max_size=20,
    )
)
def test_no_voltage_beyond_the_switch_is_ever_out(lines: list[bytes]) -> None:
    bench = Bench()
    for n, line in enumerate(lines):
        bench.unit.handle(line, float(n))
        outputs = bench.unit.outputs(float(n) + 0.5)
        assert all(0 <= outputs[axis] <= 75 for axis in "xyz")


class Shifter:
    def __init__(self) -> None:
        self.told: list[tuple[float, float]] = []

    def set_voltage(self, voltage_v: float, now_s: float) -> None:
        self.told.append((round(voltage_v, 2), now_s))

    def target_v(self) -> float:
        return self.told[-1][0] if self.told else 0.0


def test_axis_x_and_master_scan_drive_the_phase_of_the_link() -> None:
    shifter = Shifter()
    unit = Mdt693b("piezo", Record({}), Mdt693bSettings(echoes=False), shifter)
    for at_s, command in enumerate([b"yvoltage=9\r", b"xvoltage=22\r", b"msvoltage=3\r"], start=1):
        unit.handle(command, float(at_s))
    unit.handle(b"msenable=1\r", 4.0)
    unit.power_cycle(5.0)
    assert shifter.told == [(22.0, 2.0), (25.0, 4.0), (0.0, 5.0)]


def test_it_acts_on_the_phase_only_where_it_is_on_the_link() -> None:
    assert Mdt693bSettings(is_on_link=True).acts_on == "phase"
    assert Mdt693bSettings().acts_on is None
