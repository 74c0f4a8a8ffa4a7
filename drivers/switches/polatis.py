"""Polatis optical matrix switches over SCPI: one ingress port of the matrix and where it leads.

By raw socket (port 5025) or serial line (38400 baud). Sources: three public drivers of users, one
of which quotes the manual's syntax, and the public ``devicecontrol-polatis``.

Ports are numbered through: the ingress ports from 1 on, the egress ports after them, as
``:oxc:swit:size?`` counts them. The path of this driver is the egress port that the configured
ingress port leads to, as text, or ``none``. Other connections of the matrix belong to somebody
else: a path to an egress port that carries another ingress port is refused before it is asked for,
and no command is used that touches more than one connection.

Commands that set answer nothing: ``*OPC?`` is asked with them and answered once the mirrors stand.
Thereafter the error queue and the connection are read.

Weak facts, to be checked on first contact with a unit:

- A connection that is added takes the ingress port from where it led before: the public drivers
  rely on it, and the connection is read back here.
- What ``:oxc:swit:conn:port?`` answers for a port that leads nowhere: empty quotes or 0.
- Whether taking away a connection that is not there is an error: if so it is let pass, since the
  port then leads nowhere, as it was told to.
- The form of ``:syst:err:all?``: taken to be SCPI's, beginning with 0 when there is no error.
- ``Polatis`` in the first field of the identity.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Final, Self

from pydantic import Field, model_validator

from drivers.errors import RejectedError, ReplyError, SettingError
from drivers.outputs import carry_out_all, unknown_if_lost
from drivers.registry import Options, register
from drivers.roles import Actuator, Health, Identity
from drivers.scpi import pop_errors, query_identity
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

NOWHERE: Final = "none"
MAKER = "POLATIS"
ERRORS = ":syst:err:all?"
SIZE = ":oxc:swit:size?"
PORT = re.compile(r'\s*"?\s*([0-9]{0,4})\s*"?\s*')
PORTS = re.compile(r"\s*([0-9]{1,4})\s*,\s*([0-9]{1,4})\s*")


class PolatisOptions(Options):
    """Options of a ``polatis``: one ingress port and the egress ports that it may lead to."""

    ingress: int = Field(1, ge=1, description="Port whose light is led, as the unit counts.")
    egress: tuple[int, ...] = Field(
        min_length=1, description="Ports that it may lead to, as the unit counts."
    )
    rest_path: str = Field(NOWHERE, description="Egress port of the safe state, or none.")
    baud_rate: int = Field(38400, gt=0, description="On a serial line, as set on the unit, baud.")
    switch_timeout_s: float = Field(
        5.0, gt=0, le=60, description="Longest wait for a connection to be made, s."
    )
    timeout_s: float = Field(1.0, gt=0, le=60, description="Longest wait for an answer, s.")

    @model_validator(mode="after")
    def _distinct_ports(self) -> Self:
        if len(set(self.egress)) < len(self.egress) or min(self.egress) <= self.ingress:
            raise ValueError(
                f"name each egress port once, numbers above the ingress ports'; not {self.egress}"
            )
        if self.rest_path not in self.paths:
            raise ValueError(f"rest_path {self.rest_path!r} is none of {', '.join(self.paths)}")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The egress ports as text, and ``none``."""
        return (*map(str, self.egress), NOWHERE)


@register("polatis", PolatisOptions, certainty="medium-high", wires=("tcp", "serial"))
class Polatis:
    """Polatis optical matrix switch, one ingress port of it (SCPI).

    Args:
        name: Name in the testbed file.
        resource: Where the unit is.
        options: Ports and safe path.
        connector: Makes the link.
    """

    def __init__(
        self, name: str, resource: str, options: PolatisOptions, connector: Connector
    ) -> None:
        self.name = name
        self._options = options
        self._transport = connector.transport(
            name, resource, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        self._transport.on_reopen = self._take_up_again

    async def open(self) -> Identity:
        """Open the link, check the model and its ports; connections stay as found.

        Raises:
            ReplyError: Not a Polatis switch.
            SettingError: A configured port is not there.
            TransportError: No link, or no answer.
        """
        await self._transport.open()
        return await self.identify()

    async def identify(self) -> Identity:
        """Ask who it is, and for its size; raises as ``open`` does."""
        async with self._transport.exclusive() as link:
            return await self._identify(link)

    def paths(self) -> Sequence[str]:
        """The configured egress ports as text, and ``none``."""
        return self._options.paths

    async def set_path(self, path: str) -> str:
        """Lead the ingress port to an egress port, or nowhere, and read back where it leads.

        Raises:
            SettingError: There is no such path; nothing was sent.
            RejectedError: The unit refused, or the egress port carries another ingress port.
            ReplyError: It leads elsewhere, or an answer does not parse.
            TransportError: Link lost; where it leads is unknown until read again.
        """
        if path not in self._options.paths:
            offered = ", ".join(self._options.paths)
            raise SettingError(self.name, f"path {path!r} is none of {offered}")
        async with self._transport.exclusive() as link:
            return await self._lead(link, path)

    async def read_path(self) -> str:
        """Read where the ingress port leads: an egress port, in use here or not, or ``none``.

        Raises:
            ReplyError: The answer does not parse.
            TransportError: Link lost.
        """
        async with self._transport.exclusive() as link:
            return await self._read(link, self._options.ingress)

    async def make_safe(self) -> None:
        """Lead the ingress port where the safe state has it."""

        async def rest(link: Dialogue) -> None:
            await self._lead(link, self._options.rest_path)

        await carry_out_all(self._transport, [rest])

    async def close(self) -> None:
        """Close the link; connections stay."""
        await self._transport.close()

    def health(self) -> Health:
        """Tell how the link has fared."""
        return self._transport.health()

    def actuators(self) -> Mapping[str, Actuator]:
        """None: a path is not a number."""
        return {}

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        if MAKER not in identity.manufacturer.upper():
            problem = "this is no Polatis switch: is it the instrument you configured?"
            raise ReplyError(self.name, problem, sent="*IDN?", received=str(identity))
        size = await link.query(SIZE)
        if not (found := PORTS.fullmatch(size)):
            problem = "not two numbers of ports: is it the instrument you configured?"
            raise ReplyError(self.name, problem, sent=SIZE, received=size)
        n_ingress, n_egress = map(int, found.groups())
        has_all = self._options.ingress <= n_ingress and all(
            n_ingress < port <= n_ingress + n_egress for port in self._options.egress
        )
        if not has_all:
            raise SettingError(
                self.name,
                f"its ingress ports are 1 to {n_ingress}, its egress ports {n_ingress + 1} to "
                f"{n_ingress + n_egress}: correct ingress or egress",
            )
        return identity

    async def _take_up_again(self, link: Dialogue) -> None:
        """After a lost link: same model; where the port leads is read, never assumed."""
        await self._identify(link)

    async def _lead(self, link: Dialogue, path: str) -> str:
        ingress = self._options.ingress
        if path != NOWHERE:
            await self._refuse_if_taken(link, path)
        to = "" if path == NOWHERE else path
        verb = "sub" if path == NOWHERE else "add"
        command = f":oxc:swit:conn:{verb} (@{ingress}),(@{to})"
        with unknown_if_lost(self.name, "the path"):
            await link.write("*CLS")  # what is in the queue then is this command's
            timeout_s = self._options.switch_timeout_s
            done = await link.query(f"{command};*OPC?", timeout_s=timeout_s)
            if done.strip() != "1":
                raise ReplyError(self.name, "not 1", sent=f"{command};*OPC?", received=done)
            errors = await pop_errors(link, ERRORS)
            read = await self._read(link, ingress)
        if read == path:
            return read
        if errors:
            raise RejectedError(self.name, "refused", sent=command, received=errors[0])
        raise ReplyError(self.name, f"port {ingress} leads elsewhere", sent=command, received=read)

    async def _refuse_if_taken(self, link: Dialogue, path: str) -> None:
        holder = await self._read(link, int(path))
        if holder not in (NOWHERE, str(self._options.ingress)):
            raise RejectedError(
                self.name, f"port {path} carries port {holder}: disconnect that first"
            )

    async def _read(self, link: Dialogue, port: int) -> str:
        question = f":oxc:swit:conn:port? {port}"
        reply = await link.query(question)
        if not (found := PORT.fullmatch(reply)):
            raise ReplyError(self.name, "not a port", sent=question, received=reply)
        number = int(found[1] or 0)
        return str(number) if number else NOWHERE
