import numpy as np
import pytest
from numpy.typing import NDArray

from sim.instruments.spd import Spd, SpdSettings
from sim.record import REJECTED, Record


class Detectors:
    def counts(self, start_s: float, duration_s: float) -> NDArray[np.int64]:
        return np.array([10, 20, 30, 40])


class Bench:
    def __init__(self, settings: SpdSettings | None = None) -> None:
        self.record = Record()
        self.unit = Spd("spd", Detectors(), self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))

    def until(self, now_s: float) -> bytes:
        """Let everything happen that is due by a time."""
        said = b""
        while (due_s := self.unit.due_s()) is not None and due_s <= now_s:
            said += b"".join(reply.data for reply in self.unit.tick(due_s))
        return said


@pytest.mark.parametrize(
    ("command", "question", "answer"),
    [
        (b"hvolt 141.25", b"hvolt?", b"141.2"),
        (b"threshvolt 0.1234", b"threshvolt?", b"0.123"),
        (b"settemp -30", b"settemp?", b"-30.0"),
        (b"loop 0", b"loop?", b"0"),
        (b"time 250", b"time?", b"250"),
        (b"constp 0.2", b"constp?", b"0.200"),
        (b"consti 0.02", b"consti?", b"0.020"),
        (b"pvolt 1.5", b"pvolt?", b"1.50"),
        (b"delay 12", b"delay?", b"12"),
    ],
)
def test_what_is_set_reads_back_and_says_nothing(
    command: bytes, question: bytes, answer: bytes
) -> None:
    bench = Bench()
    assert bench.ask(command + b"\r\n") == b""
    assert bench.ask(question + b"\r\n") == answer + b"\r\n"


@pytest.mark.parametrize(
    "command", [b"hvolt 301", b"hvolt x", b"hvolt nan", b"loop 2", b"time 0", b"what", b"what?"]
)
def test_what_it_does_not_take_is_ignored_without_a_word(command: bytes) -> None:
    bench = Bench()
    assert bench.ask(command + b"\r\n") == b""
    assert bench.record.totals["spd", REJECTED] == 1
    assert bench.ask(b"hvolt?\r\n") == b"150.0\r\n"


def test_its_count_is_that_of_its_own_detector_when_the_window_is_over() -> None:
    bench = Bench(SpdSettings(detector=3))
    bench.ask(b"time 250;counts?\r\n", now_s=1.0)
    assert bench.until(1.24) == b""
    assert bench.until(1.25) == b"30\r\n"


def test_what_it_hears_while_it_counts_it_obeys_afterwards() -> None:
    bench = Bench()
    assert bench.ask(b"counts?;counts?;loop?\r\n") == b""
    assert bench.until(1.0) == b"10\r\n"
    assert bench.until(2.0) == b"10\r\n1\r\n"


@pytest.mark.parametrize("command", [b"hvolt 100", b"threshvolt 0.6"])
def test_without_bias_or_above_its_pulses_it_counts_nothing(command: bytes) -> None:
    bench = Bench()
    bench.ask(command + b";counts?\r\n")
    assert bench.until(1.0) == b"0\r\n"


def test_the_diode_takes_its_time_to_cool_and_to_warm_up() -> None:
    bench = Bench()
    assert bench.ask(b"temp?\r\n", now_s=10.0) == b"12.00\r\n"
    assert bench.ask(b"temp?;loop 0\r\n", now_s=100.0) == b"-20.00\r\n"
    assert bench.ask(b"temp?\r\n", now_s=110.0) == b"-10.00\r\n"
    assert bench.ask(b"temp?\r\n", now_s=200.0) == b"22.00\r\n"


def test_after_a_power_cycle_it_is_deaf_and_then_as_it_was_saved() -> None:
    bench = Bench()
    bench.ask(b"hvolt 120;save;hvolt 90;loop 0;counts?\r\n")
    bench.unit.power_cycle(0.5)
    assert bench.until(2.0) == b""
    assert bench.ask(b"hvolt?\r\n", now_s=0.6) == b""
    assert bench.ask(b"hvolt?;loop?\r\n", now_s=1.0) == b"120.0\r\n1\r\n"
