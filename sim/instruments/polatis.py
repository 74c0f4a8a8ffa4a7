"""Command set of the Polatis optical matrix switches: SCPI, connections of single ports.

Lines end in LF, answers in CR LF. Ingress ports count from 1, egress ports go on after them. A set
answers nothing; ``*OPC?`` in the same message is answered once the mirrors stand.

Assumed, for want of a manual: a connection that is added takes both of its ports from where they
led before; taking away what is not there is no error; the answer for a port that leads nowhere is
empty quotes; no connections after power-up; the numbers of errors are SCPI's. Not coupled to the
optics, and without the commands for power meters, networks and disabled ports.
"""

import re
from dataclasses import dataclass
from math import inf
from typing import ClassVar, Final

from sim.record import Record
from sim.scpi_unit import LateAnswer, RefusedError, ScpiUnit, error_text
from sim.twin import Twin
from sim.wire import MAIN

NOWHERE: Final = "none"

_LISTS: Final = re.compile(r"\(@([0-9, ]*)\)\s*,\s*\(@([0-9, ]*)\)")


@dataclass(frozen=True)
class PolatisSettings:
    """One switch.

    Attributes:
        n_ingress: Number of ingress ports.
        n_egress: Number of egress ports.
        ingress: The port that ``outputs`` speaks of.
        manufacturer: First field of its identity.
        serial: Serial number.
        firmware: Firmware version.
        switch_s: Time that the mirrors take, s.
        boot_s: Time after power-up in which it hears nothing, s.
    """

    acts_on: ClassVar[str | None] = None
    ports: ClassVar[tuple[str, ...]] = (MAIN,)

    n_ingress: int = 16
    n_egress: int = 16
    ingress: int = 1
    manufacturer: str = "Polatis"
    serial: str = "002414"
    firmware: str = "6.5.2.18"
    switch_s: float = 0.025
    boot_s: float = 0.5

    def front_end(self, name: str, twin: Twin, record: Record) -> "Polatis":
        """Build the switch; it leads light that the twin knows nothing of."""
        return Polatis(name, record, self)


class Polatis(ScpiUnit):
    """One switch.

    Args:
        name: What the record calls it.
        record: Where commands are noted.
        settings: The unit.
    """

    end: ClassVar[bytes] = b"\r\n"
    queue_length: ClassVar[int] = 20
    no_error: ClassVar[str] = '0,"No error"'

    def __init__(self, name: str, record: Record, settings: PolatisSettings | None = None) -> None:
        self._settings = settings or PolatisSettings()
        super().__init__(
            name,
            record,
            {
                "*IDN?": self._identify,
                "*OPC?": self._is_complete,
                "*CLS": self._clear_status,
                "OXC:SWITch:SIZE?": self._tell_size,
                "OXC:SWITch:CONNect:ADD": self._add,
                "OXC:SWITch:CONNect:SUB": self._take_away,
                "OXC:SWITch:CONNect:ONLY": self._set_all,
                "OXC:SWITch:CONNect:STATe?": self._tell_all,
                "OXC:SWITch:CONNect:PORT?": self._tell_port,
                "OXC:SWITch:DISConnect:ALL": self._take_all_away,
                "SYSTem:ERRor:ALL?": self._tell_errors,
                "SYSTem:ERRor[:NEXT]?": self._next_error,
            },
            self._settings.boot_s,
        )
        self._start(0.0)

    def outputs(self, now_s: float) -> dict[str, float | bool | str]:
        """Return where the ingress port in use leads."""
        return {"path": str(self._leads_to.get(self._settings.ingress, NOWHERE))}

    def _start(self, now_s: float) -> None:
        """Come up without connections."""
        self._leads_to: dict[int, int] = {}
        self._still_s = -inf

    def _identify(self, argument: str, now_s: float) -> str:
        unit = self._settings
        model = f"N-OST-{unit.n_ingress}x{unit.n_egress}-LA1-DMHNS"
        return f"{unit.manufacturer},{model},{unit.serial},{unit.firmware}"

    def _is_complete(self, argument: str, now_s: float) -> LateAnswer:
        return LateAnswer("1", max(0.0, self._still_s - now_s))

    def _tell_size(self, argument: str, now_s: float) -> str:
        return f"{self._settings.n_ingress},{self._settings.n_egress}"

    def _add(self, argument: str, now_s: float) -> None:
        ingress, egress = self._lists(argument)
        if not ingress or len(ingress) != len(egress):
            raise RefusedError(-109)
        for n_in, n_out in zip(ingress, egress, strict=True):
            self._record.tell(now_s, self._name, "path", str(n_out), channel=n_in)
            self._leads_to = {i: o for i, o in self._leads_to.items() if o != n_out}
            self._leads_to[n_in] = n_out
        self._still_s = now_s + self._settings.switch_s

    def _take_away(self, argument: str, now_s: float) -> None:
        ingress, egress = self._lists(argument)
        if not ingress:
            raise RefusedError(-109)
        for n_in in ingress:
            self._record.tell(now_s, self._name, "path", NOWHERE, channel=n_in)
            if not egress or self._leads_to.get(n_in) in egress:
                self._leads_to.pop(n_in, None)
        self._still_s = now_s + self._settings.switch_s

    def _set_all(self, argument: str, now_s: float) -> None:
        self._lists(argument)
        self._leads_to.clear()
        self._add(argument, now_s)

    def _take_all_away(self, argument: str, now_s: float) -> None:
        for n_in in self._leads_to:
            self._record.tell(now_s, self._name, "path", NOWHERE, channel=n_in)
        self._leads_to.clear()
        self._still_s = now_s + self._settings.switch_s

    def _tell_all(self, argument: str, now_s: float) -> str:
        lists = (self._leads_to.keys(), self._leads_to.values())
        return ",".join(f"(@{','.join(map(str, ports))})" for ports in lists)

    def _tell_port(self, argument: str, now_s: float) -> str:
        port = int(argument) if argument.isascii() and argument.isdigit() else 0
        if not 1 <= port <= self._settings.n_ingress + self._settings.n_egress:
            raise RefusedError(-222)
        comes_from = {n_out: n_in for n_in, n_out in self._leads_to.items()}
        return f'"{self._leads_to.get(port, comes_from.get(port, ""))}"'

    def _tell_errors(self, argument: str, now_s: float) -> str:
        entries = [error_text(code) for code in self._errors]
        self._errors.clear()
        return ",".join(entries) or self.no_error

    def _lists(self, argument: str) -> tuple[list[int], list[int]]:
        """Return the ingress and the egress ports of an argument, each in range."""
        found = _LISTS.fullmatch(argument)
        if found is None:
            raise RefusedError(-109)
        n_in, n_out = self._settings.n_ingress, self._settings.n_egress
        ingress, egress = (
            [int(p) for p in each.split(",") if p.strip()] for each in found.groups()
        )
        if not (
            all(1 <= p <= n_in for p in ingress) and all(n_in < p <= n_in + n_out for p in egress)
        ):
            raise RefusedError(-222)
        return ingress, egress
