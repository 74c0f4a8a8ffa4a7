"""Any simple line-based instrument, described in the testbed file instead of in Python.

For sources, switches and supplies that nobody will write a driver for: how a setting is written and
read back, which values it takes, and what the instrument says when it refuses. A state source as an
example (TOML)::

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

``make_safe`` sets what ``safe`` lists and nothing else: a warning says where it lists nothing,
unless Alice's state is all there is to set.

Every write is followed by the error query, if there is one, and by the setting's query: a setting
that cannot be read back cannot be configured here.
"""

import logging
import re
from collections.abc import Mapping
from functools import partial
from typing import Self

from pydantic import Field, model_validator

from drivers.errors import RejectedError, ReplyError, SettingError
from drivers.line_settings import MAX_REPLY_CHARS, Command, Expression, Setting, Terminator
from drivers.linked import LinkedInstrument
from drivers.outputs import carry_out_all, unknown_if_lost
from drivers.registry import Options, register
from drivers.roles import Actuator, Identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue, Framing

MAX_OLD_ERRORS = 32

log = logging.getLogger(__name__)


class LineInstrumentOptions(Options):
    """Options of a ``line-instrument``."""

    write_terminator: Terminator = Field("\n", description="Ends a command.")
    read_terminator: Terminator = Field(
        "\n", description="Ends a reply; empty where whole messages come (zmq://)."
    )
    baud_rate: int = Field(9600, gt=0, description="For serial lines, baud.")
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for a reply, s.")
    identity_query: Command | None = Field(None, description="Asks who it is.")
    identity_contains: str | None = Field(None, description="What the answer must contain.")
    error_query: Command | None = Field(None, description="Takes the next error from its queue.")
    error_ok: Expression | None = Field(None, description="The whole reply when all is well.")
    settings: dict[str, Setting] = Field(description="What can be set, by name.")
    safe: dict[str, float | str] = Field({}, description="What make_safe sets, in this order.")
    state_setting: str | None = Field(None, description="The setting that is Alice's state.")

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if (self.error_query is None) != (self.error_ok is None):
            raise ValueError("error_query and error_ok go together: give both or none")
        if self.identity_contains is not None and self.identity_query is None:
            raise ValueError("identity_contains needs identity_query")
        if not self.settings:
            raise ValueError("settings: describe at least one")
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for where, names in (("safe", list(self.safe)), ("state_setting", [self.state_setting])):
            for name in names:
                if name is not None and name not in self.settings:
                    known = ", ".join(self.settings)
                    raise ValueError(f"{where}: no setting {name!r}; there are: {known}")
        if self.state_setting is not None and not self.settings[self.state_setting].words:
            raise ValueError(f"state_setting {self.state_setting!r} needs values, not limits")
        return self

    @model_validator(mode="after")
    def _safe_values_are_allowed(self) -> Self:
        for name, value in self.safe.items():
            try:
                self.settings[name].text_for(value)
            except ValueError as exc:
                raise ValueError(f"safe: {name}: {exc}") from exc
        return self


def parse_identity(reply: str) -> Identity:
    """Take ``*IDN?`` apart where it has its four fields; else all of it is the model."""
    match [field.strip() for field in reply.split(",")]:
        case [manufacturer, model, serial, firmware]:
            return Identity(manufacturer, model, serial, firmware)
    return Identity("unknown", reply.strip(), "unknown", "unknown")


@register("line-instrument", LineInstrumentOptions, wires=("serial", "tcp", "visa"))
class LineInstrument(LinkedInstrument):
    """Any line-based instrument, described in the testbed file.

    Args:
        name: Name in the testbed file.
        resource: Where it is.
        options: Its commands, limits and terminators.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: LineInstrumentOptions, connector: Connector
    ) -> None:
        transport = connector.transport(
            name,
            resource,
            Framing(
                options.write_terminator.encode("ascii"),
                options.read_terminator.encode("ascii") or None,
            ),
            timeout_s=options.timeout_s,
            baud_rate=options.baud_rate,
        )
        super().__init__(name, transport)
        self._options = options
        left = [each for each in options.settings if each != options.state_setting]
        if left and not options.safe:
            log.warning(
                "%s: safe is empty, so make_safe leaves as they are: %s; say there where they rest",
                name,
                ", ".join(left),
            )

    async def set_value(self, setting: str, value: float | str) -> float | str:
        """Set one setting and read it back.

        Args:
            setting: Name in the testbed file.
            value: A configured word, or a number within the limits.

        Returns:
            What was read back.

        Raises:
            SettingError: No such setting, or a value that is not allowed; nothing was sent.
            RejectedError: The instrument reports an error.
            ReplyError: A reply does not parse, or another value was read back than was set.
            TransportError: Link lost; the setting is unknown until read again.
        """
        self._command(setting, value)
        async with self._transport.exclusive() as link:
            return await self._set(link, setting, value)

    async def read_value(self, setting: str) -> float | str:
        """Read one setting; raises as ``set_value`` does."""
        self._setting(setting)
        async with self._transport.exclusive() as link:
            return await self._read(link, setting)

    async def set_state(self, state: str) -> str:
        """Select Alice's state through ``state_setting``; raises as ``set_value`` does."""
        return str(await self.set_value(self._state_setting(), state))

    async def read_state(self) -> str:
        """Read Alice's state; raises as ``set_value`` does."""
        return str(await self.read_value(self._state_setting()))

    async def make_safe(self) -> None:
        """Set what ``safe`` lists, in order; raises the first failure at the end."""
        steps = [
            partial(self._set, name=name, value=value) for name, value in self._options.safe.items()
        ]
        await carry_out_all(self._transport, [self._forget_errors, *steps] if steps else [])

    def actuators(self) -> Mapping[str, Actuator]:
        """One per numeric setting, by its name."""
        return {
            name: self._actuator(name, setting.minimum, setting.maximum)
            for name, setting in self._options.settings.items()
            if setting.minimum is not None and setting.maximum is not None
        }

    def _actuator(self, name: str, minimum: float, maximum: float) -> Actuator:
        async def write(value: float) -> float:
            return float(await self.set_value(name, value))

        async def read() -> float:
            return float(await self.read_value(name))

        setting = self._options.settings[name]
        return Actuator(setting.unit, minimum, maximum, setting.resolution, write, read)

    def _setting(self, name: str) -> Setting:
        if name not in self._options.settings:
            known = ", ".join(self._options.settings)
            raise SettingError(self.name, f"no setting {name!r}; there are: {known}")
        return self._options.settings[name]

    def _state_setting(self) -> str:
        if self._options.state_setting is None:
            raise SettingError(self.name, "state_setting is not configured")
        return self._options.state_setting

    def _command(self, name: str, value: float | str) -> str:
        setting = self._setting(name)
        try:
            return setting.command(setting.text_for(value))
        except ValueError as exc:
            raise SettingError(self.name, f"{name}: {exc}") from exc

    async def _set(self, link: Dialogue, name: str, value: float | str) -> float | str:
        setting = self._setting(name)
        command = self._command(name, value)
        with unknown_if_lost(self.name, name):
            await link.write(command)
            if setting.set_replies:
                await link.read()
            await self._check_error(link, command)
            read = await self._read(link, name)
        if not setting.agrees(value, read):
            raise ReplyError(self.name, f"{name} was set to {value} and reads {read}", sent=command)
        return read

    async def _read(self, link: Dialogue, name: str) -> float | str:
        setting = self._setting(name)
        reply = await link.query(setting.query)
        try:
            return setting.parse(reply)
        except ValueError as exc:
            raise ReplyError(
                self.name, f"{name}: {exc}", sent=setting.query, received=reply[:MAX_REPLY_CHARS]
            ) from exc

    async def _check_error(self, link: Dialogue, command: str) -> None:
        if error := await self._next_error(link):
            raise RejectedError(self.name, f"{command!r} was refused", received=error)

    async def _next_error(self, link: Dialogue) -> str | None:
        options = self._options
        if options.error_query is None or options.error_ok is None:
            return None
        reply = await link.query(options.error_query)
        is_ok = len(reply) <= MAX_REPLY_CHARS and re.fullmatch(options.error_ok, reply.strip())
        return None if is_ok else reply

    async def _forget_errors(self, link: Dialogue) -> None:
        for _ in range(MAX_OLD_ERRORS):
            error = await self._next_error(link)
            if error is None:
                return
        raise ReplyError(
            self.name,
            f"{MAX_OLD_ERRORS} errors and no end: does error_ok fit the reply when all is well?",
            sent=self._options.error_query,
            received=error,
        )

    async def _identify(self, link: Dialogue) -> Identity:
        question = self._options.identity_query
        if question is None:
            await self._read(link, next(iter(self._options.settings)))
            return Identity("unknown", "line instrument", "unknown", "unknown")
        reply = await link.query(question)
        expected = self._options.identity_contains
        if expected is not None and expected not in reply:
            raise ReplyError(
                self.name,
                f"the identity does not contain {expected!r}: is this the instrument you "
                "configured?",
                sent=question,
                received=reply,
            )
        return parse_identity(reply)

    async def _set_up(self, link: Dialogue) -> None:
        """Forget old errors, read every setting once."""
        await self._forget_errors(link)
        for name in self._options.settings:
            await self._read(link, name)

    async def _set_up_again(self, link: Dialogue) -> None:
        """After a lost link: no error left over from before."""
        await self._forget_errors(link)
