import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.endpoints.service import SelfActing
from sim.instruments.dd100 import Dd100, Dd100Settings
from sim.record import REJECTED, Limits, Record
from sim.voa import AttenuatorModel

SETTINGS = Dd100Settings(speed_db_per_s=10.0, bits_per_byte=0)
LOST = Dd100Settings(speed_db_per_s=10.0, bits_per_byte=0, is_homed=False)


class Bench:
    def __init__(self, settings: Dd100Settings = SETTINGS, attenuation_db: float = 20.0) -> None:
        self.optics = AttenuatorModel(attenuation_db, maximum_db=60.0)
        self.record = Record({("voa", "attenuation"): Limits(3, 60)})
        self.unit = Dd100("voa", self.optics, self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))


def test_a_move_is_echoed_and_done_when_the_motor_stands() -> None:
    bench = Bench()

    echo, position, done = bench.unit.handle(b"A50.00\r\n", 0.0)

    assert (echo.data, position.data, done.data) == (b"A50.00\r\n", b"Pos:4920\r\n", b"Done\r\n")
    assert echo.after_s == 0.0
    assert done.after_s == pytest.approx(3.0)
    assert bench.unit.outputs(1.0)["attenuation"] == pytest.approx(30.0)


def test_the_display_tells_position_and_attenuation() -> None:
    assert Bench().ask(b"D\r\n") == b"D\r\nDPos:1920\r\nATTEN:20.00\r\nDone\r\n"


def test_the_configuration_tells_the_range() -> None:
    assert Bench().ask(b"CD\r\n") == b"CD\r\nIL:0.80\r\nMAX ATTEN:60.00\r\nDone\r\n"


@pytest.mark.parametrize("command", [b"A0.79", b"A60.01", b"A", b"A-3", b"A3.456", b"a10", b"X"])
def test_what_it_cannot_do_is_refused_and_moves_nothing(command: bytes) -> None:
    bench = Bench()

    assert bench.ask(command + b"\r\n") == command + b"\r\nError-2\r\n"
    assert bench.unit.outputs(9.0)["attenuation"] == 20.0
    assert bench.record.totals["voa", REJECTED] == 1


def test_what_is_sent_while_the_motor_moves_waits() -> None:
    bench = Bench()
    bench.ask(b"A50.00\r\n")

    replies = bench.unit.handle(b"D\r\n", 1.0)

    assert replies[0].after_s == pytest.approx(2.0)
    assert replies[2].data == b"ATTEN:50.00\r\n"


def test_a_unit_that_is_lost_says_so_and_refuses_to_move() -> None:
    bench = Bench(LOST)

    assert bench.ask(b"D\r\n") == b"D\r\nDPos:0\r\nATTEN:unknown\r\nDone\r\n"
    assert bench.ask(b"A30.00\r\n") == b"A30.00\r\nError-2\r\n"
    assert bench.unit.outputs(9.0)["attenuation"] == 20.0


def test_homing_sweeps_the_whole_range_and_takes_its_time() -> None:
    bench = Bench(LOST)
    assert isinstance(bench.unit, SelfActing)

    *_, done = bench.unit.handle(b"H\r\n", 0.0)
    bench.unit.tick(2.0)
    bench.unit.tick(8.0)

    assert done.after_s == pytest.approx(1.92 + 5.92 + 5.92)
    assert bench.optics.actual_db(1.92) == pytest.approx(0.8)
    assert bench.optics.actual_db(7.84) == pytest.approx(60.0)
    assert bench.optics.transmission(1.92) == pytest.approx(10**-0.08)
    assert bench.ask(b"D\r\n", 15.0).splitlines()[2] == b"ATTEN:0.80"


def test_losing_power_stops_the_motor_where_it_is_and_loses_the_position() -> None:
    bench = Bench(LOST)
    bench.ask(b"H\r\n")

    bench.unit.power_cycle(1.0)

    assert bench.unit.due_s() is None
    assert bench.unit.outputs(9.0)["attenuation"] == pytest.approx(10.0)
    assert bench.ask(b"D\r\n", 1.1) == b""  # still booting
    assert b"unknown" in bench.ask(b"D\r\n", 9.0)


def test_nothing_shuts_the_light() -> None:
    assert Bench(attenuation_db=10.0).optics.transmission(0.1) == pytest.approx(0.1)


def test_with_its_echo_off_only_the_reply_comes() -> None:
    assert Bench(Dd100Settings(echoes=False)).ask(b"A20.00\r\n") == b"Pos:1920\r\nDone\r\n"


def test_an_attenuation_outside_the_bench_limits_is_a_violation() -> None:
    bench = Bench()

    bench.ask(b"A2.00\r\n")

    assert [v.text for v in bench.record.violations] == ["attenuation 2 dB is outside 3 to 60 dB"]


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for n, piece in enumerate(pieces):
        for reply in bench.unit.handle(piece, 100.0 * n):
            assert reply.after_s >= 0
    bench.unit.reset_line(3000.0)

    assert bench.ask(b"CD\r\n", 3000.0).endswith(b"Done\r\n")
