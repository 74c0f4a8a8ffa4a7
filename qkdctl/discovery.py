"""What may be an instrument on this machine and at the hosts that the operator names.

Nothing is said to what is found, so that no instrument is disturbed: who it is, ``identify`` asks.
"""

import asyncio
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyvisa

SERIAL_BY_ID = Path("/dev/serial/by-id")
CONNECT_TIMEOUT_S = 1.0
VISA_TIMEOUT_S = 20.0

SERIAL_NAMES: Mapping[str, str] = {
    "Thorlabs_Polarization_Controller": "thorlabs-mpc320",
    "S-Fifteen": "S-Fifteen Instruments, such as sfifteen-tdc1",
    "Thorlabs": "Thorlabs",
}
"""Parts of the names that udev gives to serial ports, and what the first that fits suggests."""

PORTS: Mapping[int, tuple[str, str]] = {
    2000: ("tcp", "thorlabs-pm100d"),
    5025: ("tcp", "a SCPI instrument: keysight-n77xx, polatis, keysight-33500b, …"),
    5555: ("zmq", "idq-id900"),
    6060: ("zmq", "idq-id900 (its DataLink service)"),
    12000: ("tcp", "singlequantum-websq"),
    12345: ("tcp", "singlequantum-websq (its counts)"),
    41101: ("timetagger", "swabian-timetagger (a Time Tagger server)"),
    50000: ("tcp", "meerstetter-tec"),
}
"""Ports that instruments are known to listen on, how to write them, and what they suggest."""

USB_VENDORS: Mapping[int, str] = {
    0x1313: "Thorlabs, such as thorlabs-pm100d",
    0x1DDC: "ID Quantique",
    0x0957: "Agilent or Keysight",
    0x2A8D: "Keysight",
    0x0B21: "Yokogawa, such as yokogawa-gs200",
    0xF4EC: "Siglent, such as siglent-sdg",
}
"""Vendor numbers of USB test-and-measurement instruments."""


@dataclass(frozen=True)
class Found:
    """Something that may be an instrument.

    Attributes:
        resource: As a testbed file would name it.
        suggests: What it may be, or an empty text.
    """

    resource: str
    suggests: str


def run_scan(hosts: Sequence[str]) -> tuple[list[Found], list[str]]:
    """Look here and at hosts; returns what ``discover`` does."""
    return asyncio.run(discover(hosts))


async def discover(
    hosts: Sequence[str] = (), *, serial_by_id: Path = SERIAL_BY_ID
) -> tuple[list[Found], list[str]]:
    """Look at serial ports, VISA resources and the known ports of hosts.

    Args:
        hosts: Names or addresses to try; nobody else is knocked at.
        serial_by_id: Folder of the serial ports' stable names.

    Returns:
        What was found, and what could not be looked at.
    """
    remarks: list[str] = []
    serial = await asyncio.to_thread(_serial_ports, serial_by_id)
    visa = await _visa_resources(remarks)
    listening = await _listening(hosts)
    return [*serial, *visa, *listening], remarks


def _serial_ports(folder: Path) -> list[Found]:
    if not folder.is_dir():
        return []
    return [
        Found(f"serial://{port}", _suggestion(port.name, SERIAL_NAMES))
        for port in sorted(folder.iterdir())
    ]


def _suggestion(name: str, known: Mapping[str, str]) -> str:
    return next((kind for part, kind in known.items() if part.lower() in name.lower()), "")


async def _visa_resources(remarks: list[str]) -> list[Found]:
    try:
        async with asyncio.timeout(VISA_TIMEOUT_S):
            names = await asyncio.to_thread(_visa_names)
    except TimeoutError:
        remarks.append(f"VISA resources: no answer within {VISA_TIMEOUT_S:g} s")
        return []
    except (OSError, ValueError, pyvisa.errors.Error) as exc:
        remarks.append(f"VISA resources: {exc}")
        return []
    # Serial ports are listed by their stable names already.
    return [Found(f"visa://{n}", _vendor(n)) for n in names if not n.startswith("ASRL")]


def _visa_names() -> tuple[str, ...]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of optional libraries for buses that this machine lacks
        manager = pyvisa.ResourceManager("@py")
        try:
            return tuple(manager.list_resources())
        finally:
            manager.close()


def _vendor(resource: str) -> str:
    """Say what the vendor number of ``USB0::0x1313::…`` suggests."""
    parts = resource.split("::")
    if not parts[0].startswith("USB") or len(parts) < 2:
        return ""
    try:
        return USB_VENDORS.get(int(parts[1], 0), "")
    except ValueError:
        return ""


async def _listening(hosts: Iterable[str]) -> list[Found]:
    async with asyncio.TaskGroup() as tasks:
        tried = [
            (host, port, tasks.create_task(_accepts(host, port)))
            for host in hosts
            for port in PORTS
        ]
    return [
        Found(f"{PORTS[port][0]}://{host}:{port}", PORTS[port][1])
        for host, port, is_open in tried
        if is_open.result()
    ]


async def _accepts(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):  # a name that is not known is an OSError too
        return False
    return True
