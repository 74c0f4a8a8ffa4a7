import numpy as np
import pytest
from numpy.typing import NDArray

from sim.instruments.tdc1 import Tdc1, Tdc1Settings
from sim.instruments.tdc1_stream import words
from sim.record import REJECTED, Record


class Detectors:
    """Always the same counts, and clicks at given times."""

    def __init__(self, clicks_ps: dict[int, list[float]] | None = None) -> None:
        self.clicks_ps = clicks_ps or {}

    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        return np.array([10, 20, 30, 40])

    def arrivals(self, start_s: float, duration_s: float) -> dict[int, NDArray[np.float64]]:
        """Clicks at given times since the bench started."""
        begin_ps, end_ps = start_s * 1e12, (start_s + duration_s) * 1e12
        return {
            n: np.array([t - begin_ps for t in times if begin_ps <= t < end_ps])
            for n, times in self.clicks_ps.items()
        }


class Bench:
    def __init__(
        self,
        settings: Tdc1Settings | None = None,
        clicks_ps: dict[int, list[float]] | None = None,
    ) -> None:
        self.record = Record()
        self.unit = Tdc1("tdc", Detectors(clicks_ps), self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))

    def until(self, now_s: float) -> bytes:
        """Let everything happen that is due by a time."""
        said = b""
        while (due_s := self.unit.due_s()) is not None and due_s <= now_s:
            said += b"".join(reply.data for reply in self.unit.tick(due_s))
        return said


def test_the_worked_example_of_the_format() -> None:
    assert words({2: np.array([1000e3])}, 0.0, 2e6) == bytes.fromhex("82 3E 00 00")


def test_clicks_of_one_unit_of_time_share_a_word() -> None:
    assert words({1: np.array([4500.0]), 3: np.array([5900.0])}, 0.0, 1e4) == b"\x45\x00\x00\x00"


def test_a_dummy_event_comes_at_every_half_rollover() -> None:
    half_ps = (1 << 26) * 2000
    found = np.frombuffer(words({}, 0.0, 4.5 * half_ps), "<u4")
    assert [hex(each) for each in found] == ["0x80000010", "0x10", "0x80000010", "0x10"]


@pytest.mark.parametrize("end", [b"\r\n", b"\n", b";"])
def test_a_command_ends_in_any_of_three_ways(end: bytes) -> None:
    assert Bench().ask(b"mode?" + end) == b"0\r\n"


def test_commands_are_joined_and_case_does_not_matter() -> None:
    assert Bench().ask(b"PAIRS;Mode?;ABORT;mODE?\r\n") == b"1\r\n1\r\n"


def test_half_a_command_waits_for_its_end() -> None:
    bench = Bench()
    assert bench.ask(b"mo") == b""
    assert bench.ask(b"de?\r") == b""
    assert bench.ask(b"\n") == b"0\r\n"


@pytest.mark.parametrize(
    ("command", "answer"),
    [(b"time 32767", b"32767"), (b"time 32768", b"-32768"), (b"time 65535", b"-1")],
)
def test_the_integration_time_is_answered_signed(command: bytes, answer: bytes) -> None:
    assert Bench().ask(command + b";time?\r\n") == answer + b"\r\n"


@pytest.mark.parametrize(
    ("command", "answer"),
    [
        (b"NIM", b"-0.500 V"),
        (b"TTL", b"1.400 V"),
        (b"POS 0.25", b"0.250 V"),
        (b"NEG -1.2", b"-1.200 V"),
        (b"NEG 1.2", b"-0.500 V"),
        (b"POS 3.4", b"-0.500 V"),
        (b"POS x", b"-0.500 V"),
    ],
)
def test_the_threshold_is_answered_with_its_unit(command: bytes, answer: bytes) -> None:
    assert Bench().ask(command + b";level?\r\n") == answer + b"\r\n"


@pytest.mark.parametrize("command", [b"time 65536", b"REFCLK 3", b"what", b"POS 3.4"])
def test_what_it_does_not_take_is_ignored_without_a_word(command: bytes) -> None:
    bench = Bench()
    assert bench.ask(command + b"\r\n") == b""
    assert bench.record.totals["tdc", REJECTED] == 1


def test_counts_come_when_the_window_is_over() -> None:
    bench = Bench()
    assert bench.ask(b"time 250;counts?\r\n", now_s=1.0) == b""
    assert bench.until(1.24) == b""
    assert bench.until(1.25) == b"10 20 30 40\r\n"


def test_pairs_are_eight_numbers() -> None:
    bench = Bench()
    bench.ask(b"pairs;counts?\r\n")
    assert len(bench.until(1.0).split()) == 8


def test_what_it_hears_while_it_counts_it_obeys_afterwards() -> None:
    bench = Bench()
    assert bench.ask(b"counts?;mode?\r\n") == b""
    assert bench.until(1.0) == b"10 20 30 40\r\n0\r\n"


def test_some_units_answer_while_they_count() -> None:
    bench = Bench(Tdc1Settings(hears_while_counting=True))
    assert bench.ask(b"counts?;abort;mode?\r\n") == b"0\r\n"
    assert bench.until(1.0) == b"10 20 30 40\r\n"


def test_a_window_asked_for_later_may_end_earlier() -> None:
    bench = Bench(Tdc1Settings(hears_while_counting=True))
    bench.ask(b"counts?;time 10;counts?\r\n")
    assert bench.until(0.5) == b"10 20 30 40\r\n"
    assert bench.until(1.0) == b"10 20 30 40\r\n"


def test_pulses_below_the_threshold_are_not_seen() -> None:
    bench = Bench()
    bench.ask(b"NEG -1.0;counts?\r\n")
    assert bench.until(1.0) == b"0 0 0 0\r\n"


def test_a_packet_that_is_not_full_waits_to_be_asked_for() -> None:
    bench = Bench(clicks_ps={2: [1e6]})
    bench.ask(b"time 0;timestamp;counts?\r\n")
    assert bench.until(0.1) == b""
    assert bench.ask(b"INPKT\r\n", now_s=0.1) == bytes.fromhex("82 3E 00 00")


def test_a_full_packet_comes_by_itself() -> None:
    bench = Bench(clicks_ps={1: [1e5 * n for n in range(200)]})
    bench.ask(b"time 0;timestamp;counts?\r\n")
    assert len(bench.until(0.1)) == 512


def test_abort_hands_over_the_rest_and_ends_the_stream() -> None:
    bench = Bench(clicks_ps={1: [1e6], 4: [2e9]})
    bench.ask(b"time 0;timestamp;counts?\r\n")
    assert len(bench.ask(b"abort\r\n", now_s=0.01)) == 8
    assert bench.until(10.0) == b""
    assert bench.unit.outputs(10.0)["streams"] is False


def test_a_stream_of_given_length_ends_by_itself() -> None:
    bench = Bench(clicks_ps={1: [1e6, 19e9, 21e9]})
    bench.ask(b"time 20;timestamp;counts?\r\n")
    assert len(bench.until(1.0)) == 8
    assert bench.unit.outputs(1.0)["streams"] is False


def test_two_bytes_go_missing_where_told_to() -> None:
    bench = Bench(Tdc1Settings(slip_after=6), clicks_ps={1: [1e5 * n for n in range(200)]})
    whole = Bench(clicks_ps={1: [1e5 * n for n in range(200)]})
    for each in (bench, whole):
        each.ask(b"time 5;timestamp;counts?\r\n")
    said = whole.until(1.0)
    assert bench.until(1.0) == said[:6] + said[8:]


def test_more_tags_than_it_can_hand_over_are_lost_and_the_status_says_so() -> None:
    bench = Bench(Tdc1Settings(most_hz=20_000), clicks_ps={1: [1e5 * n for n in range(200)]})
    assert bench.ask(b"status?\r\n") == b"0000 \r\n"
    bench.ask(b"time 5;timestamp;counts?\r\n")
    assert len(bench.until(1.0)) == 4 * 100
    assert bench.ask(b"status?\r\n", now_s=1.0) == b"0010 \r\n"


def test_after_a_power_cycle_it_is_deaf_and_then_as_new() -> None:
    bench = Bench()
    bench.ask(b"pairs;TTL;time 7;counts?\r\n")
    bench.unit.power_cycle(0.001)
    assert bench.until(2.0) == b""
    assert bench.ask(b"mode?\r\n", now_s=0.1) == b""
    assert bench.ask(b"mode?;level?;time?\r\n", now_s=0.4) == b"0\r\n-0.500 V\r\n1000\r\n"


def test_an_endless_line_is_given_up() -> None:
    bench = Bench()
    bench.ask(b"x" * 300)
    assert bench.ask(b"mode?\r\n") == b"0\r\n"
