"""Instruments on a serial port of this machine."""

import asyncio
import contextlib
import errno
import os
import termios

import serial

from drivers.transport.channel import ChannelError
from drivers.transport.inbox import Inbox

READ_BYTES = 1 << 16


class SerialChannel:
    """A serial port, 8N1, on the event loop; nobody else may open it meanwhile.

    The path may be a link that comes and goes with the instrument: each ``open`` looks anew.
    Ports without modem lines (pseudo-terminals, many USB adapters) are fine.
    """

    def __init__(self, path: str, baud_rate: int) -> None:
        self._path = path
        self._baud_rate = baud_rate
        self._port: serial.Serial | None = None
        self._inbox = Inbox()
        self._is_listening = False

    async def open(self) -> None:
        """Open and set up the port; what it had received before is dropped."""
        loop = asyncio.get_running_loop()
        # In a thread, since a half-dead USB adapter may take seconds to refuse.
        opening = loop.run_in_executor(None, self._open_port)
        try:
            self._port = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_when_open)
            raise
        except (OSError, ValueError, termios.error) as exc:
            raise ChannelError(f"cannot open {self._path}: {_reason(exc)}") from exc
        self._inbox = Inbox()
        self._listen()

    async def send(self, data: bytes) -> None:
        """Write all of ``data``, waiting while the port does not take it."""
        fd = self._open_fd()
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(fd, rest) :]
            except BlockingIOError:
                await _until_writable(fd)
            except OSError as exc:
                raise ChannelError(f"{self._path}: {exc}") from exc

    async def receive(self) -> bytes:
        """Wait for the next bytes."""
        self._open_fd()
        data = await self._inbox.get()
        self._listen()
        return data

    def take_arrived(self) -> bytes:
        """Take what arrived unasked."""
        self._open_fd()
        data = self._inbox.take()
        self._listen()
        return data

    async def close(self) -> None:
        """Close the port; what was not sent yet is dropped, since waiting for it could block."""
        port, self._port = self._port, None
        if port is None:
            return
        self._ignore(port.fileno())
        with contextlib.suppress(OSError, termios.error):
            port.reset_output_buffer()
        with contextlib.suppress(OSError):
            port.close()

    def _open_port(self) -> serial.Serial:
        return serial.Serial(self._path, self._baud_rate, exclusive=True)

    def _open_fd(self) -> int:
        if self._port is None:
            raise ChannelError(f"{self._path} is not open")
        return self._port.fileno()

    def _listen(self) -> None:
        if not (self._is_listening or self._inbox.is_full or self._inbox.has_ended):
            fd = self._open_fd()
            asyncio.get_running_loop().add_reader(fd, self._take_from_port, fd)
            self._is_listening = True

    def _ignore(self, fd: int) -> None:
        if self._is_listening:
            asyncio.get_running_loop().remove_reader(fd)
            self._is_listening = False

    def _take_from_port(self, fd: int) -> None:
        try:
            data = os.read(fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError as exc:
            self._inbox.end(f"{self._path}: {exc}")
        else:
            if data:
                self._inbox.put(data)
            else:
                self._inbox.end(f"{self._path} was disconnected")
        if self._inbox.is_full or self._inbox.has_ended:
            self._ignore(fd)


async def _until_writable(fd: int) -> None:
    loop = asyncio.get_running_loop()
    is_writable = asyncio.Event()
    loop.add_writer(fd, is_writable.set)
    try:
        await is_writable.wait()
    finally:
        loop.remove_writer(fd)


def _close_when_open(opening: asyncio.Future[serial.Serial]) -> None:
    """Close a port that was opened after everybody had gone."""
    if not opening.cancelled() and opening.exception() is None:
        opening.result().close()


def _reason(error: Exception) -> str:
    """Say why a port did not open; pyserial's own text repeats the path and the number."""
    match error:
        case OSError(errno=errno.EAGAIN):
            return "another program holds its lock"
        case OSError(errno=int(number)):
            return os.strerror(number)
        case _:
            return str(error)
