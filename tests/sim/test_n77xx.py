import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.instruments.n77xx import N77xx, N77xxSettings
from sim.record import REJECTED, Limits, Record
from sim.voa import AttenuatorModel


class Bench:
    def __init__(self, settings: N77xxSettings | None = None) -> None:
        unit = settings or N77xxSettings()
        self.attenuators = {slot: AttenuatorModel() for slot in unit.slots}
        self.record = Record({("voa", "attenuation"): Limits(10, 45)})
        self.unit = N77xx("voa", self.attenuators, self.record, settings)

    def ask(self, text: str, now_s: float = 0.0) -> str:
        replies = self.unit.handle(text.encode() + b"\n", now_s)
        return b"".join(reply.data for reply in replies).decode()


def test_it_says_who_it_is() -> None:
    assert Bench().ask("*IDN?") == "Keysight Technologies,N7764A,MY49000123,1.18.2764\n"


def test_older_firmware_names_the_older_company() -> None:
    bench = Bench(N77xxSettings(manufacturer="Agilent Technologies"))

    assert bench.ask("*idn?").startswith("Agilent Technologies,")


@pytest.mark.parametrize(
    ("model", "slots"),
    [
        ("N7761A", "N7761A, \n"),
        ("N7762A", "N7762A, ,N7762A, \n"),
        ("N7764A", "N7764A, ,N7764A, ,N7764A, ,N7764A, \n"),
    ],
)
def test_every_other_slot_is_empty(model: str, slots: str) -> None:
    assert Bench(N77xxSettings(model=model)).ask("*OPT?") == slots


@pytest.mark.parametrize(
    "command",
    [
        ":INP1:ATT 12.34dB",
        "inp1:att 12.34",
        ":INPUT1:CHANNEL1:ATTENUATION 12.34 DB",
        "INP:ATT 1.234e1",
        ":Inp1:Chan1:Att 12.34db",
    ],
)
def test_attenuation_is_set_in_any_spelling_and_reads_back_in_one(command: str) -> None:
    bench = Bench()

    assert bench.ask(command) == ""
    assert bench.ask(":INP1:ATT?", 1.0) == "+1.23400000E+001\n"
    assert bench.ask(":SYST:ERR?") == '+0,"No error"\n'


def test_several_commands_in_one_line_answer_together() -> None:
    bench = Bench()

    assert bench.ask(":INP1:ATT 20;*OPC?;OFFS 1;:SYST:ERR?", 0.0) == '0;+0,"No error"\n'
    assert bench.ask("INP1:OFFS?;:OUTP1:STAT?") == "+1.00000000E+000;0\n"


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (":INP1:ATT 45.1", '-222,"Data out of range"'),
        (":INP1:ATT -0.1", '-222,"Data out of range"'),
        (":INP1:ATT", '-109,"Missing parameter"'),
        (":INP1:ATT x", '-224,"Illegal parameter value"'),
        (":INP1:ATT nan", '-224,"Illegal parameter value"'),
        (":INP1:ATT 3 W", '-224,"Illegal parameter value"'),
        (":INP2:ATT 3", '-241,"Hardware missing"'),
        (":INP9:ATT 3", '-114,"Header suffix out of range"'),
        (":INP1:CHAN2:ATT 3", '-114,"Header suffix out of range"'),
        (":INPU1:ATT 3", '-113,"Undefined header"'),
        (":OUTP1:STAT 2", '-224,"Illegal parameter value"'),
        (":INP1:WAV 1200NM", '-222,"Data out of range"'),
        (":INP1:ATT:SPE 500", '-222,"Data out of range"'),
    ],
)
def test_a_refused_command_is_queued_as_an_error(command: str, error: str) -> None:
    bench = Bench()

    assert bench.ask(command) == ""
    assert bench.ask(":SYST:ERR?") == error + "\n"
    assert bench.ask(":SYST:ERR?") == '+0,"No error"\n'
    assert bench.record.totals["voa", REJECTED] == 1


def test_the_thirtieth_error_overflows_the_queue() -> None:
    bench = Bench()
    for _ in range(40):
        bench.ask("NONSENSE")

    errors = [bench.ask(":SYST:ERR?") for _ in range(31)]

    assert errors[28] == '-113,"Undefined header"\n'
    assert errors[29:] == ['-350,"Queue overflow"\n', '+0,"No error"\n']


def test_operation_complete_does_not_block() -> None:
    bench = Bench()
    bench.ask(":INP1:ATT:SPE 10;:INP1:ATT 20", 0.0)

    assert bench.ask("*OPC?", 1.0) == "0\n"
    assert bench.ask("SLOT1:OPC?;:SLOT3:OPC?", 1.0) == "0;1\n"
    assert bench.ask("*OPC?", 2.01) == "1\n"


def test_a_moving_filter_reads_where_it_is() -> None:
    bench = Bench()
    bench.ask(":INP1:ATT:SPE 10;:INP1:ATT 20", 0.0)

    assert bench.ask(":INP1:ATT?", 0.5) == "+5.00000000E+000\n"


def test_the_shutter_opens_at_the_set_speed_and_shuts_at_once() -> None:
    bench = Bench()
    bench.ask(":INP1:ATT:SPE 10;:OUTP1:STAT 1", 0.0)

    assert bench.ask(":OUTP1:STAT?;*OPC?", 1.0) == "1;0\n"
    assert bench.ask(":OUTP1:STAT?;*OPC?", 5.0) == "1;1\n"
    assert 0 < bench.attenuators[1].transmission(1.0) < bench.attenuators[1].transmission(5.0)
    assert bench.ask(":OUTP1:STAT OFF;STAT?;*OPC?", 6.0) == "0;1\n"


def test_the_shown_attenuation_includes_the_offset() -> None:
    bench = Bench()
    bench.ask(":INP1:OFFS 5;ATT 25", 0.0)

    assert bench.attenuators[1].actual_db(1.0) == 20
    assert bench.ask(":INP1:ATT?", 1.0) == "+2.50000000E+001\n"


@pytest.mark.parametrize(("word", "shown"), [("MIN", "+0"), ("MAX", "+4"), ("DEF", "+0")])
def test_extremes_have_words(word: str, shown: str) -> None:
    bench = Bench()
    bench.ask(f":INP1:ATT {word}", 0.0)

    assert bench.ask(":INP1:ATT?", 1.0).startswith(shown)


def test_wavelengths_are_in_metres_unless_a_unit_says_otherwise() -> None:
    bench = Bench()

    bench.ask(":INP1:WAV 1310NM")
    assert bench.ask(":INP1:WAV?") == "+1.31000000E-006\n"
    bench.ask(":INP1:WAV 1.55e-6")
    assert bench.ask(":INP1:WAV?") == "+1.55000000E-006\n"


def test_power_control_moves_the_filter_by_itself_and_refuses_attenuations() -> None:
    bench = Bench(N77xxSettings(input_power_dbm=5))
    bench.ask(":OUTP1:POW -10;POW:CONT 1", 0.0)

    assert bench.ask(":OUTP1:POW:CONT?;:INP1:ATT?", 1.0) == "1;+1.50000000E+001\n"
    assert bench.ask(":INP1:ATT 20;:SYST:ERR?", 1.0) == '-221,"Settings conflict"\n'
    assert bench.ask(":OUTP1:POW:CONT 0;:INP1:ATT 20;:SYST:ERR?", 1.0) == '+0,"No error"\n'


def test_preset_shuts_and_restores_defaults() -> None:
    bench = Bench()
    bench.ask(":INP1:ATT 20;OFFS 3;:OUTP1:STAT 1;POW:CONT 1", 0.0)

    bench.ask(":SYST:PRES", 1.0)

    assert bench.ask(":OUTP1:STAT?;POW:CONT?;:INP1:OFFS?", 2.0) == "0;0;+0.00000000E+000\n"
    assert bench.ask(":INP1:ATT?", 2.0) == "+0.00000000E+000\n"


def test_zeroing_shuts_every_shutter_and_keeps_the_box_busy() -> None:
    bench = Bench()
    bench.ask(":OUTP:STAT:ALL 1", 0.0)

    bench.ask(":OUTP:CORR:COLL:ZERO", 1.0)

    assert bench.ask("*OPC?;:OUTP1:STAT?;:OUTP7:STAT?", 1.5) == "0;0;0\n"
    assert bench.ask(":STAT1:OPER:COND?", 1.5) == "8\n"
    assert bench.ask("*OPC?", 7.0) == "1\n"


def test_all_attenuators_move_together() -> None:
    bench = Bench()
    bench.ask(":INP1:ATT:ALL 30", 0.0)

    assert [each.target_db for each in bench.attenuators.values()] == [30, 30, 30, 30]


def test_status_byte_and_condition_tell_of_errors_shutter_and_offset() -> None:
    bench = Bench()
    assert bench.ask("*STB?") == "0\n"

    bench.ask("NONSENSE;:INP1:OFFS 1;:OUTP1:STAT 1;*ESE 32")

    assert bench.ask("*STB?") == "36\n"
    assert bench.ask(":INP1:OFFS?;*STB?").endswith(";52\n")
    assert bench.ask(":STAT1:OPER:COND?") == "48\n"
    assert bench.ask("*ESR?;*ESR?") == "32;0\n"
    bench.ask("*CLS")
    assert bench.ask("*STB?") == "0\n"


def test_power_up_shuts_the_light_unless_told_otherwise() -> None:
    bench = Bench()
    bench.ask(":OUTP1:STAT 1;:OUTP3:STAT:APOW 1;:INP1:ATT 20", 0.0)

    bench.unit.power_cycle(5.0)

    assert bench.ask(":OUTP1:STAT?;:OUTP3:STAT?", 6.0) == "0;1\n"
    assert bench.ask(":INP1:ATT?", 6.0) == "+0.00000000E+000\n"


def test_the_parser_starts_at_the_line_feed() -> None:
    bench = Bench()

    assert bench.unit.handle(b"*ID", 0.0) == []
    assert bench.unit.handle(b"N?\r", 0.0) == []
    assert len(bench.unit.handle(b"\n*OPC?\n", 0.0)) == 2


def test_an_endless_line_is_an_overrun() -> None:
    bench = Bench()
    bench.unit.handle(b"x" * 10_000, 0.0)

    assert bench.ask(":SYST:ERR?") == '-363,"Input buffer overrun"\n'


def test_the_record_holds_what_the_filter_was_told_in_db() -> None:
    bench = Bench()
    bench.ask(":INP1:OFFS 5;ATT 25;:OUTP3:STAT 1", 2.0)

    told = [(t.what, t.value, t.unit, t.channel) for t in bench.record.since()[1]]

    assert told == [
        ("offset", 5, "dB", 1),
        ("attenuation", 20, "dB", 1),
        ("shutter", 1, "", 3),
    ]


@pytest.mark.parametrize("command", [":INP1:ATT 9.9", ":INP1:ATT MIN", ":INP1:ATT 60"])
def test_an_attenuation_outside_the_bench_limits_is_a_violation(command: str) -> None:
    bench = Bench()

    bench.ask(command)

    assert bench.record.violation_total == 1


def test_an_unknown_model_or_slot_is_refused() -> None:
    with pytest.raises(ValueError, match="N7799A"):
        N77xxSettings(model="N7799A")
    with pytest.raises(ValueError, match="slot 2"):
        N77xxSettings(slot=2)


_HEADERS = st.sampled_from(
    ["INP1:ATT", "OUTP1:STAT", "INP:OFFS", ":INP1:ATT:SPE", "*ESE", ":OUTP1:POW:CONT", "INP3:WAV"]
)


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=200),
            st.builds(lambda h, a: f"{h} {a}\n".encode(), _HEADERS, st.text(max_size=12)),
            st.builds(lambda h, a: f"{h} {a}\n".encode(), _HEADERS, st.floats()),
        ),
        max_size=30,
    )
)
def test_no_bytes_upset_it(pieces: list[bytes]) -> None:
    bench = Bench()
    for n, piece in enumerate(pieces):
        bench.unit.handle(piece, 0.1 * n)
    bench.unit.reset_line(99.0)

    assert bench.ask("*IDN?", 100.0).startswith("Keysight")
    assert 0 <= bench.attenuators[1].actual_db(100.0) <= 45
