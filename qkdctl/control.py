"""The control API: what local clients ask of a daemon, over a Unix socket."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.errors import InstrumentError, SettingError
from qkdctl.control_socket import (
    ControlSocket,
    ControlSocketError,
    SocketInUseError,
    accept_clients,
)
from qkdctl.jsonrpc import (
    MAX_LINE,
    LineTooLongError,
    Outbox,
    RequestId,
    error_line,
    notification_line,
    parse_request,
    parse_request_id,
    parse_verb,
    read_line,
    result_line,
)
from qkdctl.verbs import Cancel, ErrorCode, Json, OperationError, Operations, Parameters, Verb

__all__ = ["ControlServer", "ControlSocketError", "SocketInUseError"]

log = logging.getLogger(__name__)

MAX_CLIENTS = 32
MAX_REQUESTS = 16
"""Requests that one client may have under way."""

FLUSH_S = 1.0
"""How long a client may take to read its last answers."""


@dataclass(eq=False)
class Job:
    """One request that is being carried out."""

    request_id: RequestId
    name: str
    verb: Verb
    parameters: Parameters
    task: asyncio.Task[None] | None = None
    was_cancelled: bool = False

    def cancel(self) -> None:
        """Cancel once: a second cancellation would cut short what restores the bench."""
        if self.task is not None and not self.was_cancelled:
            self.was_cancelled = True
            self.task.cancel()


class ControlServer:
    """Lets local clients ask a daemon for the verbs of the table.

    A request is carried out to its end even when its client goes away; only a subscription ends
    with its client. Nothing that a client sends ends the server.

    Attributes:
        path: Where the socket is, or shall be.
    """

    def __init__(self, path: Path, operations: Operations) -> None:
        """Args: where the socket shall be, and what carries the verbs out."""
        self._operations = operations
        self.path = path
        self._socket: ControlSocket | None = None
        self._clients = 0
        self._jobs: set[Job] = set()

    def claim(self) -> None:
        """Make the socket, before any instrument is touched; safe to repeat.

        Clients may connect from here on, and are answered once ``serve`` runs. Whoever claims
        releases, at the very end: until then no other daemon can start for this link, and
        ``qkdctl stop`` waits.

        Raises:
            SocketInUseError: Another daemon runs for this link.
            ControlSocketError: The socket cannot be made.
        """
        if self._socket is None:
            self._socket = ControlSocket(self.path)

    def release(self) -> None:
        """Remove the socket; safe to repeat."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def serve(self) -> None:
        """Answer clients until cancelled, then tell those that wait that the daemon stops.

        Raises:
            ControlSocketError: As ``claim``, if that was not called before; then the socket is
                also released here.
        """
        is_claimed = self._socket is not None
        self.claim()
        try:
            async with asyncio.TaskGroup() as tasks:
                await self._accept(tasks)
        finally:
            if not is_claimed:
                self.release()

    async def _accept(self, tasks: asyncio.TaskGroup) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = Connection(self._operations, reader, writer, tasks, self._jobs)
            await self._serve_client(connection)

        if self._socket is None:
            raise RuntimeError("the control socket is not claimed")
        await accept_clients(
            self._socket.listener, serve, tasks, name="control client", limit=MAX_LINE
        )

    async def _serve_client(self, connection: "Connection") -> None:
        self._clients += 1
        try:
            if self._clients > MAX_CLIENTS:
                await connection.turn_away()
            else:
                await connection.serve()
        finally:
            self._clients -= 1


class Connection:
    """One client: reads its requests, starts jobs, sends what they say."""

    def __init__(
        self,
        operations: Operations,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        tasks: asyncio.TaskGroup,
        jobs: set[Job],
    ) -> None:
        """Take over an accepted connection.

        Args:
            operations: Carries the verbs out.
            reader: From the client.
            writer: To the client.
            tasks: Where jobs run, so that they outlive the client.
            jobs: Those of all clients.
        """
        self._operations = operations
        self._reader = reader
        self._writer = writer
        self._tasks = tasks
        self._all_jobs = jobs
        self._jobs: dict[RequestId, Job] = {}
        self._outbox = Outbox()
        self._peer = describe_peer(writer)

    async def turn_away(self) -> None:
        """Say that there are too many clients, and hang up."""
        limit = f"{MAX_CLIENTS} clients are connected, which is the limit"
        self._refuse(None, OperationError(ErrorCode.BUSY, limit, "close one of them"))
        await self._hang_up()

    async def serve(self) -> None:
        """Serve the client until it goes away."""
        try:
            async with asyncio.TaskGroup() as tasks:
                sender = tasks.create_task(self._send(), name="control sender")
                await self._listen()
                await self._end_jobs()
                sender.cancel()
        except* OSError:  # the client is gone: its jobs go on, though nobody hears of them
            self._outbox.close()
        finally:
            await self._end_jobs()
            await self._hang_up()

    async def _send(self) -> None:
        while True:
            self._writer.write(await self._outbox.take())
            await self._writer.drain()

    async def _end_jobs(self) -> None:
        """End what lives with the client; wait for the rest, if there is anybody to tell."""
        for job in self._jobs.values():
            if job.verb.lives_with_client:
                job.cancel()
        tasks = {job.task for job in self._jobs.values() if job.task is not None}
        if tasks and not self._outbox.is_closed:
            await asyncio.wait(tasks)

    async def _hang_up(self) -> None:
        with suppress(OSError):  # a timeout is one, too
            async with asyncio.timeout(FLUSH_S):
                self._writer.writelines(self._outbox.drain())
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()

    async def _listen(self) -> None:
        while True:
            await self._outbox.has_room()
            try:
                line = await read_line(self._reader)
            except LineTooLongError:
                text = f"a request may have {MAX_LINE} bytes and this one has more"
                self._refuse(None, OperationError(ErrorCode.INVALID_REQUEST, text))
                continue
            if line is None:
                return
            if line.strip():
                self._take(line)

    def _take(self, line: bytes) -> None:
        """Start what a line asks for, or answer what is wrong with it."""
        request_id = None
        try:
            request = parse_request(line)
            request_id = parse_request_id(request)
            self._start(request_id, request)
        except OperationError as exc:
            self._refuse(request_id, exc)

    def _start(self, request_id: RequestId, request: Mapping[str, Any]) -> None:
        name, verb = parse_verb(request)
        parameters = verb.parse(name, request.get("params"))
        if request_id in self._jobs:
            raise OperationError(
                ErrorCode.INVALID_REQUEST, f"request {request_id!r} is still under way"
            )
        if len(self._jobs) >= MAX_REQUESTS:
            raise OperationError(
                ErrorCode.BUSY, f"{MAX_REQUESTS} requests are under way, which is the limit"
            )
        job = Job(request_id, name, verb, parameters)
        self._jobs[request_id] = job
        self._all_jobs.add(job)
        job.task = self._tasks.create_task(self._run(job), name=f"control {name}")

    async def _run(self, job: Job) -> None:
        """Carry a job out and answer, whatever becomes of it."""
        if job.verb.changes:
            log.info("%s(%s) asked by %s", job.name, job.parameters, self._peer)
        try:
            self._outbox.answer(result_line(job.request_id, await self._carry_out(job)))
        except asyncio.CancelledError:
            self._fail(job, _cut_short(job))
            raise
        except OperationError as exc:
            self._fail(job, exc)
        except SettingError as exc:
            self._fail(job, OperationError(ErrorCode.REFUSED, str(exc)))
        except InstrumentError as exc:
            self._fail(job, OperationError(ErrorCode.INSTRUMENT, str(exc)))
        except Exception:  # no request may end the daemon, not even by a mistake of our own
            log.exception("%s asked by %s met a mistake in the daemon", job.name, self._peer)
            text = f"{job.name} met a mistake in the daemon"
            cure = "its log has the details"
            self._refuse(job.request_id, OperationError(ErrorCode.INTERNAL, text, cure))
        finally:
            del self._jobs[job.request_id]
            self._all_jobs.discard(job)

    async def _carry_out(self, job: Job) -> Json | list[Json]:
        if isinstance(job.parameters, Cancel):
            return await self._cancel(job.parameters)
        if job.verb.call is not None:
            result = await job.verb.call(self._operations, job.parameters)
            return result if isinstance(result, Mapping) else list(result)
        return await self._follow(job)

    async def _follow(self, job: Job) -> Json:
        """Send on what a stream yields; return its result."""
        if job.verb.stream is None or job.verb.notification is None:
            raise RuntimeError(f"nothing carries out {job.name}")
        result = job.verb.at_end
        items = job.verb.stream(self._operations, job.parameters)
        try:
            async for item in items:
                if job.verb.is_result(item):
                    result = item
                else:
                    told = {**item, "id": job.request_id}
                    self._outbox.notify(notification_line(job.verb.notification, told))
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()
        if result is None:
            raise RuntimeError(f"{job.name} ended without a result")
        return result

    async def _cancel(self, wanted: Cancel) -> Json:
        """Cancel jobs; wait until they have put back what they changed, and have answered."""
        if wanted.request is None:
            jobs = {job for job in self._all_jobs if job.name == "calibrate"}
            missing = "no calibration that a client asked for is under way"
        else:
            own = self._jobs.get(wanted.request)
            jobs = {own} if own is not None and own.verb.stream is not None else set()
            missing = f"no request {wanted.request!r} that can be cancelled is under way"
        tasks = {job.task for job in jobs if job.task is not None}
        if not tasks:
            raise OperationError(ErrorCode.REFUSED, missing)
        for job in jobs:
            job.cancel()
        await asyncio.wait(tasks)
        return {"cancelled": len(tasks)}

    def _fail(self, job: Job, error: OperationError) -> None:
        if job.verb.changes:
            log.warning("%s(%s) failed: %s", job.name, job.parameters, error)
        self._refuse(job.request_id, error)

    def _refuse(self, request_id: RequestId | None, error: OperationError) -> None:
        self._outbox.answer(error_line(request_id, error))


def describe_peer(writer: asyncio.StreamWriter) -> str:
    """Say who is at the other end of a Unix socket, by the kernel's word."""
    connection = writer.get_extra_info("socket")
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack(
        "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return f"uid {uid} (process {pid})"


def _cut_short(job: Job) -> OperationError:
    if job.was_cancelled:
        text = f"{job.name} was cancelled, and what it had changed was put back"
        return OperationError(ErrorCode.CANCELLED, text)
    return OperationError(ErrorCode.STOPPING, f"{job.name} was cut short because the daemon ends")
