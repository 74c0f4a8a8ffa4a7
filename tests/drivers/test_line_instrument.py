import tomllib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError, TransportError
from drivers.line_instrument import LineInstrument, LineInstrumentOptions
from drivers.line_settings import Setting
from drivers.roles import StateSource

SOURCE = """
identity_query = "*IDN?"
identity_contains = "StateSource"
error_query = "ERR?"
error_ok = '0,"No error"'
state_setting = "state"
safe = { state = "PATTERN" }

[settings.state]
set = "STATE {value}"
query = "STATE?"
values = ["H", "V", "D", "A", "PATTERN"]
"""
SUPPLY = """
write_terminator = "\\r"
read_terminator = "\\r\\n"
safe = { voltage = 0.0, output = "off" }

[settings.voltage]
set = "VOLT {value:.3f}"
query = "VOLT?"
reply = '^VOLT (?P<value>[-+.0-9]+) V$'
minimum = -1.5
maximum = 12.0
unit = "V"
resolution = 0.001
set_replies = true

[settings.output]
set = "OUT {value}"
query = "OUT?"
values = { on = "1", off = "0" }
"""
IDN = (b"*IDN?\n", b"Example,StateSource,0001,1.0\n")
OK = (b"ERR?\n", b'0,"No error"\n')
OPEN = [IDN, OK, (b"STATE?\n", b"PATTERN\n")]
OPEN_SUPPLY = [(b"VOLT?\r", b"VOLT 0.000 V\r\n"), (b"VOLT?\r", b"VOLT 0.000 V\r\n")]
OPEN_SUPPLY += [(b"OUT?\r", b"0\r\n")]


def options(text: str, **changes: Any) -> LineInstrumentOptions:
    return LineInstrumentOptions.model_validate(tomllib.loads(text) | changes)


async def opened(wire: Any, text: str = SOURCE, **changes: Any) -> LineInstrument:
    source = LineInstrument("alice", "memory:wire", options(text, **changes), wire.connector)
    await source.open()
    return source


async def test_open_identifies_and_reads_every_setting(scripted: Callable[..., Any]) -> None:
    wire = scripted([IDN, (b"ERR?\n", b'-222,"old"\n'), OK, (b"STATE?\n", b"PATTERN\n")])
    source = LineInstrument("alice", "memory:wire", options(SOURCE), wire.connector)
    identity = await source.open()
    assert (identity.manufacturer, identity.model) == ("Example", "StateSource")
    assert isinstance(source, StateSource)
    assert not wire.channel.remaining


@pytest.mark.parametrize(("text", "is_told"), [(SUPPLY, True), (SOURCE, False)])
def test_what_no_safe_state_is_given_for_is_told(
    scripted: Callable[..., Any], caplog: pytest.LogCaptureFixture, text: str, is_told: bool
) -> None:
    LineInstrument("supply", "memory:wire", options(text, safe={}), scripted([]).connector)
    assert ("make_safe leaves as they are: voltage, output" in caplog.text) is is_told


async def test_another_model_is_named_as_such(scripted: Callable[..., Any]) -> None:
    with pytest.raises(ReplyError, match="is this the instrument you configured"):
        await opened(scripted([(b"*IDN?\n", b"Example,Laser,0001,1.0\n")]))


async def test_an_error_text_that_never_fits_is_explained(scripted: Callable[..., Any]) -> None:
    wire = scripted([IDN, *[(b"ERR?\n", b"OK\n")] * 40])
    with pytest.raises(ReplyError, match="does error_ok fit"):
        await opened(wire)


async def test_set_state_checks_for_errors_and_reads_back(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, (b"STATE D\n", None), OK, (b"STATE?\n", b"D\n")])
    source = await opened(wire)
    assert await source.set_state("D") == "D"
    assert not wire.channel.remaining


@pytest.mark.parametrize("state", ["X", "", "h", "H\nSTATE V", "H\x00", "{value}"])
async def test_a_state_that_is_not_configured_sends_nothing(
    scripted: Callable[..., Any], state: str
) -> None:
    source = await opened(scripted(OPEN))
    with pytest.raises(SettingError, match="none of H, V, D, A, PATTERN"):
        await source.set_state(state)


async def test_a_refusal_quotes_the_error_queue(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, (b"STATE D\n", None), (b"ERR?\n", b'-222,"Data out of range"\n')])
    source = await opened(wire)
    with pytest.raises(RejectedError, match="Data out of range"):
        await source.set_state("D")


async def test_another_state_read_back_than_set_is_an_error(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN, (b"STATE D\n", None), OK, (b"STATE?\n", b"A\n")])
    source = await opened(wire)
    with pytest.raises(ReplyError, match="state was set to D and reads A"):
        await source.set_state("D")


async def test_a_state_that_nobody_configured_is_a_reply_error(
    scripted: Callable[..., Any],
) -> None:
    source = await opened(scripted([*OPEN, (b"STATE?\n", b"L\n")]))
    with pytest.raises(ReplyError, match="none of H, V, D, A, PATTERN"):
        await source.read_state()


async def test_a_lost_reply_to_a_write_leaves_the_state_unknown_and_is_not_repeated(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, (b"STATE D\n", None), (b"ERR?\n", None)])
    source = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError, match="state unknown"):
        await source.set_state("D")
    assert not wire.channel.remaining


async def test_after_a_lost_reply_the_source_is_identified_again(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN, (b"STATE?\n", b"PAT"), IDN, OK, (b"STATE?\n", b"V\n")])
    source = await opened(wire, timeout_s=0.02)
    with pytest.raises(TransportError):
        await source.read_state()
    assert await source.read_state() == "V"


async def test_a_number_goes_through_the_template_and_comes_back_through_the_expression(
    scripted: Callable[..., Any],
) -> None:
    wire = scripted([*OPEN_SUPPLY, (b"VOLT 3.300\r", b"ok\r\n"), (b"VOLT?\r", b"VOLT 3.301 V\r\n")])
    supply = await opened(wire, SUPPLY)
    assert await supply.actuators()["voltage"].write(3.3) == 3.301
    assert not wire.channel.remaining


@pytest.mark.parametrize("value", [12.0004, -1.51, float("nan"), float("inf"), "3"])
async def test_a_number_outside_the_limits_sends_nothing(
    scripted: Callable[..., Any], value: float | str
) -> None:
    supply = await opened(scripted(OPEN_SUPPLY), SUPPLY)
    with pytest.raises(SettingError, match="voltage"):
        await supply.set_value("voltage", value)


async def test_our_words_stand_for_the_instruments(scripted: Callable[..., Any]) -> None:
    wire = scripted([*OPEN_SUPPLY, (b"OUT 1\r", None), (b"OUT?\r", b"1\r\n")])
    supply = await opened(wire, SUPPLY)
    assert await supply.set_value("output", "on") == "on"


async def test_make_safe_goes_on_after_a_failure_and_reports_it(
    scripted: Callable[..., Any],
) -> None:
    failing = [(b"VOLT 0.000\r", b"ok\r\n"), (b"VOLT?\r", b"VOLT 5.000 V\r\n")]
    wire = scripted(
        [
            *OPEN_SUPPLY,
            *failing,
            (b"OUT 0\r", None),
            (b"OUT?\r", b"0\r\n"),
            OPEN_SUPPLY[0],
            *failing,
        ]
    )
    supply = await opened(wire, SUPPLY)
    with pytest.raises(ReplyError, match="voltage was set to"):
        await supply.make_safe()
    assert not wire.channel.remaining


async def test_only_numbers_become_actuators(scripted: Callable[..., Any]) -> None:
    supply = await opened(scripted(OPEN_SUPPLY), SUPPLY)
    actuator = supply.actuators()["voltage"]
    assert list(supply.actuators()) == ["voltage"]
    assert (actuator.unit, actuator.minimum, actuator.maximum) == ("V", -1.5, 12.0)


async def test_a_state_without_a_state_setting_sends_nothing(
    scripted: Callable[..., Any],
) -> None:
    supply = await opened(scripted(OPEN_SUPPLY), SUPPLY)
    with pytest.raises(SettingError, match="state_setting is not configured"):
        await supply.set_state("H")


NUMERIC: dict[str, Any] = {"set": "V {value}", "query": "V?", "minimum": 0, "maximum": 1}


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (NUMERIC | {"set": "V 1"}, "must contain {value} once"),
        (NUMERIC | {"set": "V {value} {value}"}, "must contain {value} once"),
        (NUMERIC | {"set": "V {value.real}"}, "must contain {value} once"),
        (NUMERIC | {"set": "V {value!r}"}, "must contain {value} once"),
        (NUMERIC | {"set": "V {value:>9999f}"}, "must contain {value} once"),
        (NUMERIC | {"set": "V {value"}, "expected '}'"),
        (NUMERIC | {"set": "V {value}\n"}, "printable ASCII"),
        (NUMERIC | {"query": ""}, "printable ASCII"),
        (NUMERIC | {"reply": "("}, "no regular expression"),
        (NUMERIC | {"reply": "(.*)"}, r"needs a group \(\?P<value>"),
        (NUMERIC | {"minimum": 2}, "must be below maximum"),
        (NUMERIC | {"minimum": None}, "give both minimum and maximum"),
        (NUMERIC | {"set": "V {value:.1f}", "maximum": 0.96}, "no more digits"),
        (NUMERIC | {"set": "V {value:d}", "maximum": 1.6}, "no more digits"),
        (NUMERIC | {"values": ["A"]}, "either values, or minimum and maximum"),
        (NUMERIC | {"maximum": float("inf")}, "finite"),
        ({"set": "V {value}", "query": "V?"}, "either values, or minimum and maximum"),
        ({"set": "V {value}", "query": "V?", "values": ["A", "A"]}, "each once"),
        ({"set": "V {value}", "query": "V?", "values": []}, "at least one word"),
        ({"set": "V {value}", "query": "V?", "values": ["A\n"]}, "printable ASCII"),
        ({"set": "V {value:.1f}", "query": "V?", "values": ["A"]}, "words take no format"),
    ],
)
def test_an_impossible_setting_is_refused_in_clear_words(
    setting: dict[str, Any], text: str
) -> None:
    with pytest.raises(ValidationError, match=text):
        Setting.model_validate(setting)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"error_ok": None}, "error_query and error_ok go together"),
        ({"identity_query": None}, "identity_contains needs identity_query"),
        ({"settings": {}}, "describe at least one"),
        ({"safe": {"shutter": 0}}, "no setting 'shutter'; there are: state"),
        ({"safe": {"state": "X"}}, "safe: state: 'X' is none of H, V, D, A, PATTERN"),
        ({"safe": {"state": 1}}, "safe: state: 1.0 is none of"),
        ({"state_setting": "colour"}, "no setting 'colour'"),
        ({"settings": {"state": NUMERIC}, "safe": {}}, "needs values, not limits"),
        ({"settings": {"state": NUMERIC}, "safe": {"state": "1"}, "state_setting": None}, "quotes"),
        ({"read_terminator": "µ"}, "must be ASCII"),
    ],
)
def test_impossible_options_are_refused_in_clear_words(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        options(SOURCE, **changes)


@given(st.floats(min_value=-1.5, max_value=12.0))
def test_no_number_within_the_limits_is_sent_as_one_outside(value: float) -> None:
    setting = options(SUPPLY).settings["voltage"]
    assert -1.5 <= float(setting.text_for(value)) <= 12.0


@given(st.text())
def test_any_reply_is_a_value_or_a_value_error(reply: str) -> None:
    for setting in (*options(SUPPLY).settings.values(), Setting.model_validate(NUMERIC)):
        try:
            value = setting.parse(reply)
        except ValueError:
            continue
        assert isinstance(value, str | float)
