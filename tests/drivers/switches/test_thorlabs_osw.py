from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.errors import ReplyError, SettingError
from drivers.roles import OpticalSwitch
from drivers.switches.thorlabs_osw import Osw, OswOptions
from sim import virtual_time

Exchange = tuple[bytes, bytes | None]

OPEN: list[Exchange] = [(b"I?\n", b"OSW22-1310E v1.2\r\n")]


def converse(
    scripted: Callable[..., Any],
    script: list[Exchange],
    story: Callable[[Osw], Awaitable[None]] | None = None,
    **options: Any,
) -> None:
    """Open the driver on a script, tell a story about it, and see that all was said."""
    wire = scripted(script)

    async def run() -> None:
        driver = Osw("osw", "memory:wire", OswOptions(**options), wire.connector)
        await driver.open()
        if story is not None:
            await story(driver)
        assert not wire.channel.remaining

    virtual_time.run(run())


def test_it_says_what_it_is(scripted: Callable[..., Any]) -> None:
    async def story(driver: Osw) -> None:
        assert isinstance(driver, OpticalSwitch)
        identity = await driver.identify()
        assert (identity.model, identity.firmware) == ("OSW22-1310E v1.2", "v1.2")

    converse(scripted, OPEN * 2, story)


def test_a_path_is_asked_for_until_it_is_made(scripted: Callable[..., Any]) -> None:
    async def story(driver: Osw) -> None:
        assert await driver.set_path("2") == "2"

    answers: list[Exchange] = [(b"S?\n", b"1\r\n"), (b"S?\n", b"1\r\n"), (b"S?\n", b"2\r\n")]
    converse(scripted, [*OPEN, (b"S 2\n", None), *answers], story)


def test_a_path_that_is_never_made_is_given_up(scripted: Callable[..., Any]) -> None:
    async def story(driver: Osw) -> None:
        with pytest.raises(ReplyError, match="not on path 2 within 1 s"):
            await driver.set_path("2")

    converse(
        scripted, [*OPEN, (b"S 2\n", None), *[(b"S?\n", b"1\r\n")] * 4], story, switch_timeout_s=1
    )


@pytest.mark.parametrize("answer", [b"3\r\n", b"\r\n", b"OSW22\r\n"])
def test_an_answer_that_is_no_path_is_an_error(scripted: Callable[..., Any], answer: bytes) -> None:
    async def story(driver: Osw) -> None:
        with pytest.raises(ReplyError, match="neither path 1 nor 2"):
            await driver.read_path()

    converse(scripted, [*OPEN, (b"S?\n", answer)], story)


@pytest.mark.parametrize("path", ["0", "3", "", "bar", "1\n"])
def test_a_path_that_is_not_there_is_refused_before_anything_is_sent(
    scripted: Callable[..., Any], path: str
) -> None:
    async def story(driver: Osw) -> None:
        with pytest.raises(SettingError):
            await driver.set_path(path)

    converse(scripted, OPEN, story)


def test_make_safe_takes_the_configured_path(scripted: Callable[..., Any]) -> None:
    rest: list[Exchange] = [(b"S 2\n", None), (b"S?\n", b"2\r\n")]
    converse(scripted, [*OPEN, *rest], Osw.make_safe, rest_path="2")


def test_another_model_is_named_as_such(scripted: Callable[..., Any]) -> None:
    with pytest.raises(ReplyError, match="you configured"):
        converse(scripted, [(b"I?\n", b"Kurios v2\r\n")])


def test_a_unit_that_names_itself_otherwise_can_be_allowed(scripted: Callable[..., Any]) -> None:
    converse(scripted, [(b"I?\n", b"Optical Switch\r\n")], identity_contains="Switch")


@pytest.mark.parametrize("options", [{"rest_path": "3"}, {"identity_contains": ""}])
def test_impossible_options_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        OswOptions.model_validate(options)
