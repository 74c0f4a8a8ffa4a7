import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.tc200 import AMBIENT_DEGC, Tc200, Tc200Settings
from sim.record import REJECTED, Limits, Record


class Bench:
    def __init__(self, settings: Tc200Settings | None = None) -> None:
        self.record = Record({("oven", "temperature"): Limits(20, 80)})
        self.unit = Tc200("oven", self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))


def test_the_status_has_no_line_end_before_its_prompt() -> None:
    bench = Bench()
    assert bench.ask(b"stat?\r") == b"stat?\r10 > "
    bench.ask(b"ens\r")
    assert bench.ask(b"stat?\r") == b"stat?\r11 > "


def test_the_output_is_toggled() -> None:
    bench = Bench()
    seen = []
    for _ in range(3):
        assert bench.ask(b"ens\r") == b"ens\r> "
        seen.append(bench.unit.outputs(0.0)["heats"])
    assert seen == [True, False, True]


def test_without_a_sensor_the_output_stays_off() -> None:
    bench = Bench(Tc200Settings(has_sensor=False))
    assert b"Command error" in bench.ask(b"ens\r")
    assert bench.ask(b"stat?\r") == b"stat?\r50 > "


def test_the_normal_mode_is_taken_and_answered_with_an_error() -> None:
    bench = Bench(Tc200Settings(cycles=True))
    said = bench.ask(b"mode=normal\r")
    assert said == b"mode=normal\rCommand error CMD_ARG_RANGE_ERR\n\r> "
    assert bench.ask(b"stat?\r") == b"stat?\r10 > "


def test_the_cycle_mode_is_taken_without_a_word() -> None:
    bench = Bench()
    assert bench.ask(b"mode=cycle\r") == b"mode=cycle\r> "
    assert bench.ask(b"stat?\r") == b"stat?\r12 > "


@pytest.mark.parametrize(
    ("unit", "answer"), [(b"c", b"23.5 C"), (b"f", b"74.3 F"), (b"k", b"296.6 K")]
)
def test_temperatures_are_printed_in_the_displays_unit(unit: bytes, answer: bytes) -> None:
    bench = Bench()
    bench.ask(b"unit=" + unit + b"\r")
    assert bench.ask(b"tact?\r") == b"tact?\r" + answer + b"\r> "


def test_a_set_point_above_tmax_is_refused() -> None:
    bench = Bench()
    bench.ask(b"tmax=50\r")
    assert b"CMD_ARG_RANGE_ERR" in bench.ask(b"tset=50.1\r")
    assert bench.ask(b"tset?\rtmax?\r") == b"tset?\r20.0 Celsius\r> tmax?\r50.0\r> "
    assert bench.record.totals["oven", REJECTED] == 1


def test_it_heats_to_the_set_point_and_cools_to_its_surroundings() -> None:
    bench = Bench(Tc200Settings(time_constant_s=10.0))
    bench.ask(b"tset=60\rens\r")
    assert bench.unit.outputs(10.0)["actual temperature"] == pytest.approx(46.6, abs=0.1)
    assert bench.unit.outputs(200.0)["actual temperature"] == pytest.approx(60, abs=0.01)

    bench.ask(b"ens\r", 200.0)
    assert bench.unit.outputs(400.0)["actual temperature"] == pytest.approx(AMBIENT_DEGC, abs=0.01)


def test_power_up_keeps_the_set_point_and_does_not_heat() -> None:
    bench = Bench()
    bench.ask(b"tset=60\rens\r")
    bench.unit.power_cycle(10.0)

    assert bench.ask(b"tset?\r", 10.1) == b""
    assert bench.ask(b"tset?\r", 11.0) == b"tset?\r60.0 Celsius\r> "
    assert bench.unit.outputs(11.0)["heats"] is False


def test_a_set_point_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    bench.ask(b"tset=90\r")
    assert bench.record.violation_total == 1


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for n, piece in enumerate(pieces):
        bench.unit.handle(piece, float(n))
    bench.unit.reset_line(100.0)
    assert b"TC200" in bench.ask(b"*idn?\r", 100.0)
