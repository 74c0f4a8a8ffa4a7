"""A client of the daemon's control socket; imports nothing but the standard library."""

import json
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from qkdctl.paths import find_sockets

TIMEOUT_S = 60.0
"""How long the daemon may take for one answer; making a whole bench safe is the longest."""


class NotReachedError(Exception):
    """No daemon could be asked, or it went away before it answered."""


class SeveralDaemonsError(Exception):
    """Several daemons run here and the caller did not say which one is meant."""


class DaemonError(Exception):
    """The daemon refused a request or failed at it.

    Attributes:
        code: Why; see ``ErrorCode`` in `qkdctl.verbs`.
        message: What is wrong.
        cure: What can be done, or None.
    """

    def __init__(self, code: int, message: str, cure: str | None = None) -> None:
        self.code = code
        self.message = message
        self.cure = cure
        super().__init__(f"{message}; {cure}" if cure else message)


def find_daemon(path: Path | None = None, link: str | None = None) -> Path:
    """Find the control socket of the daemon that is meant.

    Args:
        path: The socket itself, where the caller knows it.
        link: Name of the link; without it ``QKDCTL_SOCKET`` is used, then the only daemon here.

    Raises:
        NotReachedError: No daemon runs.
        SeveralDaemonsError: More than one does; the text lists them.
    """
    if path is not None:
        return path
    if link is None and (given := os.environ.get("QKDCTL_SOCKET")):
        return Path(given)
    found = [path for path in find_sockets(link) if _is_live(path)]
    if not found:
        which = f"for link {link!r}" if link else "here"
        raise NotReachedError(
            f"no daemon runs {which}; start one with 'qkdctl daemon TESTBED.toml', or name its "
            "socket with --socket"
        )
    if len(found) > 1:
        listed = ", ".join(str(path) for path in found)
        raise SeveralDaemonsError(
            f"{len(found)} daemons run here; choose with --link or --socket: {listed}"
        )
    return found[0]


def _is_live(path: Path) -> bool:
    """Whether somebody listens, be it that we may not talk to him."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


class DaemonClient:
    """One connection to a daemon; to be used as a context and from one thread."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        """Connect.

        Args:
            path: Control socket.
            timeout_s: How long one answer may take, s.

        Raises:
            NotReachedError: Nobody listens there, or we may not.
        """
        self.path = path
        self._timeout_s = timeout_s
        self._last_id = 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except OSError as exc:
            self._socket.close()
            raise NotReachedError(_why_not(path, exc)) from exc
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def is_daemon_alive(self) -> bool:
        """Whether the process at the other end still runs; true where that cannot be known."""
        credentials = self._socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        pid, _, _ = struct.unpack("3i", credentials)
        if pid == 0:  # it is in another process namespace
            return True
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def close(self) -> None:
        """Hang up; what the daemon was asked to do goes on."""
        self._lines.close()
        self._socket.close()

    def call(self, verb: str, **parameters: Any) -> Any:
        """Ask, wait, and return the result.

        Raises:
            DaemonError: The daemon refused or failed.
            NotReachedError: It did not answer; what became of the request is not known.
        """
        request_id = self.send(verb, **parameters)
        while True:
            message = self.receive()
            if is_response(message, request_id):
                return result_of(message)

    def stream(self, verb: str, **parameters: Any) -> "Stream":
        """Ask for something that tells its progress."""
        return Stream(self, self.send(verb, **parameters))

    def send(self, verb: str, **parameters: Any) -> int:
        """Send a request and return its id."""
        self._last_id += 1
        request = {"jsonrpc": "2.0", "id": self._last_id, "method": verb, "params": parameters}
        try:
            self._socket.sendall(json.dumps(request).encode("ascii") + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # ``receive`` finds what the daemon said before it hung up
        except OSError as exc:
            raise NotReachedError(_why_not(self.path, exc)) from exc
        return self._last_id

    def receive(self, *, patiently: bool = False) -> dict[str, Any]:
        """Wait for the next message; ``patiently`` without a limit."""
        self._socket.settimeout(None if patiently else self._timeout_s)
        try:
            line = self._lines.readline()
        except TimeoutError as exc:
            raise NotReachedError(
                f"the daemon at {self.path} did not answer within {self._timeout_s:g} s; it may "
                "still do what it was asked"
            ) from exc
        except OSError as exc:
            raise NotReachedError(_why_not(self.path, exc)) from exc
        if not line.endswith(b"\n"):
            raise NotReachedError(f"the daemon at {self.path} went away before it answered")
        message: dict[str, Any] = json.loads(line)
        return message


class Stream:
    """Answers of one long request: iterate over its notifications, then look at the result.

    Attributes:
        request_id: For ``cancel``.
        result: The response; None until the iteration has ended.
    """

    def __init__(self, client: DaemonClient, request_id: int) -> None:
        self._client = client
        self.request_id = request_id
        self.result: Any = None

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield whole notifications as they come.

        Raises:
            DaemonError: The daemon refused, failed, or was told to cancel.
            NotReachedError: The daemon went away.
        """
        while True:
            message = self._client.receive(patiently=True)
            if is_response(message, self.request_id):
                self.result = result_of(message)
                return
            if "method" in message:
                yield message

    def cancel(self) -> None:
        """Ask the daemon to cancel; the iteration ends once it has put back what it changed.

        May be called from a signal handler while another frame iterates.
        """
        self._client.send("cancel", request=self.request_id)


def is_response(message: dict[str, Any], request_id: int) -> bool:
    """Whether a message answers this request, or says that the client itself is refused."""
    return "method" not in message and message.get("id") in {request_id, None}


def result_of(message: dict[str, Any]) -> Any:
    """Return the result of a response; raise DaemonError where it is an error."""
    error = message.get("error")
    if error is None:
        return message.get("result")
    cure = (error.get("data") or {}).get("cure")
    raise DaemonError(error["code"], error["message"], cure)


def _why_not(path: Path, error: OSError) -> str:
    match error:
        case PermissionError():
            return f"you may not use {path}; ask to be added to its group"
        case FileNotFoundError() | ConnectionRefusedError():
            return f"no daemon listens at {path}; start one with 'qkdctl daemon TESTBED.toml'"
        case BrokenPipeError() | ConnectionResetError():
            return f"the daemon at {path} went away"
        case _:
            return f"{path}: {error}"
