import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.keysight33500 import Keysight33500, Keysight33500Settings
from sim.record import REJECTED, Limits, Record


class Bench:
    def __init__(self, channel: int = 1) -> None:
        self.record = Record({("bias", "voltage"): Limits(0, 3)})
        self.unit = Keysight33500("bias", self.record, Keysight33500Settings(channel=channel))

    def ask(self, line: str) -> str:
        return b"".join(r.data for r in self.unit.handle(line.encode() + b"\n", 0.0)).decode()

    @property
    def voltage_v(self) -> float | bool | str:
        return self.unit.outputs(0.0)["voltage"]


def test_it_says_who_it_is() -> None:
    assert Bench().ask("*IDN?") == "Agilent Technologies,33522B,MY57400123,4.00-1.19-2.00-52-00\n"


def test_the_offset_is_at_the_terminals_while_a_dc_output_is_on() -> None:
    bench = Bench()
    bench.ask("SOUR1:FUNC DC;VOLT:OFFS 1.5")
    assert bench.voltage_v == 0.0

    bench.ask("OUTP1 ON")

    assert bench.voltage_v == 1.5
    assert bench.ask("SOUR1:VOLT:OFFS?") == "+1.500000000000000E+00\n"


def test_a_waveform_swings_about_the_offset() -> None:
    bench = Bench()
    bench.ask("SOUR1:FUNC SIN;VOLT:OFFS 1.5")
    assert bench.unit.outputs(0.0) == {"voltage": 0.0, "amplitude": 0.0}

    bench.ask("OUTP1 ON")

    assert bench.unit.outputs(0.0) == {"voltage": 1.5, "amplitude": 0.05}


def test_the_outputs_are_apart_and_the_first_is_meant_where_none_is_named() -> None:
    bench = Bench(channel=2)
    bench.ask("SOUR2:FUNC DC;VOLT:OFFS 2;:OUTP2 1;:SOUR:VOLT:OFFS 1")

    assert bench.voltage_v == 2.0
    assert bench.ask("OUTP1?;:OUTP2?;:SOUR1:VOLT:OFFS?") == "0;1;+1.000000000000000E+00\n"


def test_a_new_load_rescales_the_offset() -> None:
    bench = Bench()
    bench.ask("SOUR1:FUNC DC;VOLT:OFFS 2 V;:OUTP1 ON")

    bench.ask("OUTP1:LOAD INF")

    assert bench.voltage_v == 4.0
    assert bench.ask("OUTP1:LOAD?") == "9.9E+37\n"
    bench.ask("OUTP1:LOAD 50")
    assert bench.voltage_v == 2.0


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("SOUR1:VOLT:OFFS 5", '-222,"Data out of range"'),
        ("SOUR1:VOLT:OFFS much", '-104,"Data type error"'),
        ("SOUR1:FUNC PRBS", '-224,"Illegal parameter value"'),
        ("OUTP1 2", '-224,"Illegal parameter value"'),
        ("OUTP1:LOAD -1", '-222,"Data out of range"'),
        ("SOUR3:VOLT:OFFS 1", '-113,"Undefined header"'),
        ("SOUR1:FREQ 1000", '-113,"Undefined header"'),
    ],
)
def test_a_refusal_is_queued_and_changes_nothing(command: str, error: str) -> None:
    bench = Bench()
    bench.ask("SOUR1:FUNC DC;VOLT:OFFS 1;:OUTP1 ON")

    assert bench.ask(command) == ""

    assert bench.ask("SYST:ERR?") == error + "\n"
    assert bench.ask("SYST:ERR?") == '+0,"No error"\n'
    assert bench.voltage_v == 1.0
    assert bench.record.totals["bias", REJECTED] == 1


def test_it_comes_up_with_a_sine_wave_and_the_outputs_off() -> None:
    bench = Bench()
    bench.ask("SOUR1:FUNC DC;:OUTP1 ON;:OUTP1:LOAD INF")

    bench.unit.power_cycle(0.0)

    said = bench.ask("SOUR1:FUNC?;:OUTP1?;:OUTP1:LOAD?")
    assert said == "SIN;0;+5.000000000000000E+01\n"


def test_an_offset_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    bench.ask("SOUR1:VOLT:OFFS 4")

    assert [v.text for v in bench.record.violations] == ["voltage 4 V is outside 0 to 3 V"]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.unit.handle(piece, 0.0)
    bench.unit.reset_line(0.0)

    assert bench.ask("*IDN?").startswith("Agilent")
