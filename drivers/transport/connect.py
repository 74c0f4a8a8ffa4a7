"""From the resource string in the testbed file to a wire."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import SplitResult, urlsplit

from drivers.errors import SettingError
from drivers.transport.channel import Channel
from drivers.transport.framing import LINES, Framing
from drivers.transport.library import Library, LibraryLink, ThreadedLibrary
from drivers.transport.remote_serial import remote_serial_channel
from drivers.transport.serial import SerialChannel
from drivers.transport.tcp import TcpChannel
from drivers.transport.trace import Trace, TracedChannel
from drivers.transport.transport import Transport
from drivers.transport.visa import visa_channel
from drivers.transport.zeromq import ZeroMqChannel

MemoryPorts = Mapping[str, Callable[[], Channel | Library]]
SCHEMES = (
    "tcp://HOST:PORT, serial:///dev/NAME, socket://HOST:PORT or rfc2217://HOST:PORT (serial port "
    "behind a network), visa://RESOURCE, zmq://HOST:PORT, zmq-pair://HOST:PORT, memory:NAME"
)


class Connector:
    """Makes transports and channels; what they share is here: the trace and the memory ports.

    Args:
        trace: Traffic log, if wanted.
        memory: In-process instruments, wires or vendor libraries, by the name after ``memory:``.
    """

    def __init__(
        self, *, trace: Trace | None = None, memory: MemoryPorts = MappingProxyType({})
    ) -> None:
        self._trace = trace
        self._memory = memory

    def transport(
        self,
        instrument: str,
        resource: str,
        framing: Framing = LINES,
        *,
        timeout_s: float = 1.0,
        baud_rate: int = 9600,
    ) -> Transport:
        """Make the transport of one instrument; opens nothing.

        Raises:
            SettingError: The resource is malformed; the text says how to write it.
        """
        wire = self._wire(instrument, resource, baud_rate)
        return Transport(instrument, wire, framing, timeout_s=timeout_s, trace=self._trace)

    def channel(self, instrument: str, resource: str, *, baud_rate: int = 9600) -> Channel:
        """Make a bare channel, such as a tag stream; the trace shows the sizes of what passes.

        Raises:
            SettingError: The resource is malformed; the text says how to write it.
        """
        wire = self._wire(instrument, resource, baud_rate)
        if self._trace is None:
            return wire
        return TracedChannel(wire, self._trace, instrument, shows_content=False)

    def library(
        self,
        instrument: str,
        resource: str,
        importing: Callable[[], Any],
        *,
        timeout_s: float = 2.0,
    ) -> LibraryLink:
        """Make the link to an instrument that is reached through its vendor's library.

        Args:
            instrument: Its name.
            resource: ``memory:NAME`` for a simulated library; else the driver knows what it means.
            importing: Imports the library and returns it; ImportError says how to install it.
            timeout_s: Longest wait for one call, s.

        Raises:
            SettingError: There is no such library in memory.
        """
        scheme, _, rest = resource.partition(":")
        library: Library
        if scheme == "memory":
            port = self._memory_port(instrument, rest)
            if not isinstance(port, Library):
                raise SettingError(instrument, f"{resource} is a wire, not a library")
            library = port
        else:
            library = ThreadedLibrary(instrument, importing)
        return LibraryLink(instrument, library, timeout_s=timeout_s, trace=self._trace)

    def _wire(self, instrument: str, resource: str, baud_rate: int) -> Channel:
        scheme, _, rest = resource.partition(":")
        match scheme:
            case "tcp":
                return TcpChannel(*_host_and_port(instrument, resource))
            case "serial" if rest.startswith("///") and len(rest) > 3:
                return SerialChannel(rest.removeprefix("//"), baud_rate)
            case "serial+socket" | "serial+rfc2217" | "socket" | "rfc2217":
                _host_and_port(instrument, resource)
                return remote_serial_channel(resource.removeprefix("serial+"), baud_rate)
            case "visa" if rest.startswith("//") and "::" in rest:
                return visa_channel(rest.removeprefix("//"), baud_rate)
            case "zmq" | "zmq-pair":
                host, port = _host_and_port(instrument, resource)
                return ZeroMqChannel(host, port, is_request=scheme == "zmq")
            case "memory":
                wire = self._memory_port(instrument, rest)
                if isinstance(wire, Library):
                    raise SettingError(instrument, f"{resource} is a library, not a wire")
                return wire
        raise SettingError(instrument, f"resource {resource!r} is none of {SCHEMES}")

    def _memory_port(self, instrument: str, name: str) -> Channel | Library:
        if name not in self._memory:
            known = ", ".join(sorted(self._memory)) or "none"
            raise SettingError(
                instrument, f"memory:{name} names no simulated port here; there are: {known}"
            )
        return self._memory[name]()


def _host_and_port(instrument: str, resource: str) -> tuple[str, int]:
    try:
        parts: SplitResult = urlsplit(resource)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise SettingError(instrument, f"resource {resource!r}: {exc}") from exc
    if not host or not port or parts.path.strip("/") or parts.query:
        scheme = resource.partition(":")[0]
        raise SettingError(instrument, f"resource {resource!r} must read {scheme}://HOST:PORT")
    return host, port
