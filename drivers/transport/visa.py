"""Instruments behind VISA: USBTMC, GPIB, VXI-11, HiSLIP, raw sockets, serial."""

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from drivers.transport.channel import ChannelError
from drivers.transport.threaded import SLICE_S, ThreadedChannel

if TYPE_CHECKING:  # pyvisa takes a tenth of a second to import: only whoever uses it pays.
    from pyvisa.resources import MessageBasedResource

OPEN_TIMEOUT_S = 3.0
WRITE_TIMEOUT_S = 1.0
# A message whose read times out half-way is lost, and an aborted USBTMC read upsets instruments, so
# waiting for a message is cut into few slices.
MESSAGE_SLICE_S = 2.0

PEEK_BYTES = 4096

_manager_lock = threading.Lock()


class VisaPort:
    """One VISA resource. pyvisa-py is used unless ``PYVISA_LIBRARY`` names another library.

    Sockets and serial ports are streams: what has arrived is read at once, so that a timeout loses
    nothing. All others deliver messages, and are only asked for one after something was sent: an
    unasked read is an error to a SCPI instrument.
    """

    def __init__(self, resource: str, baud_rate: int) -> None:
        self._name = resource
        self._baud_rate = baud_rate
        self._resource: MessageBasedResource | None = None
        self._socket: socket.socket | None = None
        self._is_asked = False
        self._never = threading.Event()

    def open(self) -> None:
        """Connect, and clear a half-finished exchange of an earlier session."""
        import pyvisa

        with _manager_lock:
            manager = pyvisa.ResourceManager(os.environ.get("PYVISA_LIBRARY", "@py"))
        resource = manager.open_resource(self._name, open_timeout=round(1000 * OPEN_TIMEOUT_S))
        if not isinstance(resource, pyvisa.resources.MessageBasedResource):
            resource.close()
            raise ChannelError(f"{self._name} is not a resource that takes commands")
        self._resource = resource
        interface = pyvisa.constants.InterfaceType
        self._is_asked = False
        self._is_serial = resource.interface_type == interface.asrl
        self._is_stream = self._is_serial or resource.resource_class == "SOCKET"
        resource.timeout = 1000 * (SLICE_S if self._is_stream else MESSAGE_SLICE_S)
        if self._is_serial:
            cast(Any, resource).baud_rate = self._baud_rate
        elif self._is_stream:
            self._adopt_socket(resource)
        else:
            with contextlib.suppress(pyvisa.VisaIOError):  # Not every interface can be cleared.
                resource.clear()

    def write(self, data: bytes) -> None:
        """Hand over all of ``data``."""
        if self._socket is not None:
            self._check_peer(self._socket)
            if not _poll(self._socket, select.POLLOUT, WRITE_TIMEOUT_S):
                raise ChannelError("the other side takes no more bytes")
        n_written = self._opened().write_raw(data)
        if n_written != len(data):
            raise ChannelError(f"only {n_written} of {len(data)} bytes were taken")
        self._is_asked = True

    def read(self) -> bytes:
        """Wait one slice for bytes of a stream or for one message."""
        if self._is_stream:
            return self._read_stream()
        if not self._is_asked:
            self._never.wait(SLICE_S)
            return b""
        message = self._unless_timeout(lambda resource: resource.read_raw())
        self._is_asked = not message
        return message

    def close(self) -> None:
        """Disconnect."""
        resource, self._resource, self._socket = self._resource, None, None
        if resource is not None:
            resource.close()

    def _read_stream(self) -> bytes:
        if self._socket is not None:
            if not _poll(self._socket, select.POLLIN, SLICE_S):
                return b""
            self._check_peer(self._socket)
        # One byte at a time until it is known how many there are: pyvisa-py drops what it has when
        # a longer read times out.
        first = self._unless_timeout(lambda resource: _read(resource, 1))
        n_more = self._n_waiting() if first else 0
        return first + _read(self._opened(), n_more) if n_more else first

    def _n_waiting(self) -> int:
        if self._socket is not None:
            return len(_peek(self._socket) or b"")
        return cast(Any, self._opened()).bytes_in_buffer if self._is_serial else 0

    def _unless_timeout(self, read: "Callable[[MessageBasedResource], bytes]") -> bytes:
        import pyvisa

        try:
            return read(self._opened())
        except pyvisa.VisaIOError as exc:
            if exc.error_code == pyvisa.constants.StatusCode.error_timeout:
                return b""
            raise

    def _opened(self) -> "MessageBasedResource":
        if self._resource is None:
            raise ChannelError("not connected")
        return self._resource

    def _adopt_socket(self, resource: "MessageBasedResource") -> None:
        """Look at pyvisa-py's socket too: on its own it notices neither refusal nor goodbye."""
        session = getattr(resource.visalib, "sessions", {}).get(resource.session)
        sock = getattr(session, "interface", None)
        if not isinstance(sock, socket.socket):
            return
        if error := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise ChannelError(f"cannot connect to {self._name}: {os.strerror(error)}")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket = sock

    def _check_peer(self, sock: socket.socket) -> None:
        if _peek(sock) == b"":
            raise ChannelError("the other side closed the connection")


def visa_channel(resource: str, baud_rate: int) -> ThreadedChannel:
    """Make the channel of a VISA resource."""
    return ThreadedChannel(resource, VisaPort(resource, baud_rate))


def _read(resource: "MessageBasedResource", n_bytes: int) -> bytes:
    from pyvisa.constants import StatusCode

    with resource.ignore_warning(StatusCode.success_max_count_read):
        data, _ = resource.visalib.read(resource.session, n_bytes)
    return bytes(data)


def _poll(sock: socket.socket, event: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(sock, event)
    return bool(poller.poll(1000 * timeout_s))


def _peek(sock: socket.socket) -> bytes | None:
    """What waits in the socket, left there; empty at its end, None if nothing waits."""
    try:
        return sock.recv(PEEK_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
