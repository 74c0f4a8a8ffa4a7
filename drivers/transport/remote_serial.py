"""Instruments on a serial port of another machine, through pyserial's own URLs."""

import contextlib

import serial

from drivers.transport.threaded import SLICE_S, ThreadedChannel

# Longest wait for the other machine to take a command, s.
WRITE_TIMEOUT_S = 1.0


class RemoteSerialPort:
    """A ``socket://`` or ``rfc2217://`` port of pyserial, which blocks."""

    def __init__(self, url: str, baud_rate: int) -> None:
        self._port = serial.serial_for_url(url, baud_rate, do_not_open=True)
        self._port.timeout = SLICE_S
        self._port.write_timeout = WRITE_TIMEOUT_S

    def open(self) -> None:
        """Connect to the other machine."""
        self._port.open()

    def write(self, data: bytes) -> None:
        """Hand over all of ``data``."""
        self._port.write(data)

    def read(self) -> bytes:
        """Wait one slice for a byte, then take what came with it."""
        first = self._port.read(1)
        more = self._port.in_waiting if first else 0
        return first + self._port.read(more) if more else first

    def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(OSError):
            self._port.close()


def remote_serial_channel(url: str, baud_rate: int) -> ThreadedChannel:
    """Make the channel of a pyserial URL."""
    return ThreadedChannel(url, RemoteSerialPort(url, baud_rate))
