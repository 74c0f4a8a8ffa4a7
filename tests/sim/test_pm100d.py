import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.pm100d import ENERGY_SENSOR_FLAGS, Pm100d, Pm100dSettings
from sim.record import REJECTED, Record


class Light:
    def __init__(self) -> None:
        self.power_w = 1e-6

    def monitor_power_w(self, now_s: float) -> float:
        return self.power_w


class Bench:
    def __init__(self, settings: Pm100dSettings | None = None) -> None:
        self.light = Light()
        self.record = Record()
        self.unit = Pm100d("monitor", self.light, self.record, settings)

    def ask(self, text: str, now_s: float = 0.0) -> str:
        replies = self.unit.handle(text.encode() + b"\n", now_s)
        return b"".join(reply.data for reply in replies).decode().strip()

    def power(self, now_s: float = 0.0) -> float:
        return float(self.ask("MEAS:POW?", now_s))


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("*IDN?", "Thorlabs,PM100D,P0012345,2.6.0"),
        ("SYST:SENS:IDN?", '"S154C","13020611","28-Feb-2025",1,2,289'),
        ("SENS:POW:UNIT?", "W"),
        ("pow:rang:auto?", "1"),
        (":SENSE:AVERAGE:COUNT?", "1"),
        ("SENS:CORR:WAV? MIN", "8.00000000E+02"),
        ("SYST:ERR?", '+0,"No error"'),
    ],
)
def test_queries_are_answered_in_short_and_long_form(query: str, answer: str) -> None:
    assert Bench().ask(query) == answer


def test_it_reads_the_light_with_noise_that_averaging_reduces() -> None:
    bench = Bench()
    single = np.array([bench.power() for _ in range(200)])
    bench.ask("SENS:AVER:COUN 100")
    averaged = np.array([bench.power() for _ in range(200)])
    assert single.mean() == pytest.approx(1e-6, rel=0.01)
    assert 5 < single.std() / averaged.std() < 20


def test_the_same_seed_gives_the_same_readings() -> None:
    assert Bench().power() == Bench().power() != Bench(Pm100dSettings(seed=1)).power()


def test_a_reading_takes_as_long_as_its_samples() -> None:
    bench = Bench()
    bench.ask("AVER 1000")
    (reply,) = bench.unit.handle(b"MEAS:POW?\n", 0.0)
    assert reply.after_s == pytest.approx(0.3)


def test_the_unit_of_readings_survives_a_power_cycle_and_the_wavelength_does_not() -> None:
    bench = Bench()
    bench.ask("SENS:POW:UNIT DBM;:SENS:CORR:WAV 1550")
    bench.unit.power_cycle(0.0)
    assert bench.ask("SENS:POW:UNIT?") == "DBM"
    assert bench.ask("SENS:CORR:WAV?") == "1.70000000E+03"
    assert bench.power() == pytest.approx(-30, abs=0.1)


def test_light_above_a_fixed_range_is_over_range() -> None:
    bench = Bench()
    bench.ask("SENS:POW:RANG 5E-7")
    assert bench.power() == 9.9e37
    bench.ask("SENS:POW:RANG:AUTO 1")
    assert bench.power() == pytest.approx(1e-6, rel=0.05)


def test_light_above_what_the_sensor_takes_is_over_range_whatever_the_range() -> None:
    bench = Bench()
    bench.light.power_w = 0.1
    assert bench.power() == 9.9e37


def test_a_correction_for_loss_is_added() -> None:
    bench = Bench()
    bench.ask("SENS:CORR:LOSS 10")
    assert bench.power() == pytest.approx(1e-5, rel=0.05)


def test_zeroing_takes_what_the_sensor_shows_when_it_ends() -> None:
    bench = Bench(Pm100dSettings(zeroing_s=2.0))
    bench.ask("SENS:CORR:COLL:ZERO:INIT")
    assert bench.ask("SENS:CORR:COLL:ZERO:STAT?", 1.9) == "1"
    assert bench.ask("SENS:CORR:COLL:ZERO:STAT?", 2.1) == "0"
    assert abs(bench.power(3.0)) < 0.02e-6  # zeroed with light: wrong by all of it


def test_an_aborted_zeroing_changes_nothing() -> None:
    bench = Bench()
    bench.ask("SENS:CORR:COLL:ZERO:INIT")
    bench.ask("SENS:CORR:COLL:ZERO:ABOR", 1.0)
    assert bench.power(3.0) == pytest.approx(1e-6, rel=0.05)


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("SENS:CORR:WAV 500", '-222,"Data out of range"'),
        ("SENS:CORR:WAV", '-109,"Missing parameter"'),
        ("SENS:CORR:WAV x", '-104,"Data type error"'),
        ("SENS:POW:UNIT HP", '-224,"Illegal parameter value"'),
        ("DANCE", '-113,"Undefined header"'),
    ],
)
def test_a_refused_command_is_in_the_error_queue(command: str, error: str) -> None:
    bench = Bench()
    assert bench.ask(command) == ""
    assert bench.ask("SYST:ERR?") == error
    assert bench.record.totals["monitor", REJECTED] == 1


def test_an_energy_sensor_measures_no_power() -> None:
    bench = Bench(Pm100dSettings(sensor_flags=ENERGY_SENSOR_FLAGS))
    assert bench.ask("MEAS:POW?") == ""
    assert bench.ask("SYST:ERR?") == '-241,"Hardware missing"'


@given(st.lists(st.binary(max_size=60)))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.unit.handle(piece, 0.0)
    bench.unit.reset_line(0.0)
    assert bench.ask("*IDN?").startswith("Thorlabs,")
