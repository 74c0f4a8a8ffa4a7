import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.sim928 import Sim900, Sim928Settings
from sim.record import REJECTED, Limits, Record

LATER_S = 0.1


class Bench:
    def __init__(self) -> None:
        self.record = Record({("bias", "voltage"): Limits(0, 5)})
        self.unit = Sim900("bias", self.record, Sim928Settings(slot=3))

    def ask(self, line: str, now_s: float = 0.0) -> str:
        return b"".join(r.data for r in self.unit.handle(line.encode() + b"\n", now_s)).decode()

    def pass_on(self, text: str) -> str:
        """Say something to the module; return what waits for the client afterwards."""
        self.ask(f'SNDT 3,"{text}"')
        return self.ask("GETN? 3,80", LATER_S)


def test_the_mainframe_says_who_it_is_and_where_its_module_is() -> None:
    bench = Bench()

    assert bench.ask("*IDN?").startswith("Stanford_Research_Systems,SIM900")
    assert bench.ask("CTCR?") == "8\n"


def test_the_module_answers_into_a_buffer_that_is_fetched_as_a_block() -> None:
    bench = Bench()

    assert bench.ask('SNDT 3,"VOLT?"') == ""

    assert bench.ask("GETN? 3,80", 0.01) == "#3000\n"
    assert bench.ask("GETN? 3,80", LATER_S) == "#3007+0.000\n\n"
    assert bench.ask("GETN? 3,80", LATER_S) == "#3000\n"


def test_a_long_answer_is_fetched_in_parts() -> None:
    bench = Bench()
    bench.ask('SNDT 3,"VOLT?"')

    assert bench.ask("GETN? 3,4", LATER_S) == "#3004+0.0\n"
    assert bench.ask("GETN? 3,80", LATER_S) == "#300300\n\n"


def test_a_flush_empties_the_buffer() -> None:
    bench = Bench()
    bench.ask('SNDT 3,"VOLT?"')

    bench.ask("FLSH 3", LATER_S)

    assert bench.ask("GETN? 3,80", LATER_S) == "#3000\n"


def test_a_voltage_is_at_the_terminals_while_the_output_is_on() -> None:
    bench = Bench()
    bench.pass_on("VOLT 1.5")
    assert bench.unit.outputs(0.0) == {"voltage": 0.0}

    bench.pass_on("OPON")

    assert bench.unit.outputs(0.0) == {"voltage": 1.5}
    assert bench.pass_on("VOLT?") == "#3007+1.500\n\n"
    assert bench.pass_on("EXON?") == "#30021\n\n"


@pytest.mark.parametrize(
    ("command", "question", "code"),
    [("VOLT 20.5", "LEXE?", "1"), ("VOLT much", "LEXE?", "1"), ("CURR 1", "LCME?", "2")],
)
def test_an_error_is_told_once_and_changes_nothing(command: str, question: str, code: str) -> None:
    bench = Bench()
    bench.pass_on("VOLT 2")
    bench.pass_on("OPON")

    bench.pass_on(command)

    assert bench.pass_on(question) == f"#3002{code}\n\n"
    assert bench.pass_on(question) == "#30020\n\n"
    assert bench.unit.outputs(0.0) == {"voltage": 2.0}
    assert bench.record.totals["bias", REJECTED] == 1


def test_an_empty_slot_hears_nothing_and_has_nothing() -> None:
    bench = Bench()
    bench.ask('SNDT 1,"VOLT 1"')
    bench.pass_on("OPON")

    assert bench.unit.outputs(0.0) == {"voltage": 0.0}
    assert bench.ask("GETN? 1,80", LATER_S) == "#3000\n"


def test_it_comes_up_with_the_output_off_and_nothing_to_fetch() -> None:
    bench = Bench()
    bench.pass_on("VOLT 1")
    bench.pass_on("OPON")
    bench.ask('SNDT 3,"VOLT?"')

    bench.unit.power_cycle(0.0)

    assert bench.unit.outputs(0.0) == {"voltage": 0.0}
    assert bench.ask("GETN? 3,80", LATER_S) == "#3000\n"


def test_a_voltage_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    bench.pass_on("VOLT 6")

    assert [v.text for v in bench.record.violations] == ["voltage 6 V is outside 0 to 5 V"]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.unit.handle(piece, 0.0)
    bench.unit.reset_line(0.0)

    assert bench.ask("CTCR?") == "8\n"
