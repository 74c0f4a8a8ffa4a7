"""Instruments with a TCP socket."""

import asyncio
import socket

from drivers.transport.channel import ChannelError

READ_BYTES = 1 << 16
# A peer that lost power sends no goodbye: probe after 30 s of silence, give up 30 s later.
KEEPALIVE_IDLE_S = 30
KEEPALIVE_INTERVAL_S = 10
KEEPALIVE_PROBES = 3


class TcpChannel:
    """A TCP connection; notices at once when the other side closes it."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
