import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.osw import Osw, OswSettings
from sim.record import REJECTED, Record


class Bench:
    def __init__(self) -> None:
        self.record = Record()
        self.unit = Osw("osw", self.record, OswSettings(move_s=0.5))

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))


@pytest.mark.parametrize(
    ("question", "answer"),
    [(b"S?\n", b"1\r\n"), (b"I?\n", b"OSW22-1310E v1.2\r\n"), (b"T?\n", b"3\r\n")],
)
def test_questions_are_answered(question: bytes, answer: bytes) -> None:
    assert Bench().ask(question) == answer


def test_a_path_is_chosen_without_a_word_and_made_after_a_while() -> None:
    bench = Bench()

    assert bench.ask(b"S 2\n") == b""
    assert bench.ask(b"S?\n", 0.4) == b"1\r\n"
    assert bench.ask(b"S?\n", 0.5) == b"2\r\n"
    assert bench.unit.outputs(0.5) == {"path": "2"}


@pytest.mark.parametrize("line", [b"S 3\n", b"S\n", b"s?\n", b"\n", b"S 1 2\n", b"X?\n"])
def test_what_it_does_not_understand_is_answered_with_nothing(line: bytes) -> None:
    bench = Bench()

    assert bench.ask(line) == b""
    assert bench.record.totals["osw", REJECTED] == 1


def test_a_power_cycle_ends_in_bar() -> None:
    bench = Bench()
    bench.ask(b"S 2\n")

    bench.unit.power_cycle(1.0)

    assert bench.ask(b"S?\n", 1.1) == b""  # still booting
    assert bench.ask(b"S?\n", 2.0) == b"1\r\n"


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.ask(piece)
    bench.unit.reset_line(1.0)

    assert bench.ask(b"S?\n", 1.0) in (b"1\r\n", b"2\r\n")
