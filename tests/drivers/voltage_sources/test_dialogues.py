"""The exact bytes of each voltage source, both ways."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.voltage_sources.keysight_33500b import Keysight33500, Keysight33500Options
from drivers.voltage_sources.siglent_sdg import Sdg, SdgOptions, parse_pairs
from drivers.voltage_sources.srs_sim928 import Sim928, Sim928Options
from drivers.voltage_sources.yokogawa_gs200 import Gs200, Gs200Options

Scripted = Callable[..., Any]
Script = list[tuple[bytes, Any]]
WIDE = {"min_voltage_v": -5.0, "max_voltage_v": 5.0}

GS200_OK = (b":SYST:ERR?\n", b'0,"No Error"\n')
GS200_FUNCTION: Script = [
    (b":SOUR:FUNC?\n", b"VOLT\n"),
    (b":SOUR:RANG?\n", b"1.00000E+01\n"),
]
GS200_ON: Script = [
    (b"*IDN?\n", b"YOKOGAWA,GS210,91N345678,2.02\n"),
    (b":OUTP:STAT?\n", b"1\n"),
    GS200_OK,
    (b":SOUR:FUNC?\n", b"VOLT\n"),
    (b":SOUR:RANG?\n", b"1.00000E+01\n"),
    (b":SOUR:PROT:CURR?\n", b"1.00000E-02\n"),
]

OK = (b":SYST:ERR?\n", b'+0,"No error"\n')
KEYSIGHT_DC: Script = [
    (b":OUTP1:LOAD?\n", b"9.9E+37\n"),
    (b":SOUR1:FUNC?\n", b"DC\n"),
]
KEYSIGHT_ON: Script = [
    (b"*IDN?\n", b"Agilent Technologies,33522B,MY57400123,4.00\n"),
    (b":OUTP1?\n", b"1\n"),
    OK,
    (b":OUTP1:LOAD?\n", b"9.9E+37\n"),
    (b":SOUR1:FUNC?\n", b"DC\n"),
]

SDG_DC: Script = [
    (b"C1:OUTP?\n", b"C1:OUTP ON,LOAD,HZ,PLRT,NOR\n"),
    (b"C1:BSWV?\n", b"C1:BSWV WVTP,DC,OFST,0V\n"),
]
SDG_ON: Script = [
    (b"*IDN?\n", b"Siglent Technologies,SDG2042X,SDG2XCAX4R0123,2.01\n"),
    (b"C1:OUTP?\n", b"C1:OUTP ON,LOAD,HZ,PLRT,NOR\n"),
    (b"C1:OUTP?\n", b"C1:OUTP ON,LOAD,HZ,PLRT,NOR\n"),
    (b"C1:BSWV?\n", b"C1:BSWV WVTP,DC,OFST,0V\n"),
]


def asked(question: bytes, answer: bytes, slot: int = 4) -> Script:
    """A question passed on to a module, and its answer fetched."""
    block = b"#3%03d" % len(answer) + answer
    return [
        (b'SNDT %d,"%s"\n' % (slot, question), None),
        (b"GETN? %d,128\n" % slot, block + b"\n"),
    ]


SIM928_ON: Script = [
    (b"*IDN?\n", b"Stanford_Research_Systems,SIM900,s/n152741,ver3.6\n"),
    (b"CTCR?\n", b"16\n"),
    (b"FLSH 4\n", None),
    (b'SNDT 4,"TERM LF"\n', None),
    *asked(b"*IDN?", b"Stanford_Research_Systems,SIM928,s/n003109,ver2.2\n"),
    *asked(b"EXON?", b"1\n"),
    *asked(b"LEXE?", b"0\n"),
    *asked(b"LCME?", b"0\n"),
]


async def opened(driver: Any) -> Any:
    await driver.open()
    return driver


def gs200(wire: Any, **options: Any) -> Gs200:
    return Gs200("bias", "memory:wire", Gs200Options(**{**WIDE, **options}), wire.connector)


def keysight(wire: Any, **options: Any) -> Keysight33500:
    chosen = Keysight33500Options(**{**WIDE, **options})
    return Keysight33500("bias", "memory:wire", chosen, wire.connector)


def sdg(wire: Any, **options: Any) -> Sdg:
    return Sdg("bias", "memory:wire", SdgOptions(**{**WIDE, **options}), wire.connector)


def sim928(wire: Any, **options: Any) -> Sim928:
    chosen = Sim928Options(**{**WIDE, "slot": 4, **options})
    return Sim928("bias", "memory:wire", chosen, wire.connector)


async def test_a_gs200_is_set_and_read_back(scripted: Scripted) -> None:
    wire = scripted(
        [
            *GS200_ON,
            *GS200_FUNCTION,
            (b":SOUR:LEV 1.2340000\n", None),
            GS200_OK,
            (b":OUTP:STAT?\n", b"1\n"),
            *GS200_FUNCTION,
            (b":SOUR:LEV?\n", b"1.234000E+00\n"),
        ]
    )
    assert await (await opened(gs200(wire))).set_voltage(1.234) == 1.234
    assert not wire.channel.remaining


async def test_a_gs200_that_is_off_is_switched_on_at_rest(scripted: Scripted) -> None:
    off = [(sent, b"0\n" if sent == b":OUTP:STAT?\n" else reply) for sent, reply in GS200_ON]
    wire = scripted(
        [
            *off,
            (b":SOUR:LEV 0.0000000\n", None),
            GS200_OK,
            (b":OUTP:STAT?\n", b"0\n"),
            (b":OUTP:STAT 1\n", None),
            GS200_OK,
            (b":OUTP:STAT?\n", b"1\n"),
            *GS200_FUNCTION,
            (b":SOUR:LEV?\n", b"0.000000E+00\n"),
        ]
    )
    await opened(gs200(wire))
    assert not wire.channel.remaining


@pytest.mark.parametrize(
    ("question", "found"), [(b":SOUR:FUNC?\n", b"CURR\n"), (b":SOUR:RANG?\n", b"3.0E+01\n")]
)
async def test_a_gs200_that_is_on_otherwise_is_left_alone(
    scripted: Scripted, question: bytes, found: bytes
) -> None:
    script = [(sent, found if sent == question else reply) for sent, reply in GS200_ON]
    with pytest.raises(RejectedError, match="set up otherwise"):
        await opened(gs200(scripted(script)))


async def test_a_level_that_a_gs200_refuses_is_reported_in_its_words(scripted: Scripted) -> None:
    refusal = b'-222,"Data out of range"\n'
    wire = scripted(
        [
            *GS200_ON,
            *GS200_FUNCTION,
            (b":SOUR:LEV 5.0000000\n", None),
            (b":SYST:ERR?\n", refusal),
            GS200_OK,
        ]
    )
    with pytest.raises(RejectedError, match="out of range"):
        await (await opened(gs200(wire))).set_voltage(5.0)


async def test_the_range_decides_the_resolution(scripted: Scripted) -> None:
    options = {"range_v": 0.1, "min_voltage_v": -0.1, "max_voltage_v": 0.1}
    assert gs200(scripted([]), **options).actuators()["voltage"].resolution == 1e-6


def test_a_range_that_does_not_reach_the_limits_is_refused() -> None:
    with pytest.raises(ValidationError, match="exceeds the reach of the 1 V range"):
        Gs200Options(range_v=1.0, **WIDE)


def test_a_range_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValidationError, match="none of"):
        Gs200Options(range_v=5.0)


async def test_a_33500b_is_set_and_read_back(scripted: Scripted) -> None:
    wire = scripted(
        [
            *KEYSIGHT_ON,
            *KEYSIGHT_DC,
            (b":SOUR1:VOLT:OFFS -0.5000\n", None),
            OK,
            (b":OUTP1?\n", b"1\n"),
            *KEYSIGHT_DC,
            (b":SOUR1:VOLT:OFFS?\n", b"-5.000000000000000E-01\n"),
        ]
    )
    assert await (await opened(keysight(wire))).set_voltage(-0.5) == -0.5


async def test_a_load_is_set_before_the_output_is_switched_on(scripted: Scripted) -> None:
    wire = scripted(
        [
            KEYSIGHT_ON[0],
            (b":OUTP1?\n", b"0\n"),
            OK,
            (b":OUTP1:LOAD?\n", b"+5.000000000000000E+01\n"),
            (b":OUTP1:LOAD INF\n", None),
            OK,
            (b":SOUR1:FUNC?\n", b"SIN\n"),
            (b":SOUR1:FUNC DC\n", None),
            OK,
            (b":SOUR1:VOLT:OFFS 0.0000\n", None),
            OK,
            (b":OUTP1?\n", b"0\n"),
            (b":OUTP1 1\n", None),
            OK,
            (b":OUTP1?\n", b"1\n"),
            *KEYSIGHT_DC,
            (b":SOUR1:VOLT:OFFS?\n", b"0.0\n"),
        ]
    )
    await opened(keysight(wire))
    assert not wire.channel.remaining


async def test_a_load_is_not_changed_under_an_output_that_is_on(scripted: Scripted) -> None:
    script = [*KEYSIGHT_ON[:3], (b":OUTP1:LOAD?\n", b"50\n")]
    with pytest.raises(RejectedError, match="set up otherwise"):
        await opened(keysight(scripted(script)))


@pytest.mark.parametrize("function", [b"SIN\n", b"DC\n"])
async def test_a_waveform_from_the_front_panel_keeps_a_33500b_from_being_set(
    scripted: Scripted, function: bytes
) -> None:
    load = KEYSIGHT_DC[0] if function == b"SIN\n" else (b":OUTP1:LOAD?\n", b"50\n")
    wire = scripted([*KEYSIGHT_ON, load, (b":SOUR1:FUNC?\n", function)])
    source = await opened(keysight(wire))
    with pytest.raises(RejectedError, match="set up otherwise"):
        await source.set_voltage(1.0)


async def test_a_33500b_that_gives_a_waveform_is_not_read_as_a_voltage(scripted: Scripted) -> None:
    wire = scripted(
        [
            *KEYSIGHT_ON,
            (b":OUTP1?\n", b"1\n"),
            KEYSIGHT_DC[0],
            (b":SOUR1:FUNC?\n", b"SIN\n"),
        ]
    )
    source = await opened(keysight(wire))
    with pytest.raises(RejectedError, match="set up otherwise"):
        await source.read_voltage()


async def test_making_safe_switches_a_33500b_off_before_it_takes_a_waveform_away(
    scripted: Scripted,
) -> None:
    wire = scripted(
        [
            *KEYSIGHT_ON,
            KEYSIGHT_DC[0],
            (b":SOUR1:FUNC?\n", b"SIN\n"),
            (b":OUTP1 0\n", None),
            OK,
            KEYSIGHT_DC[0],
            (b":SOUR1:FUNC?\n", b"SIN\n"),
            (b":SOUR1:FUNC DC\n", None),
            OK,
            (b":SOUR1:VOLT:OFFS 0.0000\n", None),
            OK,
            (b":OUTP1?\n", b"0\n"),
            (b":OUTP1 1\n", None),
            OK,
            (b":OUTP1?\n", b"1\n"),
            *KEYSIGHT_DC,
            (b":SOUR1:VOLT:OFFS?\n", b"0.0\n"),
        ]
    )
    await (await opened(keysight(wire))).make_safe()
    assert not wire.channel.remaining


async def test_a_33500b_that_keeps_its_waveform_stays_off_when_made_safe(
    scripted: Scripted,
) -> None:
    refused: Script = [
        KEYSIGHT_DC[0],
        (b":SOUR1:FUNC?\n", b"SIN\n"),
        (b":OUTP1 0\n", None),
        OK,
        KEYSIGHT_DC[0],
        (b":SOUR1:FUNC?\n", b"SIN\n"),
        (b":SOUR1:FUNC DC\n", None),
        (b":SYST:ERR?\n", b'-221,"Settings conflict"\n'),
        OK,
    ]
    wire = scripted([*KEYSIGHT_ON, *refused, *refused])  # it is tried twice
    source = await opened(keysight(wire))
    with pytest.raises(RejectedError, match="Settings conflict"):
        await source.make_safe()
    assert not wire.channel.remaining


def test_the_load_decides_the_reach() -> None:
    with pytest.raises(ValidationError, match="reach with load '50 ohm'"):
        Keysight33500Options(load="50 ohm", **WIDE)


async def test_an_sdg_is_set_and_read_back(scripted: Scripted) -> None:
    wire = scripted(
        [
            *SDG_ON,
            *SDG_DC,
            (b"C1:BSWV OFST,0.500\n", None),
            (b"C1:OUTP?\n", b"C1:OUTP ON,LOAD,HZ,PLRT,NOR\n"),
            *SDG_DC,
            (b"C1:BSWV?\n", b"C1:BSWV WVTP,DC,OFST,0.5V\n"),
        ]
    )
    assert await (await opened(sdg(wire))).set_voltage(0.5) == 0.5


async def test_a_value_that_an_sdg_ignored_is_not_confirmed(scripted: Scripted) -> None:
    wire = scripted(
        [
            *SDG_ON,
            *SDG_DC,
            (b"C1:BSWV OFST,0.500\n", None),
            (b"C1:OUTP?\n", b"C1:OUTP ON,LOAD,HZ,PLRT,NOR\n"),
            *SDG_DC,
            (b"C1:BSWV?\n", b"C1:BSWV WVTP,DC,OFST,0V\n"),
        ]
    )
    with pytest.raises(ReplyError, match=r"set to 0.5 V, reads 0 V"):
        await (await opened(sdg(wire))).set_voltage(0.5)


def test_an_answer_of_an_sdg_is_read_by_key() -> None:
    reply = "C1:BSWV WVTP,SINE,FRQ,1000HZ,PERI,0.001S,AMP,4V,OFST,0V"
    assert parse_pairs(reply, "C1:BSWV")["OFST"] == "0V"


@pytest.mark.parametrize("reply", ["", "C1:BSWV", "C2:BSWV WVTP,DC", "C1:BSWV WVTP,DC,OFST"])
def test_what_is_no_list_of_keys_and_values_is_an_error(reply: str) -> None:
    with pytest.raises(ValueError, match="keys and values"):
        parse_pairs(reply, "C1:BSWV")


async def test_a_sim928_is_spoken_to_through_its_mainframe(scripted: Scripted) -> None:
    wire = scripted(
        [
            *SIM928_ON,
            (b'SNDT 4,"VOLT 1.234"\n', None),
            *asked(b"LEXE?", b"0\n"),
            *asked(b"LCME?", b"0\n"),
            *asked(b"EXON?", b"1\n"),
            *asked(b"VOLT?", b"+1.234\r\n"),
        ]
    )
    assert await (await opened(sim928(wire))).set_voltage(1.234) == 1.234
    assert not wire.channel.remaining


async def test_an_answer_that_comes_in_pieces_is_put_together(scripted: Scripted) -> None:
    wire = scripted(
        [
            *SIM928_ON,
            *asked(b"EXON?", b"1\n"),
            (b'SNDT 4,"VOLT?"\n', None),
            (b"GETN? 4,128\n", b"#3000\n"),
            (b"GETN? 4,128\n", b"#3003+1.\n"),
            (b"GETN? 4,128\n", b"#3004234\n\n"),
        ]
    )
    assert await (await opened(sim928(wire))).read_voltage() == 1.234


async def test_a_voltage_that_the_module_refuses_is_reported_with_its_code(
    scripted: Scripted,
) -> None:
    wire = scripted([*SIM928_ON, (b'SNDT 4,"VOLT 5.000"\n', None), *asked(b"LEXE?", b"1\n")])
    with pytest.raises(RejectedError, match="illegal value"):
        await (await opened(sim928(wire))).set_voltage(5.0)


async def test_an_empty_slot_is_told_with_those_that_are_not(scripted: Scripted) -> None:
    wire = scripted([SIM928_ON[0], (b"CTCR?\n", b"6\n")])
    with pytest.raises(ReplyError, match="modules in: 1, 2"):
        await opened(sim928(wire))


async def test_a_block_that_is_none_is_an_error(scripted: Scripted) -> None:
    wire = scripted([*SIM928_ON, (b'SNDT 4,"EXON?"\n', None), (b"GETN? 4,128\n", b"12345\n")])
    with pytest.raises(ReplyError, match="not a block"):
        await (await opened(sim928(wire))).read_voltage()


async def test_a_module_that_stays_silent_is_given_up(scripted: Scripted) -> None:
    empty = [(b"GETN? 4,128\n", b"#3000\n")] * 20
    wire = scripted([*SIM928_ON, (b'SNDT 4,"EXON?"\n', None), *empty])
    with pytest.raises(TransportError, match="did not answer"):
        await (await opened(sim928(wire, module_timeout_s=0.1))).read_voltage()


@pytest.mark.parametrize(
    "limits",
    [
        {"min_voltage_v": 1.0, "max_voltage_v": 1.0, "rest_voltage_v": 1.0},
        {"min_voltage_v": 1.0, "max_voltage_v": 2.0, "rest_voltage_v": 0.0},
    ],
)
def test_limits_that_contradict_themselves_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Sim928Options(**limits)


async def test_a_voltage_is_rounded_to_the_inside_of_its_limits(scripted: Scripted) -> None:
    wire = scripted(
        [
            *SDG_ON,
            *SDG_DC,
            (b"C1:BSWV OFST,1.000\n", None),
            (b"C1:OUTP?\n", b"C1:OUTP ON,LOAD,HZ,PLRT,NOR\n"),
            *SDG_DC,
            (b"C1:BSWV?\n", b"C1:BSWV WVTP,DC,OFST,1V\n"),
        ]
    )
    source = await opened(sdg(wire, max_voltage_v=1.0006))
    assert await source.set_voltage(1.0006) == 1.0


@pytest.mark.parametrize("voltage_v", [5.001, -5.001, float("nan")])
async def test_a_voltage_outside_the_limits_is_refused_and_nothing_is_sent(
    scripted: Scripted, voltage_v: float
) -> None:
    source = await opened(sdg(scripted(SDG_ON)))
    with pytest.raises(SettingError):
        await source.set_voltage(voltage_v)
