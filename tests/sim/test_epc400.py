import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.epc400 import Epc400, Epc400Settings
from sim.record import REJECTED, Limits, Record


class Squeezers:
    def __init__(self) -> None:
        self.voltages_v: dict[int, float] = {}

    def set_voltage(self, channel: int, voltage_v: float, now_s: float) -> None:
        self.voltages_v[channel] = voltage_v


class Bench:
    def __init__(self, settings: Epc400Settings | None = None) -> None:
        self.squeezers = Squeezers()
        self.record = Record({("epc", "voltage"): Limits(-4, 4)})
        self.unit = Epc400("epc", self.squeezers, self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))


def test_voltages_read_back_as_the_manual_prints_them() -> None:
    bench = Bench()
    for command in (b"V2,-1250\r\n", b"V3,0500\r\n", b"V4,+5000\r\n"):
        bench.ask(command)

    assert bench.ask(b"V?\r\n") == b"V?\r\nCH1 +0000 CH2 -1250 CH3 +0500 CH4 +5000\r\nDone\r\n"


def test_a_set_is_echoed_done_and_felt_by_the_squeezer() -> None:
    bench = Bench()

    assert bench.ask(b"V2,-1250\r\n") == b"V2,-1250\r\nDone\r\n"
    assert bench.squeezers.voltages_v == {2: -1.25}


@pytest.mark.parametrize(
    "command",
    [b"V1,5001", b"V1,-5001", b"V5,0", b"V0,0", b"V1", b"V1,1.5", b"v?", b"", b"F1,101", b"BR4"],
)
def test_a_refused_command_ends_with_error_and_changes_nothing(command: bytes) -> None:
    bench = Bench()

    assert bench.ask(command + b"\r\n") == command + b"\r\nError!\r\n"
    assert bench.squeezers.voltages_v == {}
    assert bench.record.totals["epc", REJECTED] == 1


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (b"M?", b"Mode: DC"),
        (b"VF?", b"CH1 DC CH2 DC CH3 DC CH4 DC"),
        (b"F?", b"CH1 000 CH2 000 CH3 000 CH4 000"),
        (b"WF?", b"Waveform: SINE"),
        (b"BR?", b"BR0"),
        (b"SN?", b"18070042"),
        (b"VER?", b"EPC-400 V2.03"),
    ],
)
def test_queries_are_answered_on_one_line(query: bytes, answer: bytes) -> None:
    assert Bench().ask(query + b"\r\n") == query + b"\r\n" + answer + b"\r\nDone\r\n"


def test_extremes_and_zero_have_commands_of_their_own() -> None:
    bench = Bench()
    bench.ask(b"VH1\r\nVL2\r\nVH3\r\nVZ3\r\n")

    assert bench.squeezers.voltages_v == {1: 5.0, 2: -5.0, 3: 0.0}


def test_replies_take_their_time_on_the_wire() -> None:
    unit = Bench().unit

    echo, done = unit.handle(b"V2,-1250\r\n", 0.0)

    assert echo.after_s == pytest.approx(20 * 10 / 9600)
    assert done.after_s == pytest.approx(26 * 10 / 9600)


def test_the_wire_is_busy_with_one_command_after_the_other() -> None:
    unit = Bench().unit

    first = unit.handle(b"V2,-1250\r\n", 0.0)[-1]
    second = unit.handle(b"V2,-1250\r\n", 0.001)[-1]

    assert second.after_s + 0.001 == pytest.approx(2 * first.after_s)


def test_a_faster_line_answers_sooner_from_the_next_command_on() -> None:
    unit = Bench().unit
    *_, at_old_rate = unit.handle(b"BR3\r\n", 0.0)

    *_, at_new_rate = unit.handle(b"BR?\r\n", 1.0)

    assert at_old_rate.after_s == pytest.approx(16 * 10 / 9600)
    assert at_new_rate.after_s == pytest.approx(21 * 10 / 115200)


def test_commands_may_come_in_pieces() -> None:
    bench = Bench()

    assert bench.ask(b"V2,-1") == b""
    assert bench.ask(b"250\r") == b""
    assert bench.ask(b"\n") == b"V2,-1250\r\nDone\r\n"


def test_a_lone_line_feed_does_not_end_a_command() -> None:
    assert Bench().ask(b"V?\n") == b""


def test_half_a_line_is_forgotten_when_the_client_goes() -> None:
    bench = Bench()
    bench.ask(b"V2,-1")

    bench.unit.reset_line(0.0)

    assert bench.ask(b"V?\r\n").endswith(b"Done\r\n")


def test_in_scrambling_mode_the_squeezers_do_not_follow_the_voltages() -> None:
    bench = Bench(Epc400Settings(scrambles_at_power_up=True))
    bench.ask(b"V1,1000\r\n")
    assert bench.squeezers.voltages_v == {}
    assert bench.ask(b"M?\r\n") == b"M?\r\nMode: AC\r\nDone\r\n"

    bench.ask(b"MDC\r\n")

    assert bench.squeezers.voltages_v == {1: 1.0}


def test_one_channel_can_be_toggled_to_scramble() -> None:
    bench = Bench()
    bench.ask(b"V2,1000\r\nVF2\r\n")

    assert bench.ask(b"VF?\r\n").splitlines()[1] == b"CH1 DC CH2 AC CH3 DC CH4 DC"
    assert bench.squeezers.voltages_v == {2: 0.0}


def test_switching_the_drive_off_releases_the_squeezers_but_keeps_the_settings() -> None:
    bench = Bench()
    bench.ask(b"V1,1000\r\nENABLE0\r\n")

    assert bench.squeezers.voltages_v == {1: 0.0}
    assert b"CH1 +1000" in bench.ask(b"V?\r\n")


def test_power_up_restores_what_was_saved() -> None:
    bench = Bench()
    bench.ask(b"V1,1000\r\nSAVE\r\nV1,2000\r\nV2,500\r\n")

    bench.unit.power_cycle(10.0)

    assert bench.ask(b"V?\r\n", 10.1) == b""  # still booting
    assert b"CH1 +1000 CH2 +0000" in bench.ask(b"V?\r\n", 11.0)
    assert bench.squeezers.voltages_v == {1: 1.0, 2: 0.0}


def test_a_command_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()

    assert bench.ask(b"V1,4500\r\n").endswith(b"Done\r\n")
    assert [v.text for v in bench.record.violations] == [
        "voltage of channel 1 4.5 V is outside -4 to 4 V"
    ]


def test_a_voltage_that_the_unit_refuses_is_a_violation_too() -> None:
    bench = Bench()

    bench.ask(b"V1,9999\r\n")

    assert bench.record.violation_total == 1


def test_an_endless_line_is_refused_and_forgotten() -> None:
    bench = Bench()

    assert bench.ask(b"x" * 100_000).endswith(b"\r\nError!\r\n")
    assert bench.ask(b"V?\r\n").endswith(b"Done\r\n")


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    now_s = 0.0
    for piece in pieces:
        for reply in bench.unit.handle(piece, now_s):
            assert reply.after_s > 0
        now_s += 0.1
    bench.unit.reset_line(now_s)

    assert b"Done\r\n" in bench.ask(b"V?\r\n", now_s + 1)


@given(
    st.lists(
        st.from_regex(rb"(V[0-9HLZ?]{0,2},?[+-]?[0-9]{0,6}|M[A-Z?]{1,2}|[A-Z]{1,6}[0-9?]?)\r\n"),
        max_size=20,
    )
)
def test_no_voltage_beyond_full_scale_reaches_a_squeezer(lines: list[bytes]) -> None:
    bench = Bench()
    for n, line in enumerate(lines):
        bench.unit.handle(line, float(n))

    assert all(abs(voltage_v) <= 5 for voltage_v in bench.squeezers.voltages_v.values())
