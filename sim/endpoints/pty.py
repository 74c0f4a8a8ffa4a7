"""A serial line: a pseudo-terminal behind a stable symbolic link."""

import asyncio
import os
import tty
from pathlib import Path
from typing import Final, Never

from sim.endpoints.service import Outgoing, ServedInstrument, deliver
from sim.wire import MAIN

_CHUNK: Final = 4096

HELD_LIMIT_BYTES: Final = 1 << 18
"""What waits for a client that does not read; what comes on top is lost."""


class PtyEndpoint:
    """Serves one port of an instrument on a pseudo-terminal.

    The path is a symbolic link to the terminal; it disappears when the cable is pulled and comes
    back with a new terminal. As a USB serial port does, it holds what the client does not read in
    time, up to a limit. The terminal is raw from the start, and stays alive without a client.

    Args:
        instrument: The instrument.
        path: Where the link appears; one left over from an earlier run is replaced.
        port: The port.
    """

    def __init__(self, instrument: ServedInstrument, path: Path, port: str = MAIN) -> None:
        self.path = path
        self._instrument = instrument
        self._port = port
        self._master: int | None = None
        self._slave: int | None = None
        self._held = bytearray()

    @property
    def resource(self) -> str:
        """Where clients find it."""
        return f"serial://{self.path}"

    async def open(self) -> None:
        """Make a new terminal and link to it.

        Raises:
            FileExistsError: Something other than a symbolic link is in the way.
        """
        if self._master is not None:
            return
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        if self.path.is_symlink():
            self.path.unlink()
        self.path.symlink_to(os.ttyname(self._slave))
        asyncio.get_running_loop().add_reader(self._master, self._read, self._master)

    async def close(self) -> None:
        """Pull the cable: the link is gone and clients get an error at once."""
        if self._master is None or self._slave is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._master)
        loop.remove_writer(self._master)
        self._held.clear()
        self.path.unlink(missing_ok=True)
        os.close(self._master)
        os.close(self._slave)
        self._master = self._slave = None

    async def serve(self) -> Never:
        """Send replies until cancelled."""
        await deliver(self._instrument, self._port, self._write)

    def _read(self, master: int) -> None:
        try:
            data = os.read(master, _CHUNK)
        except BlockingIOError:
            return
        self._instrument.receive(data, self._port)

    def _write(self, reply: Outgoing) -> None:
        if self._master is None or len(self._held) + len(reply.data) > HELD_LIMIT_BYTES:
            return
        self._held += reply.data
        self._flush(self._master)

    def _flush(self, master: int) -> None:
        """Write what the terminal takes, and the rest when it takes more."""
        try:
            written = os.write(master, self._held)
        except BlockingIOError:
            written = 0
        del self._held[:written]
        loop = asyncio.get_running_loop()
        if self._held:
            loop.add_writer(master, self._flush, master)
        else:
            loop.remove_writer(master)
