import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.hp8156a import Hp8156a, Hp8156aSettings
from sim.record import REJECTED, Limits, Record
from sim.voa import AttenuatorModel

NO_ERROR = b'+0,"No error"\n'


class Bench:
    def __init__(self, settings: Hp8156aSettings | None = None) -> None:
        self.optics = AttenuatorModel(maximum_db=60.0)
        self.record = Record({("voa", "attenuation"): Limits(3, 60)})
        self.unit = Hp8156a("voa", self.optics, self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))


def test_it_says_who_it_is_as_the_manual_prints_it() -> None:
    assert Bench().ask(b"*IDN?\n") == b"HEWLETT-PACKARD, HP8156A, 0, 1.02\n"


def test_the_condition_register_tells_that_the_motor_moves_the_filter() -> None:
    bench = Bench(Hp8156aSettings(speed_db_per_s=10.0))
    bench.ask(b":INP:ATT 32.15\n")

    assert bench.ask(b":STAT:OPER:COND?\n", 3.0) == b"2\n"
    assert bench.ask(b":STAT:OPER:COND?\n", 3.3) == b"0\n"
    assert bench.ask(b":INP:ATT?\n", 3.3) == b"+3.2150000E+001\n"


def test_the_calibration_factor_shifts_what_is_told_and_shown_but_not_the_filter() -> None:
    bench = Bench()
    bench.ask(b"INPUT:ATTENUATION 20DB;OFFSET 5\n")
    assert bench.optics.actual_db(2.0) == 20.0
    assert bench.ask(b":INP:ATT?;OFFS?\n", 2.0) == b"+2.5000000E+001;+5.0000000E+000\n"

    bench.ask(b":INP:ATT MAX\n", 2.0)
    assert bench.optics.target_db == 60.0


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (b":INP:ATT 61", b'-222,"Data out of range"'),
        (b":INP:OFFS -100", b'-222,"Data out of range"'),
        (b":INP:ATT lots", b'-224,"Illegal parameter value"'),
        (b":OUTP:STAT 7", b'-224,"Illegal parameter value"'),
        (b":OUTP:STAT", b'-109,"Missing parameter"'),
        (b":NONSENSE 1", b'-113,"Undefined header"'),
    ],
)
def test_a_refusal_is_queued_and_changes_nothing(command: bytes, error: bytes) -> None:
    bench = Bench()

    bench.ask(command + b"\n")

    assert bench.ask(b":SYST:ERR?\n") == error + b"\n"
    assert bench.ask(b":SYST:ERR?\n") == NO_ERROR
    assert bench.unit.outputs(9.0) == {"attenuation": 0.0, "shutter": False}
    assert bench.record.totals["voa", REJECTED] == 1


def test_the_same_error_is_queued_once() -> None:
    bench = Bench()
    bench.ask(b":INP:ATT 61\n:INP:ATT 62\n")

    bench.ask(b":SYST:ERR?\n")

    assert bench.ask(b":SYST:ERR?\n") == NO_ERROR


def test_in_power_mode_a_power_moves_the_filter_and_a_question_ends_it() -> None:
    bench = Bench()
    bench.ask(b":INP:ATT 10\n")
    bench.ask(b":OUTP:APM ON\n", 2.0)

    bench.ask(b":OUTP:POW 5\n", 2.0)

    assert bench.optics.target_db == 15.0
    assert bench.ask(b":OUTP:APM?\n", 4.0) == b"1\n"
    bench.ask(b":INP:OFFS?\n", 4.0)
    assert bench.ask(b":OUTP:APM?\n", 4.0) == b"0\n"
    assert bench.optics.actual_db(5.0) == 15.0


@pytest.mark.parametrize(("at_power_on", "is_open"), [(b"DIS", False), (b"LAST", True)])
def test_the_shutter_comes_up_as_it_was_told(at_power_on: bytes, is_open: bool) -> None:
    bench = Bench()
    bench.ask(b":OUTP ON;:OUTP:APOW " + at_power_on + b"\n")

    bench.unit.power_cycle(5.0)

    assert bench.unit.outputs(6.0)["shutter"] is is_open


def test_an_attenuation_outside_the_bench_limits_is_a_violation() -> None:
    bench = Bench()

    bench.ask(b":INP:OFFS 5;ATT 7\n")

    assert [v.text for v in bench.record.violations] == ["attenuation 2 dB is outside 3 to 60 dB"]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for n, piece in enumerate(pieces):
        bench.unit.handle(piece, float(n))
    bench.unit.reset_line(99.0)

    assert bench.ask(b"*CLS\n:SYST:ERR?\n", 99.0) == NO_ERROR
