from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.errors import RejectedError, ReplyError, SettingError
from drivers.roles import OpticalSwitch
from drivers.switches.polatis import Polatis, PolatisOptions
from sim import virtual_time

Exchange = tuple[bytes, bytes | None]


def asked(question: str, answer: str | None = None) -> Exchange:
    return question.encode() + b"\n", None if answer is None else answer.encode() + b"\r\n"


IDENTIFY = asked("*IDN?", "Polatis,N-OST-16x16-LA1-DMHNS,002414,6.5.2.18")
OPEN = [IDENTIFY, asked(":oxc:swit:size?", "16,16")]
NO_ERROR = asked(":syst:err:all?", '0,"No error"')
FREE = asked(":oxc:swit:conn:port? 17", '""')


def add(done: str = "1") -> list[Exchange]:
    return [asked("*CLS"), asked(":oxc:swit:conn:add (@2),(@17);*OPC?", done)]


def leads_to(answer: str) -> Exchange:
    return asked(":oxc:swit:conn:port? 2", answer)


def converse(
    scripted: Callable[..., Any],
    script: list[Exchange],
    story: Callable[[Polatis], Awaitable[None]] | None = None,
    **options: Any,
) -> None:
    """Open the driver on a script, tell a story about it, and see that all was said."""
    wire = scripted(script)
    said = PolatisOptions.model_validate({"ingress": 2, "egress": [17, 18], **options})

    async def run() -> None:
        driver = Polatis("oxc", "memory:wire", said, wire.connector)
        await driver.open()
        if story is not None:
            await story(driver)
        assert not wire.channel.remaining

    virtual_time.run(run())


def test_its_paths_are_the_configured_ports_and_none(scripted: Callable[..., Any]) -> None:
    async def story(driver: Polatis) -> None:
        assert isinstance(driver, OpticalSwitch)
        assert driver.paths() == ("17", "18", "none")

    converse(scripted, OPEN, story)


def test_a_path_is_made_and_read_back(scripted: Callable[..., Any]) -> None:
    async def story(driver: Polatis) -> None:
        assert await driver.set_path("17") == "17"

    converse(scripted, [*OPEN, FREE, *add(), NO_ERROR, leads_to('"17"')], story)


def test_none_takes_away_whatever_connection_there_is(scripted: Callable[..., Any]) -> None:
    async def story(driver: Polatis) -> None:
        assert await driver.set_path("none") == "none"

    taken_away = [asked("*CLS"), asked(":oxc:swit:conn:sub (@2),(@);*OPC?", "1")]
    converse(scripted, [*OPEN, *taken_away, NO_ERROR, leads_to('""')], story)


def test_an_error_about_a_connection_that_was_not_there_is_let_pass(
    scripted: Callable[..., Any],
) -> None:
    taken_away = [asked("*CLS"), asked(":oxc:swit:conn:sub (@2),(@);*OPC?", "1")]
    error = asked(":syst:err:all?", '-200,"Execution error"')
    converse(scripted, [*OPEN, *taken_away, error, NO_ERROR, leads_to('"0"')], Polatis.make_safe)


def test_a_port_that_carries_another_is_not_taken_from_it(scripted: Callable[..., Any]) -> None:
    async def story(driver: Polatis) -> None:
        with pytest.raises(RejectedError, match="port 17 carries port 3"):
            await driver.set_path("17")

    converse(scripted, [*OPEN, asked(":oxc:swit:conn:port? 17", '"3"')], story)


def test_making_safe_leads_the_light_nowhere_where_the_safe_port_is_in_use(
    scripted: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    taken = asked(":oxc:swit:conn:port? 17", '"3"')
    taken_away = [asked("*CLS"), asked(":oxc:swit:conn:sub (@2),(@);*OPC?", "1")]
    script = [*OPEN, taken, *taken_away, NO_ERROR, leads_to('""')]
    converse(scripted, script, Polatis.make_safe, rest_path="17")
    assert "port 17 carries port 3" in caplog.text


def test_a_refused_connection_is_told_in_the_units_words(scripted: Callable[..., Any]) -> None:
    async def story(driver: Polatis) -> None:
        with pytest.raises(RejectedError, match="Data out of range"):
            await driver.set_path("17")

    error = asked(":syst:err:all?", '-222,"Data out of range"')
    converse(scripted, [*OPEN, FREE, *add(), error, NO_ERROR, leads_to('""')], story)


def test_a_connection_elsewhere_is_not_confirmed(scripted: Callable[..., Any]) -> None:
    async def story(driver: Polatis) -> None:
        with pytest.raises(ReplyError, match="leads elsewhere"):
            await driver.set_path("17")

    converse(scripted, [*OPEN, FREE, *add(), NO_ERROR, leads_to('"18"')], story)


@pytest.mark.parametrize(
    ("answer", "path"), [('"18"', "18"), ("18", "18"), ('""', "none"), ("0", "none"), ("", "none")]
)
def test_the_port_is_read_in_whatever_quotes(
    scripted: Callable[..., Any], answer: str, path: str
) -> None:
    async def story(driver: Polatis) -> None:
        assert await driver.read_path() == path

    converse(scripted, [*OPEN, leads_to(answer)], story)


def test_an_answer_that_is_no_port_is_an_error(scripted: Callable[..., Any]) -> None:
    async def story(driver: Polatis) -> None:
        with pytest.raises(ReplyError, match="not a port"):
            await driver.read_path()

    converse(scripted, [*OPEN, leads_to("(@2),(@18)")], story)


@pytest.mark.parametrize("path", ["19", "2", "", "None", "17\n"])
def test_a_path_that_is_not_there_is_refused_before_anything_is_sent(
    scripted: Callable[..., Any], path: str
) -> None:
    async def story(driver: Polatis) -> None:
        with pytest.raises(SettingError):
            await driver.set_path(path)

    converse(scripted, OPEN, story)


def test_another_makers_switch_is_named_as_such(scripted: Callable[..., Any]) -> None:
    with pytest.raises(ReplyError, match="you configured"):
        converse(scripted, [asked("*IDN?", "DiCon,GP750,1,1")])


def test_a_port_that_the_matrix_does_not_have_is_a_mistake_in_the_file(
    scripted: Callable[..., Any],
) -> None:
    with pytest.raises(SettingError, match="ingress ports are 1 to 8, its egress ports 9 to 16"):
        converse(scripted, [IDENTIFY, asked(":oxc:swit:size?", "8,8")])


@pytest.mark.parametrize(
    "options",
    [
        {"egress": []},
        {"egress": [17, 17]},
        {"ingress": 17, "egress": [17]},
        {"egress": [17], "rest_path": "18"},
        {"ingress": 0, "egress": [17]},
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PolatisOptions.model_validate(options)
