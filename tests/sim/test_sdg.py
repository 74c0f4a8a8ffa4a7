import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.sdg import Sdg, SdgSettings
from sim.record import REJECTED, Limits, Record


class Bench:
    def __init__(self, channel: int = 1) -> None:
        self.record = Record({("bias", "voltage"): Limits(0, 3)})
        self.unit = Sdg("bias", self.record, SdgSettings(channel=channel))

    def ask(self, line: str) -> str:
        return b"".join(r.data for r in self.unit.handle(line.encode() + b"\n", 0.0)).decode()

    @property
    def voltage_v(self) -> float | bool | str:
        return self.unit.outputs(0.0)["voltage"]


def test_it_says_who_it_is() -> None:
    said = Bench().ask("*IDN?")

    assert said == "Siglent Technologies,SDG2042X,SDG2XCAX4R0123,2.01.01.35R3B2\n"


def test_several_keys_are_set_at_once_and_the_offset_is_out_while_the_output_is_on() -> None:
    bench = Bench()
    bench.ask("C1:BSWV WVTP,DC,OFST,1.5V")
    assert bench.voltage_v == 0.0

    bench.ask("C1:OUTP ON,LOAD,50")

    assert bench.voltage_v == 1.5
    assert bench.ask("C1:OUTP?") == "C1:OUTP ON,LOAD,50,PLRT,NOR\n"


def test_an_answer_lists_the_keys_that_the_waveform_has() -> None:
    bench = Bench()
    assert "FRQ,1000HZ" in bench.ask("C1:BSWV?")

    bench.ask("C1:BSWV WVTP,DC")

    assert bench.ask("C1:BSWV?") == "C1:BSWV WVTP,DC,OFST,0V\n"


def test_a_waveform_swings_about_the_offset() -> None:
    bench = Bench()
    bench.ask("C1:BSWV WVTP,RAMP,OFST,1")
    bench.ask("C1:OUTP ON")

    assert bench.unit.outputs(0.0) == {"voltage": 1.0, "amplitude": 2.0}


def test_the_channels_are_apart() -> None:
    bench = Bench(channel=2)
    bench.ask("C2:BSWV WVTP,DC,OFST,2")
    bench.ask("C2:OUTP ON")

    assert bench.voltage_v == 2.0
    assert bench.ask("C1:OUTP?").startswith("C1:OUTP OFF")


@pytest.mark.parametrize(("load", "offset_v"), [("50", 5.001), ("HZ", 10.001)])
def test_an_offset_out_of_range_is_ignored_without_a_word(load: str, offset_v: float) -> None:
    bench = Bench()
    bench.ask(f"C1:OUTP ON,LOAD,{load}")
    bench.ask("C1:BSWV WVTP,DC,OFST,1")

    assert bench.ask(f"C1:BSWV OFST,{offset_v}") == ""

    assert bench.voltage_v == 1.0


@pytest.mark.parametrize("line", ["C3:OUTP ON", "OUTP ON", "C1:BSWV OFST,much", "NONSENSE"])
def test_what_makes_no_sense_is_noted_and_not_answered(line: str) -> None:
    bench = Bench()

    assert bench.ask(line) == ""

    assert bench.record.totals["bias", REJECTED] == 1


def test_it_comes_up_with_a_sine_wave_and_the_outputs_off() -> None:
    bench = Bench()
    bench.ask("C1:BSWV WVTP,DC,OFST,1")
    bench.ask("C1:OUTP ON")

    bench.unit.power_cycle(0.0)

    assert bench.ask("C1:OUTP?") == "C1:OUTP OFF,LOAD,HZ,PLRT,NOR\n"
    assert bench.ask("C1:BSWV?").startswith("C1:BSWV WVTP,SINE")


def test_an_offset_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    bench.ask("C1:BSWV OFST,4")

    assert [v.text for v in bench.record.violations] == ["voltage 4 V is outside 0 to 3 V"]


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for piece in pieces:
        bench.unit.handle(piece, 0.0)
    bench.unit.reset_line(0.0)

    assert bench.ask("*IDN?").startswith("Siglent")
