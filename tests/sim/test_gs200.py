import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.gs200 import Gs200
from sim.record import REJECTED, Limits, Record


class Bench:
    def __init__(self) -> None:
        self.record = Record({("bias", "voltage"): Limits(0, 5)})
        self.unit = Gs200("bias", self.record)

    def ask(self, line: str) -> str:
        return b"".join(r.data for r in self.unit.handle(line.encode() + b"\n", 0.0)).decode()


def test_it_says_who_it_is() -> None:
    assert Bench().ask("*IDN?") == "YOKOGAWA,GS210,91N345678,2.02\n"


def test_a_level_is_at_the_terminals_while_the_output_is_on() -> None:
    bench = Bench()
    bench.ask(":SOUR:LEV 1.5")
    assert bench.unit.outputs(0.0) == {"voltage": 0.0, "current": 0.0}

    bench.ask(":OUTP ON")

    assert bench.unit.outputs(0.0) == {"voltage": 1.5, "current": 0.0}
    assert bench.ask(":SOUR:LEV?") == "1.500000E+00\n"


def test_a_level_is_rounded_to_the_resolution_of_the_range() -> None:
    bench = Bench()
    bench.ask("SOUR:RANG 1;LEV 0.123456")

    assert bench.ask("SOUR:LEV?") == "1.234600E-01\n"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("SOUR:LEV 12.001", '-222,"Data out of range"'),
        ("SOUR:LEV much", '-222,"Data out of range"'),
        ("SOUR:RANG 2", '-222,"Data out of range"'),
        ("SOUR:FUNC SIN", '-222,"Data out of range"'),
        ("SOUR:PROT:CURR 0.3", '-222,"Data out of range"'),
        ("OUTP 2", '-222,"Data out of range"'),
        ("SOUR:WAVE 1", '-113,"Undefined header"'),
    ],
)
def test_a_refusal_is_queued_and_changes_nothing(command: str, error: str) -> None:
    bench = Bench()
    bench.ask("SOUR:LEV 3;:OUTP ON")

    assert bench.ask(command) == ""

    assert bench.ask("SYST:ERR?") == error + "\n"
    assert bench.ask("SYST:ERR?") == '0,"No Error"\n'
    assert bench.unit.outputs(0.0) == {"voltage": 3.0, "current": 0.0}
    assert bench.record.totals["bias", REJECTED] == 1


def test_a_range_that_the_level_does_not_fit_is_refused() -> None:
    bench = Bench()
    bench.ask("SOUR:LEV 3;RANG 1")

    assert bench.ask("SOUR:RANG?") == "1.00000E+01\n"


def test_a_current_is_no_voltage() -> None:
    bench = Bench()
    bench.ask("SOUR:LEV 3;FUNC CURR;LEV 0.004;:OUTP ON")

    assert bench.ask("SOUR:FUNC?;RANG?") == "CURR;1.00000E-02\n"
    assert bench.unit.outputs(0.0) == {"voltage": 0.0, "current": 0.004}


def test_a_current_beyond_the_range_is_refused() -> None:
    bench = Bench()
    bench.ask("SOUR:FUNC CURR;LEV 0.013;:OUTP ON")

    assert bench.ask("SYST:ERR?") == '-222,"Data out of range"\n'
    assert bench.unit.outputs(0.0)["current"] == 0.0


def test_it_comes_up_with_the_output_off_on_its_largest_but_one_range() -> None:
    bench = Bench()
    bench.ask("SOUR:RANG 30;LEV 3;:OUTP ON;:NONSENSE")

    bench.unit.power_cycle(0.0)

    assert bench.ask("OUTP:STAT?;:SOUR:RANG?;LEV?") == "0;1.00000E+01;0.000000E+00\n"
    assert bench.ask("SYST:ERR?") == '0,"No Error"\n'


def test_a_level_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    bench.ask("SOUR:LEV 6")

    assert [v.text for v in bench.record.violations] == ["voltage 6 V is outside 0 to 5 V"]


class Electrode:
    def __init__(self) -> None:
        self.bias_v: list[float] = []

    def set_bias(self, bias_v: float, now_s: float) -> None:
        self.bias_v.append(bias_v)


def test_what_it_biases_sees_the_voltage_at_the_terminals_from_power_up_on() -> None:
    electrode = Electrode()
    unit = Gs200("bias", Record({}), electrode=electrode)
    for line in (b"SOUR:LEV 1.5\n", b"OUTP ON\n", b"SOUR:LEV 2\n", b"OUTP OFF\n"):
        unit.handle(line, 0.0)

    assert electrode.bias_v == [0.0, 0.0, 1.5, 2.0, 0.0]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.unit.handle(piece, 0.0)
    bench.unit.reset_line(0.0)

    assert bench.ask("*IDN?").startswith("YOKOGAWA")
