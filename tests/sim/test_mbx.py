import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.mbx import Mbx, MbxSettings
from sim.record import REJECTED, Limits, Record
from sim.voa import AttenuatorModel


class Bench:
    def __init__(self, settings: MbxSettings | None = None) -> None:
        self.optics = AttenuatorModel()
        self.record = Record({("mbx", "bias"): Limits(-5, 5)})
        self.unit = Mbx("mbx", self.optics, self.record, settings)

    def ask(self, text: str, now_s: float = 0.0) -> str:
        replies = self.unit.handle(text.encode() + b"\r", now_s)
        return b"".join(reply.data for reply in replies).decode().strip()


def test_some_sets_are_answered_and_others_are_not() -> None:
    bench = Bench()
    answers = [
        bench.ask(command)
        for command in ("VOA:MODE: 0", "MZM:RESET", "VOA:ATTEN: 5", "VOA:POWER: 1", "MZM:MODE: 3")
    ]
    assert answers == ["1", "1", "", "", ""]


def test_later_firmware_answers_all_sets() -> None:
    bench = Bench(MbxSettings(answers_all=True))
    assert [bench.ask(command) for command in ("VOA:ATTEN: 5", "MZM:HOLD:VOLTAGE: 1")] == ["1", "1"]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("*IDN?", "THORLABS,MBX3,M00512345,1.9.5"),
        ("MZM:MODE?", "7"),
        ("MZM:HOLD:VOLTAGE?", "0"),
        ("MZM:HOLD:RATIO?", "500"),
        ("VOA:POWER?", "0"),
        ("VOA:ATTEN?", "20.00"),
        ("voa:attenuation?", "Err: Undefined header"),
        ("VOA:ATT?", "20.00"),
        ("voa:set?", "0"),
    ],
)
def test_questions_are_answered_in_short_and_long_form(question: str, answer: str) -> None:
    assert Bench().ask(question) == answer


def test_a_bias_is_set_in_millivolts_and_measured_in_volts() -> None:
    bench = Bench()
    bench.ask("MZM:HOLD:VOLTAGE: 2500")
    assert (bench.ask("MZM:HOLD:VOLTAGE?"), bench.ask("MZM:VOLTAGE?")) == ("2500", "2.50")


@pytest.mark.parametrize(
    ("command", "error"),
    [
        ("MZM:HOLD:VOLTAGE: 10001", "Parameter error"),
        ("MZM:HOLD:VOLTAGE: 1.5", "Data type error"),
        ("VOA:ATTEN: 0.4", "Parameter error"),
        ("VOA:ATTEN: much", "Numeric data error"),
        ("MZM:MODE: 10", "Parameter error"),
        ("LASER:POWER: 1", "Undefined header"),
        ("nonsense", "Undefined header"),
    ],
)
def test_what_is_wrong_is_answered_with_an_error_and_changes_nothing(
    command: str, error: str
) -> None:
    bench = Bench()
    before = bench.unit.outputs(1.0)
    assert bench.ask(command) == f"Err: {error}"
    assert bench.record.totals["mbx", REJECTED] == 1
    assert bench.unit.outputs(1.0) == before


def test_a_voa_that_is_off_attenuates_least() -> None:
    bench = Bench()
    bench.ask("VOA:ATTEN: 12\rVOA:POWER: 1")
    assert bench.unit.outputs(1.0)["attenuation"] == 12.0
    bench.ask("VOA:POWER: 0", 1.0)
    assert bench.unit.outputs(2.0)["attenuation"] == 0.0


def test_constant_power_chooses_the_attenuation_by_itself() -> None:
    bench = Bench(MbxSettings(input_power_mw=10.0))
    bench.ask("VOA:POWER: 1\rVOA:OUTPUT:MW: 1\rVOA:MODE: 1")
    assert bench.unit.outputs(1.0)["attenuation"] == pytest.approx(10.0)


def test_the_set_point_is_reached_only_with_light() -> None:
    settled = []
    for has_light in (True, False):
        bench = Bench(MbxSettings(has_light=has_light))
        bench.ask("VOA:POWER: 1")
        settled.append(bench.ask("VOA:SETPOINT?", 1.0))
    assert settled == ["1", "0"]


def test_a_lock_comes_after_calibration_and_some_time() -> None:
    bench = Bench(MbxSettings(calibration_s=4.0, lock_s=2.0))
    bench.ask("MZM:MODE: 4")
    states = [
        (bench.ask("MZM:CALIBRATING?", now_s), bench.ask("MZM:SETPOINT?", now_s))
        for now_s in (1.0, 5.0, 6.0)
    ]
    assert states == [("1", "0"), ("0", "0"), ("0", "1")]
    assert bench.unit.outputs(6.0)["bias"] == -1.7


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_replies_end_as_the_unit_does_it(end: bytes) -> None:
    unit = Mbx("mbx", AttenuatorModel(), Record(), MbxSettings(reply_end=end))
    (reply,) = unit.handle(b"VOA:MODE?\n", 0.0)
    assert reply.data == b"0" + end


def test_power_up_holds_zero_volts_with_the_voa_off() -> None:
    bench = Bench()
    bench.ask("MZM:HOLD:VOLTAGE: 3000\rVOA:ATTEN: 3\rVOA:POWER: 1")
    bench.unit.power_cycle(10.0)

    assert bench.ask("*IDN?", 10.1) == ""
    outputs = bench.unit.outputs(11.0)
    assert (outputs["bias"], outputs["mode"], outputs["attenuation"]) == (0.0, "7", 0.0)


def test_a_bias_outside_the_bench_limits_is_a_violation_though_the_unit_takes_it() -> None:
    bench = Bench()
    assert bench.ask("MZM:HOLD:VOLTAGE: 6000") == ""
    assert bench.record.violation_total == 1


@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for n, piece in enumerate(pieces):
        bench.unit.handle(piece, float(n))
    bench.unit.reset_line(100.0)
    assert "MBX3" in bench.ask("*IDN?", 100.0)
