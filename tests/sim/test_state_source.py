import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.state_source import StateSource
from sim.record import REJECTED, Record


class Encoder:
    state = "PATTERN"

    def set_state(self, state: str, now_s: float) -> None:
        self.state = state


class Bench:
    def __init__(self) -> None:
        self.encoder = Encoder()
        self.record = Record()
        self.unit = StateSource("alice", self.encoder, self.record)

    def ask(self, data: bytes) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, 0.0))


@pytest.mark.parametrize("state", ["H", "V", "D", "A", "PATTERN"])
def test_a_set_answers_nothing_and_reads_back(state: str) -> None:
    bench = Bench()

    assert bench.ask(f"STATE {state}\n".encode()) == b""
    assert bench.ask(b"STATE?\n") == f"{state}\n".encode()
    assert bench.encoder.state == state


@pytest.mark.parametrize("state", ["R", "h", "HV"])
def test_an_unknown_state_goes_to_the_error_queue(state: str) -> None:
    bench = Bench()

    assert bench.ask(f"STATE {state}\n".encode()) == b""
    assert bench.ask(b"ERR?\nERR?\n") == b'-222,"Data out of range"\n0,"No error"\n'
    assert bench.encoder.state == "PATTERN"
    assert bench.record.totals["alice", REJECTED] == 1


def test_an_unknown_command_goes_to_the_error_queue() -> None:
    bench = Bench()

    assert bench.ask(b"LASER ON\n") == b""
    assert bench.ask(b"ERR?\n") == b'-113,"Undefined header"\n'


def test_it_says_who_it_is() -> None:
    assert Bench().ask(b"*IDN?\n") == b"Example,StateSource,0001,1.0\n"


def test_commands_may_come_in_pieces_and_end_in_crlf() -> None:
    bench = Bench()

    assert bench.ask(b"STA") + bench.ask(b"TE?\r") + bench.ask(b"\n") == b"PATTERN\n"


def test_power_up_sends_the_pattern() -> None:
    bench = Bench()
    bench.ask(b"STATE D\nnonsense\n")

    bench.unit.power_cycle(0.0)

    assert bench.encoder.state == "PATTERN"
    assert bench.ask(b"STATE?\nERR?\n") == b'PATTERN\n0,"No error"\n'


def test_a_full_queue_ends_with_overflow() -> None:
    bench = Bench()
    bench.ask(b"nonsense\n" * 15)

    errors = bench.ask(b"ERR?\n" * 11).splitlines()

    assert errors[8:] == [b'-113,"Undefined header"', b'-350,"Queue overflow"', b'0,"No error"']


@given(st.lists(st.binary(max_size=400), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.ask(piece)
    bench.unit.reset_line(0.0)

    assert bench.ask(b"*IDN?\n") == b"Example,StateSource,0001,1.0\n"
