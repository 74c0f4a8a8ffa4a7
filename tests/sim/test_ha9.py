import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.ha9 import Ha9, Ha9Settings
from sim.record import REJECTED, Limits, Record
from sim.voa import AttenuatorModel


class Bench:
    def __init__(self, settings: Ha9Settings | None = None) -> None:
        self.optics = AttenuatorModel(maximum_db=100.0)
        self.record = Record({("voa", "attenuation"): Limits(3, 60)})
        self.unit = Ha9("voa", self.optics, self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))


def test_the_filter_is_told_where_to_go_and_tells_where_it_is_on_the_way() -> None:
    bench = Bench(Ha9Settings(speed_db_per_s=10.0, bits_per_byte=0))
    bench.ask(b"ATT 30.00\r")

    assert bench.ask(b"ATT?\r", 1.0) == b"      10.0000\r\n"
    assert bench.ask(b"ATT?\r", 4.0) == b"      30.0000\r\n"


def test_the_condition_tells_whether_it_stands() -> None:
    bench = Bench(Ha9Settings(speed_db_per_s=10.0, bits_per_byte=0))
    bench.ask(b"ATT 30.00\r")

    assert bench.ask(b"CNB?\r", 2.9) == b"0\r\n"
    assert bench.ask(b"CNB?\r", 3.0) == b"4\r\n"


def test_the_block_is_in_at_first_and_d0_takes_it_out() -> None:
    bench = Bench()
    assert bench.ask(b"D?\r") == b"1\r\n"

    bench.ask(b"D 0\r", 1.0)

    assert bench.ask(b"D?\r", 2.0) == b"0\r\n"
    assert bench.unit.outputs(2.0) == {"attenuation": 0.0, "shutter": True}


@pytest.mark.parametrize(
    ("command", "status"), [(b"ATT 101", b"001"), (b"D 2", b"001"), (b"ATT", b"032")]
)
def test_a_refusal_shows_in_the_status_register_alone(command: bytes, status: bytes) -> None:
    bench = Bench()

    assert bench.ask(command + b"\r") == b""
    assert bench.ask(b"STB?\r", 1.0) == status + b"\r\n"
    assert bench.record.totals["voa", REJECTED] == 1


def test_the_status_stays_until_it_is_cleared() -> None:
    bench = Bench()
    bench.ask(b"NONSENSE\r")
    assert bench.ask(b"STB?\r", 1.0) == bench.ask(b"STB?\r", 2.0) == b"032\r\n"

    bench.ask(b"CLR\r", 3.0)

    assert bench.ask(b"STB?\r", 4.0) == b"000\r\n"


def test_a_status_that_asks_for_service_clears_itself_when_it_is_read() -> None:
    bench = Bench()
    bench.ask(b"SRE 32\rNONSENSE\r")

    assert bench.ask(b"STB?\r", 1.0) == b"096\r\n"
    assert bench.ask(b"STB?\r", 2.0) == b"000\r\n"


def test_the_offset_shifts_what_is_told_and_shown_but_not_the_filter() -> None:
    bench = Bench()
    bench.ask(b"ATT 20\r")
    bench.ask(b"CAL 5\r", 5.0)
    assert bench.optics.actual_db(6.0) == 20.0
    assert bench.ask(b"ATT?\r", 6.0) == b"      25.0000\r\n"

    bench.ask(b"ATT 20\r", 7.0)

    assert bench.optics.actual_db(9.0) == 15.0


def test_several_commands_fit_in_a_message_and_only_the_last_may_ask() -> None:
    bench = Bench()

    assert bench.ask(b"CAL 1;WVL 1550NM;WVL?;ATT 20\r").strip() == b"1.5500e-06"
    assert bench.optics.target_db == 0.0


def test_the_setup_string_has_58_characters() -> None:
    bench = Bench()
    bench.ask(b"SRE 6;CAL 10;ATT 22\r")

    answer = bench.ask(b"LRN?\r", 9.0).removesuffix(b"\r\n")

    assert len(answer) == 58
    assert answer.split() == [b"1", b"1", b"6", b"10.0000", b"22.0000", b"1.3100e-06"]


def test_what_exceeds_the_input_buffer_is_lost() -> None:
    bench = Bench()

    bench.ask(b" " * 94 + b"ATT 3.12345\r")

    assert bench.optics.target_db == 3.0


def test_replies_take_their_time_at_1200_baud() -> None:
    (reply,) = Bench().unit.handle(b"CNB?\r", 0.0)

    assert reply.after_s == pytest.approx((5 + 3) * 10 / 1200)


def test_after_power_up_it_is_blocked_at_0_db_and_has_forgotten_the_rest() -> None:
    bench = Bench()
    bench.ask(b"CAL 5;WVL 1550NM;ATT 20;D 0\r")

    bench.unit.power_cycle(5.0)

    assert bench.ask(b"D?\r", 5.1) == b""  # still booting
    assert bench.ask(b"D?\r", 7.0) == b"1\r\n"
    assert bench.ask(b"CAL?\r", 7.5).strip() == b"0.0000"
    assert bench.ask(b"WVL?\r", 8.0).strip() == b"1.3100e-06"
    assert bench.unit.outputs(8.0) == {"attenuation": 0.0, "shutter": False}


def test_an_attenuation_outside_the_bench_limits_is_a_violation() -> None:
    bench = Bench()

    bench.ask(b"CAL 5;ATT 7\r")

    assert [v.text for v in bench.record.violations] == ["attenuation 2 dB is outside 3 to 60 dB"]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    now_s = 0.0
    for piece in pieces:
        for reply in bench.unit.handle(piece, now_s):
            assert reply.after_s > 0
        now_s += 1.0
    bench.unit.reset_line(now_s)

    assert bench.ask(b"IDN?\r", now_s + 9.0) == b"JDS UNIPHASE,HA9X,0,2.100\r\n"
