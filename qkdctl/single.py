"""One instrument by its kind and resource, without a testbed file."""

import asyncio
import io
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TextIO

from pydantic import ValidationError

from drivers.registry import DriverEntry, Options, driver_entry
from drivers.roles import Identity, Instrument
from drivers.settable import settables
from drivers.transport.connect import Connector
from drivers.transport.trace import Trace
from qkdctl.acceptance import Finding, Report, examine

NAME = "instrument"
"""What it is called in errors."""


class SingleError(Exception):
    """The words do not describe an instrument; the text says how to mend them."""


@dataclass(frozen=True)
class Single:
    """A driver and what it was set up with."""

    driver: Instrument
    options: Options

    @property
    def inputs(self) -> tuple[int, ...]:
        """Inputs of a counter or tagger that are in use."""
        return tuple(getattr(self.options, "inputs", (1,)))

    @property
    def is_state_source(self) -> bool:
        """Whether it is Alice's encoder: a line instrument is only where its options say so."""
        return getattr(self.options, "state_setting", "") is not None


def entry_of(kind: str) -> DriverEntry:
    """Look up a kind.

    Raises:
        SingleError: There is none of that name.
    """
    try:
        return driver_entry(kind)
    except KeyError as exc:
        raise SingleError(str(exc.args[0])) from None


def build_single(
    kind: str, resource: str, options: Mapping[str, Any], connector: Connector
) -> Single:
    """Build the driver of one instrument; opens nothing.

    Args:
        kind: Kind of instrument.
        resource: Where it is.
        options: What a testbed file would say beside kind and resource.
        connector: Makes its transport.

    Raises:
        SingleError: No such kind, or options that it does not take.
        SettingError: The resource is malformed.
    """
    entry = entry_of(kind)
    try:
        validated = entry.options.model_validate(options)
    except ValidationError as exc:
        problems = [
            f"option {'.'.join(map(str, each['loc']))}: {each['msg']}" for each in exc.errors()
        ]
        known = ", ".join(entry.options.model_fields)
        raise SingleError(f"{'; '.join(problems)}; a {kind} knows {known}") from None
    return Single(entry.build(NAME, resource, validated, connector), validated)


def run_identify(kind: str, resource: str, words: Sequence[str]) -> Identity:
    """Open an instrument, return who it says it is, and close it.

    Raises:
        SingleError: The words describe no instrument.
        InstrumentError: It does not answer, or is another model.
    """
    single = build_single(kind, resource, read_options(words), Connector())
    return asyncio.run(_identify(single.driver))


def run_trace(kind: str, resource: str, words: Sequence[str], stream: TextIO) -> None:
    """Write every byte to a stream while an instrument is opened, identified and read.

    Raises:
        SingleError: The words describe no instrument.
        InstrumentError: It does not answer, or is another model.
    """
    connector = Connector(trace=Trace(stream))
    asyncio.run(_read_all(build_single(kind, resource, read_options(words), connector)))


def run_acceptance(
    kind: str,
    resource: str,
    words: Sequence[str],
    *,
    drives: bool,
    told: Callable[[Finding], None],
) -> Report:
    """Examine an instrument and return the report, with the traffic in it.

    Raises:
        SingleError: The words describe no instrument.
        SettingError: The resource is malformed.
    """
    traffic = io.StringIO()
    connector = Connector(trace=Trace(traffic))
    single = build_single(kind, resource, read_options(words), connector)
    report = asyncio.run(
        examine(
            single.driver,
            kind,
            resource,
            inputs=single.inputs,
            is_state_source=single.is_state_source,
            drives=drives,
            told=told,
        )
    )
    return replace(report, trace=traffic.getvalue().splitlines())


def read_options(words: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value`` words, the value as TOML would have it, or else as plain text.

    Raises:
        SingleError: A word has no ``=`` in it.
    """
    options: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not (equals and key.isidentifier()):
            raise SingleError(f"{word!r} is not an option; write NAME=VALUE, such as slot=1")
        options[key] = _value(value)
    return options


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


async def _identify(driver: Instrument) -> Identity:
    try:
        return await driver.open()
    finally:
        await driver.close()


async def _read_all(single: Single) -> None:
    driver = single.driver
    try:
        await driver.open()
        await driver.identify()
        for output in settables(driver, is_state_source=single.is_state_source):
            await output.read()
    finally:
        await driver.close()
