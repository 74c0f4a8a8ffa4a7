"""A serial line: a pseudo-terminal behind a stable symbolic link."""

import asyncio
import os
import tty
from pathlib import Path
from typing import Final, Never

from sim.endpoints.service import Outgoing, ServedInstrument, deliver
from sim.wire import MAIN

_CHUNK: Final = 4096


class PtyEndpoint:
    """Serves one port of an instrument on a pseudo-terminal.

    The path is a symbolic link to the terminal; it disappears when the cable is pulled and comes
    back with a new terminal. As on a serial line without flow control, what the client does not
    read in time is lost. The terminal is raw from the start, and stays alive without a client.

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
        asyncio.get_running_loop().remove_reader(self._master)
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
        if self._master is None:
            return
        try:
            os.write(self._master, reply.data)
        except BlockingIOError:
            return  # the client's buffer is full: overrun
