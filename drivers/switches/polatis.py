"""Polatis optical matrix switches over SCPI: one ingress port of the matrix and where it leads.

By raw socket (port 5025) or serial line (38400 baud). Sources: three public drivers of users, one
of which quotes the manual's syntax, and the public ``devicecontrol-polatis``.

Ports are numbered through: the ingress ports from 1 on, the egress ports after them, as
``:oxc:swit:size?`` counts them. The path of this driver is the egress port that the configured
ingress port leads to, as text, or ``none``. Other connections of the matrix belong to somebody
else: a path to an egress port that carries another ingress port is refused before it is asked for,
and no command is used that touches more than one connection. Where that befalls ``rest_path``,
``make_safe`` leads the light nowhere.

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

import logging
import re
from typing import Final, Self

from pydantic import Field, model_validator

from drivers.errors import RejectedError, ReplyError, SettingError
from drivers.outputs import unknown_if_lost
from drivers.registry import Options, register
from drivers.roles import Identity
from drivers.scpi import pop_errors, query_identity
from drivers.switches.path_switch import PathSwitch
from drivers.transport.connect import Connector
from drivers.transport.transport import Dialogue

NOWHERE: Final = "none"
MAKER = "POLATIS"
ERRORS = ":syst:err:all?"
SIZE = ":oxc:swit:size?"
PORT = re.compile(r'\s*"?\s*([0-9]{0,4})\s*"?\s*')
PORTS = re.compile(r"\s*([0-9]{1,4})\s*,\s*([0-9]{1,4})\s*")

log = logging.getLogger(__name__)


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
class Polatis(PathSwitch):
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
        transport = connector.transport(
            name, resource, timeout_s=options.timeout_s, baud_rate=options.baud_rate
        )
        super().__init__(name, transport, options.paths, options.rest_path)
        self._options = options

    async def _identify(self, link: Dialogue) -> Identity:
        identity = await query_identity(link)
        if MAKER not in identity.manufacturer.upper():
            raise self._another_model("Polatis switch", sent="*IDN?", received=identity)
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

    async def _choose(self, link: Dialogue, path: str) -> str:
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
            read = await self._read(link)
        if read == path:
            return read
        if errors:
            raise RejectedError(self.name, "refused", sent=command, received=errors[0])
        raise ReplyError(self.name, f"port {ingress} leads elsewhere", sent=command, received=read)

    async def _rest(self, link: Dialogue) -> None:
        """Choose the path of the safe state, or ``none`` where that is refused."""
        try:
            await super()._rest(link)
        except RejectedError as exc:
            log.warning("%s: %s; the light is led nowhere instead", self.name, exc.problem)
            await self._choose(link, NOWHERE)

    async def _refuse_if_taken(self, link: Dialogue, path: str) -> None:
        holder = await self._read_port(link, int(path))
        if holder not in (NOWHERE, str(self._options.ingress)):
            raise RejectedError(
                self.name, f"port {path} carries port {holder}: disconnect that first"
            )

    async def _read(self, link: Dialogue) -> str:
        """Read where the ingress port leads: an egress port, in use here or not, or ``none``."""
        return await self._read_port(link, self._options.ingress)

    async def _read_port(self, link: Dialogue, port: int) -> str:
        question = f":oxc:swit:conn:port? {port}"
        reply = await link.query(question)
        if not (found := PORT.fullmatch(reply)):
            raise ReplyError(self.name, "not a port", sent=question, received=reply)
        number = int(found[1] or 0)
        return str(number) if number else NOWHERE
