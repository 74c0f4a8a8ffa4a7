"""The bench's side channel for whoever runs it: JSON lines on a Unix socket.

Requests and their answers::

    {"do": "truth"}                                      what the bench itself knows
    {"do": "fault", "instrument": "epc",
     "kind": "stall", "on": true}                        {"faults": {...}}
    {"do": "record", "since": 0}                         {"entries": [...], "first": 0, "next": n}
    {"do": "jump", "rotation_rad": [0.1, 0, 0]}          {"done": "jump"}
    {"do": "bend", "loss_db": 100}                       {"done": "bend"}
    {"do": "illuminate", "stray_hz": 1e4}                {"done": "illuminate"}
    {"do": "stop"}                                       {"done": "stop"}

``plug`` is another word for ``unplug`` off. Anything else is answered ``{"error": "..."}``.
"""

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, cast

from sim.bench import SimulatedBench

LONGEST_LINE: Final = 65536
ENTRIES_TOLD: Final = 5000
"""Entries of the record in one answer at most; ``next`` tells where to go on."""

VERBS: Final = ("truth", "fault", "record", "jump", "bend", "illuminate", "stop")

_WAITING_REQUESTS: Final = 100


async def serve_control(
    bench: SimulatedBench, path: Path, ready: asyncio.Event | None = None
) -> None:
    """Answer requests until one of them is ``stop``.

    Args:
        bench: The bench, being served.
        path: Where the socket appears; one left over from an earlier run is replaced.
        ready: Set once the socket is there.

    Raises:
        OSError: The socket cannot be made.
    """
    requests: asyncio.Queue[tuple[bytes, _Client]] = asyncio.Queue(_WAITING_REQUESTS)
    clients: set[_Client] = set()
    _remove(path)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: _Client(requests, clients), path)
    if ready is not None:
        ready.set()
    try:
        is_stopping = False
        while not is_stopping:
            line, client = await requests.get()
            answer = await answer_request(bench, line)
            client.send(answer)
            is_stopping = answer == {"done": "stop"}
    finally:
        server.close()
        for client in list(clients):
            client.close()
        _remove(path)


async def answer_request(bench: SimulatedBench, line: bytes) -> dict[str, Any]:
    """Carry out one request line; what is wrong with it is the answer."""
    try:
        return await _carry_out(bench, json.loads(line))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        return {"error": f"not JSON: {error}"}
    except (ValueError, OverflowError, _RequestError) as error:
        return {"error": str(error)}


def ask(path: Path, request: Mapping[str, Any], timeout_s: float = 10.0) -> dict[str, Any]:
    """Send one request to a bench in another process and return its answer.

    Args:
        path: The bench's control socket.
        request: What to do.
        timeout_s: How long to wait for the answer, s.

    Raises:
        OSError: Nobody is there, or it takes too long.
        ValueError: The bench says what is wrong with the request.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            line = lines.readline()
    if not line.endswith(b"\n"):
        raise ConnectionError(f"{path}: the bench went away")
    answer = cast(dict[str, Any], json.loads(line))
    if "error" in answer:
        raise ValueError(answer["error"])
    return answer


class _RequestError(Exception):
    """The request cannot be carried out; the text says why."""


async def _carry_out(bench: SimulatedBench, request: object) -> dict[str, Any]:
    match request:
        case {"do": "truth"}:
            return bench.truth()
        case {"do": "record", **options}:
            return _entries(bench, options.get("since", 0))
        case {"do": "fault", "instrument": str(instrument), "kind": str(kind), **options}:
            await _switch(bench, instrument, kind, options.get("on", True))
            return {"faults": bench.truth()["faults"]}
        case {"do": "jump", "rotation_rad": list(rotation_rad)}:
            if not all(type(each) in (int, float) for each in rotation_rad):
                raise _RequestError("'rotation_rad' holds numbers")
            bench.jump(rotation_rad)
            return {"done": "jump"}
        case {"do": "bend", "loss_db": int() | float() as loss_db}:
            bench.bend(loss_db)
            return {"done": "bend"}
        case {"do": "illuminate", "stray_hz": int() | float() as stray_hz}:
            bench.illuminate(stray_hz)
            return {"done": "illuminate"}
        case {"do": "stop"}:
            return {"done": "stop"}
        case {"do": "fault"}:
            raise _RequestError("'fault' needs 'instrument' and 'kind'")
        case {"do": "jump"}:
            raise _RequestError("'jump' needs 'rotation_rad'")
        case {"do": "bend"}:
            raise _RequestError("'bend' needs a number 'loss_db'")
        case {"do": "illuminate"}:
            raise _RequestError("'illuminate' needs a number 'stray_hz'")
        case {"do": verb}:
            raise _RequestError(f"cannot do {verb!r}; try {', '.join(VERBS)}")
        case _:
            raise _RequestError("a request is a JSON object that says what to 'do'")


async def _switch(bench: SimulatedBench, instrument: str, kind: str, is_on: object) -> None:
    if not isinstance(is_on, bool):
        raise _RequestError("'on' is true or false")
    fault, is_on = ("unplug", False) if kind == "plug" else (kind, is_on)
    await bench.fault(instrument, fault, is_on=is_on)


def _entries(bench: SimulatedBench, since: object) -> dict[str, Any]:
    if not isinstance(since, int) or isinstance(since, bool) or since < 0:
        raise _RequestError("'since' is a whole number from 0")
    first, told = bench.record.since(since, ENTRIES_TOLD)
    return {"entries": [asdict(each) for each in told], "first": first, "next": first + len(told)}


def _remove(path: Path) -> None:
    """Remove a socket; whatever else is at the path stays, and is in the way."""
    if path.is_socket():
        path.unlink()


class _Client(asyncio.Protocol):
    """One connection: it collects lines; answers come back in their order."""

    def __init__(
        self, requests: "asyncio.Queue[tuple[bytes, _Client]]", clients: "set[_Client]"
    ) -> None:
        self._requests = requests
        self._clients = clients
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._clients.add(self)

    def data_received(self, data: bytes) -> None:
        self._received += data
        *lines, rest = bytes(self._received).split(b"\n")
        self._received = bytearray(rest)
        for line in lines:
            if self._requests.full():
                self.send({"error": "too many requests at once"})
            else:
                self._requests.put_nowait((line, self))
        if len(rest) > LONGEST_LINE:
            self.send({"error": f"a line is longer than {LONGEST_LINE} bytes"})
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._clients.discard(self)
        self._transport = None

    def send(self, answer: Mapping[str, Any]) -> None:
        if self._transport is not None:
            self._transport.write(json.dumps(answer).encode() + b"\n")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
