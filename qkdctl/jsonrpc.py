"""JSON-RPC 2.0, one object per line: reading requests, writing answers, and the queue between.

Narrower than the standard: every request has an id, since nobody would learn what became of one
without; parameters go by name; there are no batches.
"""

import asyncio
import json
import math
from collections import deque
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, NoReturn

from qkdctl.verbs import VERBS, ErrorCode, Json, OperationError, Verb, shown

MAX_LINE = 1 << 20
"""Longest request, bytes."""

MAX_ID = 200
"""Longest request id, characters."""

MAX_NOTICES = 1000
"""Notifications kept for a client that reads slowly; then the oldest are lost, and counted."""

MAX_ANSWERS = 32
"""Unread answers beyond which no further request is read."""

RequestId = int | str


class LineTooLongError(Exception):
    """A client sent more than MAX_LINE bytes without a line end."""


async def read_line(reader: asyncio.StreamReader) -> bytes | None:
    """Read up to the next line end; return None at the end of the stream.

    What follows the last line end was cut short and is dropped. The reader's limit must be
    MAX_LINE.

    Raises:
        LineTooLongError: The line was too long; all of it has been skipped.
    """
    is_too_long = False
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError as exc:
            await reader.readexactly(exc.consumed)
            is_too_long = True
        else:
            if is_too_long:
                raise LineTooLongError
            return line


def parse_request(line: bytes) -> dict[str, Any]:
    """Read one request object.

    Raises:
        OperationError: It is not JSON, or not a request.
    """
    try:
        request = json.loads(line, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise OperationError(ErrorCode.PARSE, f"not JSON: {shown(str(exc))}") from None
    if isinstance(request, list):
        raise OperationError(
            ErrorCode.INVALID_REQUEST, "there are no batches", "send one request per line"
        )
    if not isinstance(request, dict):
        raise OperationError(ErrorCode.INVALID_REQUEST, "a request is a JSON object")
    return request


def parse_request_id(request: Mapping[str, Any]) -> RequestId:
    """Return the id of a request; raise OperationError where it has none that can be repeated."""
    request_id = request.get("id")
    if isinstance(request_id, bool) or not isinstance(request_id, int | str):
        raise OperationError(
            ErrorCode.INVALID_REQUEST, "a request needs an id, a whole number or a text"
        )
    if len(str(request_id)) > MAX_ID:
        raise OperationError(
            ErrorCode.INVALID_REQUEST, f"an id may have {MAX_ID} characters and this one has more"
        )
    return request_id


def parse_verb(request: Mapping[str, Any]) -> tuple[str, Verb]:
    """Look up what a request asks for; raise OperationError where there is no such verb."""
    if request.get("jsonrpc") != "2.0":
        raise OperationError(ErrorCode.INVALID_REQUEST, 'a request says "jsonrpc": "2.0"')
    name = request.get("method")
    if not isinstance(name, str):
        raise OperationError(ErrorCode.INVALID_REQUEST, "a request names its method")
    if name not in VERBS:
        close = get_close_matches(name[:MAX_ID], VERBS, n=1)
        raise OperationError(
            ErrorCode.UNKNOWN_VERB,
            f"there is no verb {shown(name)}",
            f"did you mean {close[0]}?" if close else f"verbs are: {', '.join(VERBS)}",
        )
    return name, VERBS[name]


def result_line(request_id: RequestId, result: object) -> bytes:
    """Write a response."""
    return _encode({"id": request_id, "result": result})


def error_line(request_id: RequestId | None, error: OperationError) -> bytes:
    """Write an error response; the id is null where the request's could not be read."""
    body: dict[str, object] = {"code": int(error.code), "message": error.message}
    if error.cure is not None:
        body["data"] = {"cure": error.cure}
    return _encode({"id": request_id, "error": body})


def notification_line(method: str, parameters: Json) -> bytes:
    """Write a notification."""
    return _encode({"method": method, "params": parameters})


def _encode(message: Json) -> bytes:
    """Write one line; numbers that JSON does not have become null."""
    whole = {"jsonrpc": "2.0", **message}
    try:
        text = json.dumps(whole, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(whole), allow_nan=False)
    return text.encode("ascii") + b"\n"


def _finite(value: object) -> object:
    match value:
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


class Outbox:
    """What waits to be sent to one client: answers all of them, notifications up to a limit."""

    def __init__(self, max_notices: int = MAX_NOTICES) -> None:
        self._max_notices = max_notices
        self._lines: deque[tuple[bool, bytes]] = deque()
        self._notices = 0
        self._lost = 0
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()
        self.is_closed = False

    def answer(self, line: bytes) -> None:
        """Queue an answer."""
        self._put(line, is_notice=False)

    def notify(self, line: bytes) -> None:
        """Queue a notification, at the cost of the oldest one where there is no room."""
        if self._notices >= self._max_notices:
            oldest = next(i for i, (is_notice, _) in enumerate(self._lines) if is_notice)
            del self._lines[oldest]
            self._notices -= 1
            self._lost += 1
        self._put(line, is_notice=True)

    def close(self) -> None:
        """Forget everything from now on: nobody reads it."""
        self.is_closed = True
        self._lines.clear()

    async def has_room(self) -> None:
        """Wait until the client has read enough of its answers to ask for more."""
        while len(self._lines) - self._notices > MAX_ANSWERS:
            self._taken.clear()
            await self._taken.wait()

    async def take(self) -> bytes:
        """Wait for the next line to send; a loss is told before what follows it."""
        while not self._lines:
            self._arrived.clear()
            await self._arrived.wait()
        return self._next()

    def drain(self) -> list[bytes]:
        """Take all that is left."""
        lines = []
        while self._lines:
            lines.append(self._next())
        return lines

    def _put(self, line: bytes, *, is_notice: bool) -> None:
        if self.is_closed:
            return
        self._lines.append((is_notice, line))
        self._notices += is_notice
        self._arrived.set()

    def _next(self) -> bytes:
        if self._lost:
            lost, self._lost = self._lost, 0
            return notification_line("lost", {"count": lost})
        is_notice, line = self._lines.popleft()
        self._notices -= is_notice
        self._taken.set()
        return line
