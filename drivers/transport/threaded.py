"""Blocking libraries: one thread per instrument, short slices of waiting, a flag to end them."""

import asyncio
import functools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

from drivers.transport.channel import ChannelError

# Longest time that a library may keep its thread in one read, s.
SLICE_S = 0.2

_T = TypeVar("_T")


class BlockingPort(Protocol):
    """A handle of a blocking library. Whatever it raises means that the link is lost."""

    def open(self) -> None:
        """Connect."""
        ...

    def write(self, data: bytes) -> None:
        """Hand over all of ``data``."""
        ...

    def read(self) -> bytes:
        """Wait one slice for the next bytes; empty if none came. Half a reply is not lost."""
        ...

    def close(self) -> None:
        """Disconnect; also called after a failed ``open``."""
        ...


class ThreadedChannel:
    """A channel over a blocking port, which only its own thread ever touches.

    The thread lives from ``open`` to ``close`` and does not hold up the end of the program. A
    cancelled wait returns at once; the thread notices within a slice, and the next use of the port
    waits for it.
    """

    def __init__(self, name: str, port: BlockingPort) -> None:
        self._name = name
        self._port = port
        self._worker: _Worker | None = None
        self._ended: Future[None] | None = None

    async def open(self) -> None:
        """Start the thread and connect."""
        await self._wait_for_end()  # One thread per instrument: an old one ends first.
        self._worker = _Worker(self._name)
        await self._worker.call(self._port.open)

    async def send(self, data: bytes) -> None:
        """Hand all of ``data`` to the library."""
        await self._running().call(functools.partial(self._port.write, data))

    async def receive(self) -> bytes:
        """Wait for the next bytes."""
        is_abandoned = threading.Event()

        def read() -> bytes:
            data = b""
            while not data and not is_abandoned.is_set():
                data = self._port.read()
            return data

        try:
            return await self._running().call(read)
        finally:
            is_abandoned.set()

    async def close(self) -> None:
        """Disconnect; the thread ends once the library lets go of it."""
        worker, self._worker = self._worker, None
        if worker is not None:
            self._ended = worker.end_with(self._port.close)
        await self._wait_for_end()

    async def _wait_for_end(self) -> None:
        if self._ended is not None:
            # Unlike awaiting the future itself, this leaves it alone when cancelled.
            await asyncio.wait([asyncio.wrap_future(self._ended)])

    def _running(self) -> "_Worker":
        if self._worker is None:
            raise ChannelError("not connected")
        return self._worker


class _Worker:
    """A thread that does jobs in order and maps whatever they raise to ChannelError."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None]
        self._jobs = queue.SimpleQueue()
        self._ended: Future[None] = Future()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    async def call(self, job: Callable[[], _T]) -> _T:
        """Have ``job`` done and wait for its result."""
        return await asyncio.wrap_future(self._submit(job))

    def end_with(self, job: Callable[[], None]) -> Future[None]:
        """Do ``job`` as the last one, whether it succeeds or not."""
        self._submit(job)
        self._jobs.put(None)
        return self._ended

    def _submit(self, job: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        self._jobs.put((job, future))
        return future

    def _run(self) -> None:
        while (entry := self._jobs.get()) is not None:
            job, future = entry
            if future.set_running_or_notify_cancel():
                _settle(job, future)
        self._ended.set_result(None)


def _settle(job: Callable[[], _T], future: Future[_T]) -> None:
    try:
        result = job()
    except ChannelError as exc:
        future.set_exception(exc)
    except Exception as exc:  # noqa: BLE001  # pyvisa-py raises anything, bare Exception included
        error = ChannelError(f"{type(exc).__name__}: {exc}")
        error.__cause__ = exc
        future.set_exception(error)
    else:
        future.set_result(result)
