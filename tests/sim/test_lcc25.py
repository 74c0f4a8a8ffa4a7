import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.lcc25 import Lcc25, Lcc25Settings
from sim.record import REJECTED, Limits, Record


class Bench:
    def __init__(self, settings: Lcc25Settings | None = None) -> None:
        self.record = Record({("lcc", "voltage"): Limits(0, 20)})
        self.unit = Lcc25("lcc", self.record, settings)

    def ask(self, data: bytes, now_s: float = 0.0) -> bytes:
        return b"".join(reply.data for reply in self.unit.handle(data, now_s))


def test_the_prompt_stands_before_the_next_echo() -> None:
    said = Bench().ask(b"freq=20\rfreq?\rfreq=10.0\r")
    assert said == b"freq=20\r> freq?\r20.000\r> freq=10.0\r> "


def test_voltages_read_back_with_three_decimals() -> None:
    bench = Bench()
    bench.ask(b"volt1=10.5\rvolt2=3.2104\r")
    assert bench.ask(b"volt1?\rvolt2?\r") == b"volt1?\r10.500\r> volt2?\r3.210\r> "


@pytest.mark.parametrize(
    "command", [b"volt1=25.001", b"volt2=-1", b"freq=4", b"mode=3", b"mode=1.5", b"enable=2"]
)
def test_a_value_out_of_range_changes_nothing(command: bytes) -> None:
    bench = Bench()
    before = bench.unit.outputs(0.0)
    said = bench.ask(command + b"\r")
    assert said == command + b"\rCommand error CMD_ARG_RANGE_ERR\n\r> "
    assert bench.unit.outputs(0.0) == before
    assert bench.record.totals["lcc", REJECTED] == 1


@pytest.mark.parametrize("command", [b"", b"volt3?", b"VOLT1?", b"volt1=", b"volt1=ten"])
def test_what_is_no_command_is_not_defined(command: bytes) -> None:
    said = Bench().ask(command + b"\r")
    assert said == command + b"\rCommand error CMD_NOT_DEFINED\n\r> "


def test_the_mode_says_which_voltage_is_out() -> None:
    bench = Bench()
    seen = []
    for mode in (b"0", b"1", b"2"):
        bench.ask(b"mode=" + mode + b"\r")
        seen.append(bench.unit.outputs(0.0)["out"])
    assert seen == ["both", "volt1", "volt2"]


def test_it_comes_up_with_the_output_off() -> None:
    bench = Bench()
    bench.ask(b"volt1=5\rmode=1\renable=1\r")
    assert bench.unit.outputs(0.0)["is on"] is True

    bench.unit.power_cycle(10.0)

    assert bench.ask(b"enable?\r", 10.1) == b""
    assert bench.ask(b"enable?\rmode?\r", 11.0) == b"enable?\r0\r> mode?\r0\r> "


def test_a_voltage_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    bench.ask(b"volt2=24\r")
    assert [each.text for each in bench.record.violations] == [
        "voltage of channel 2 24 V is outside 0 to 20 V"
    ]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for n, piece in enumerate(pieces):
        bench.unit.handle(piece, float(n))
    bench.unit.reset_line(100.0)
    assert b"LCC25" in bench.ask(b"*idn?\r", 100.0)


class Cells:
    """Remembers what its cells were told last."""

    def __init__(self) -> None:
        self.told: dict[int, float] = {}

    def set_voltage(self, cell: int, voltage_v: float, now_s: float) -> None:
        self.told[cell] = voltage_v


@pytest.mark.parametrize(
    ("said", "voltage_v"),
    [
        (b"volt1=3\rvolt2=4\rmode=1\r", 0.0),
        (b"volt1=3\rvolt2=4\rmode=1\renable=1\r", 3.0),
        (b"volt1=3\rvolt2=4\rmode=2\renable=1\r", 4.0),
        (b"volt1=3\rvolt2=4\rmode=0\renable=1\r", 12.5**0.5),
        (b"volt1=3\rmode=1\renable=1\renable=0\r", 0.0),
    ],
    ids=["off", "one", "two", "both", "off again"],
)
def test_its_cell_follows_what_is_out(said: bytes, voltage_v: float) -> None:
    cells = Cells()
    unit = Lcc25("lcc", Record({}), Lcc25Settings(cell=2), cells)

    for line in said.split(b"\r")[:-1]:
        unit.handle(line + b"\r", 0.0)

    assert cells.told == {2: pytest.approx(voltage_v)}
