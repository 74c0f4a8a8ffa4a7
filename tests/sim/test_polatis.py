import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.polatis import Polatis, PolatisSettings
from sim.record import REJECTED, Record


class Bench:
    def __init__(self) -> None:
        self.record = Record()
        self.unit = Polatis("oxc", self.record, PolatisSettings(ingress=2))

    def ask(self, line: str, now_s: float = 0.0) -> str:
        replies = self.unit.handle(line.encode() + b"\n", now_s)
        return b"".join(reply.data for reply in replies).decode().replace("\r\n", "")


def test_it_says_who_it_is_and_how_large() -> None:
    bench = Bench()
    assert bench.ask("*IDN?") == "Polatis,N-OST-16x16-LA1-DMHNS,002414,6.5.2.18"
    assert bench.ask(":oxc:swit:size?") == "16,16"


def test_connections_are_told_from_both_of_their_ends() -> None:
    bench = Bench()
    bench.ask(":oxc:swit:conn:add (@1),(@17)")
    bench.ask(":oxc:swit:conn:add (@2, 3),(@18,19)")

    assert bench.ask(":oxc:swit:conn:port? 2") == '"18"'
    assert bench.ask("oxc:switch:connect:port? 18") == '"2"'
    assert bench.ask(":oxc:swit:conn:port? 4") == '""'
    assert bench.ask(":oxc:swit:conn:stat?") == "(@1,2,3),(@17,18,19)"
    assert bench.unit.outputs(0.0) == {"path": "18"}


def test_a_connection_takes_both_of_its_ports_from_where_they_led() -> None:
    bench = Bench()
    bench.ask(":oxc:swit:conn:add (@1,2),(@17,18);add (@2),(@17)")

    assert bench.ask(":oxc:swit:conn:stat?") == "(@2),(@17)"


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (":oxc:swit:conn:sub (@1),(@17)", "(@2),(@18)"),
        (":oxc:swit:conn:sub (@1),(@18)", "(@1,2),(@17,18)"),
        (":oxc:swit:conn:sub (@2),(@)", "(@1),(@17)"),
        (":oxc:swit:disc:all", "(@),(@)"),
        (":oxc:swit:conn:only (@5),(@20)", "(@5),(@20)"),
    ],
)
def test_connections_are_taken_away(command: str, left: str) -> None:
    bench = Bench()
    bench.ask(":oxc:swit:conn:add (@1,2),(@17,18)")

    assert bench.ask(command) == ""
    assert bench.ask(":oxc:swit:conn:stat?") == left


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (":oxc:swit:conn:add (@1),(@16)", '-222,"Data out of range"'),
        (":oxc:swit:conn:add (@17),(@18)", '-222,"Data out of range"'),
        (":oxc:swit:conn:add (@1,2),(@17)", '-109,"Missing parameter"'),
        (":oxc:swit:conn:add 1,17", '-109,"Missing parameter"'),
        (":oxc:swit:conn:port? 33", '-222,"Data out of range"'),
        (":oxc:swit:conn:swap (@1),(@17)", '-113,"Undefined header"'),
    ],
)
def test_a_refused_command_ends_in_the_error_queue(command: str, error: str) -> None:
    bench = Bench()

    assert bench.ask(command) == ""
    assert bench.ask(":syst:err:all?") == error
    assert bench.ask(":syst:err:all?") == '0,"No error"'
    assert bench.ask(":oxc:swit:conn:stat?") == "(@),(@)"
    assert bench.record.totals["oxc", REJECTED] == 1


def test_completion_is_told_when_the_mirrors_stand() -> None:
    (reply,) = Bench().unit.handle(b":oxc:swit:conn:add (@1),(@17);*OPC?\n", 0.0)

    assert reply.data == b"1\r\n"
    assert reply.after_s == pytest.approx(0.025)


def test_a_power_cycle_ends_without_connections() -> None:
    bench = Bench()
    bench.ask(":oxc:swit:conn:add (@2),(@17)")

    bench.unit.power_cycle(1.0)

    assert bench.ask("*IDN?", 1.1) == ""  # still booting
    assert bench.ask(":oxc:swit:conn:stat?", 2.0) == "(@),(@)"


def test_an_endless_line_is_refused_and_forgotten() -> None:
    bench = Bench()
    bench.unit.handle(b"x" * 10_000, 0.0)

    assert bench.ask(":syst:err:all?") == '-363,"Input buffer overrun"'


@given(st.lists(st.binary(max_size=80), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.unit.handle(piece, 0.0)
    bench.unit.reset_line(1.0)

    assert bench.ask("*IDN?", 1.0).startswith("Polatis")


@given(st.lists(st.tuples(st.integers(1, 16), st.integers(17, 32)), max_size=20))
def test_no_port_has_two_connections(connections: list[tuple[int, int]]) -> None:
    bench = Bench()
    for n_in, n_out in connections:
        bench.ask(f":oxc:swit:conn:add (@{n_in}),(@{n_out})")
    for n_in, n_out in connections[-1:]:
        assert bench.ask(f":oxc:swit:conn:port? {n_in}") == f'"{n_out}"'

    egress = bench.ask(":oxc:swit:conn:stat?").split("),(@")[1].strip(")").split(",")
    assert len(set(egress)) == len(egress)
