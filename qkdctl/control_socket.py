"""The socket files of a daemon: for the operators' group, gone when the daemon is."""

import asyncio
import fcntl
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NoReturn

from qkdctl.paths import UnsafeDirectoryError, make_private, runtime_directory

log = logging.getLogger(__name__)

MODE = 0o660
BACKLOG = 32


class ControlSocketError(OSError):
    """A socket of the daemon cannot be made; the text says why and what to do."""


class SocketInUseError(ControlSocketError):
    """Another daemon runs for this link."""


class ControlSocket:
    """A listening socket, with a lock that the kernel drops when its daemon dies.

    The lock decides between two daemons that start at once; without it both could find a stale
    socket file, and the slower one would remove what the faster one has just made.

    Attributes:
        listener: Bound and listening.
    """

    def __init__(
        self, path: Path, *, name: str = "control socket", chosen_by: str = "--socket"
    ) -> None:
        """Make the socket at ``path``, in place of one that no daemon listens on any more.

        Args:
            path: Where.
            name: What it is, for errors.
            chosen_by: Where another path can be given.

        Raises:
            SocketInUseError: Another daemon listens there.
            ControlSocketError: The file cannot be made.
        """
        self._path = path
        self._name, self._chosen_by = name, chosen_by
        try:
            if path.parent == runtime_directory():
                make_private(path.parent)
            with ExitStack() as undo:
                self._lock = undo.enter_context(self._take_lock())
                self._remove_stale()
                self.listener = self._bind()
                undo.pop_all()
        except ControlSocketError:
            raise
        except (OSError, UnsafeDirectoryError) as exc:
            raise self._error(exc) from exc

    def close(self) -> None:
        """Stop listening and remove the file, unless somebody has put another in its place."""
        self.listener.close()
        try:
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
        except OSError as exc:
            log.warning("%s %s was not removed: %s", self._name, self._path, exc)
        self._lock.close()  # its file stays: were it removed, two daemons could each lock one

    def _take_lock(self) -> IO[bytes]:
        lock = self._path.with_name(self._path.name + ".lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise self._other_daemon() from None
        return lock

    def _remove_stale(self) -> None:
        if not os.path.lexists(self._path):
            return
        if not self._path.is_socket():
            raise self._error(
                f"something else has that name; remove it or choose another with {self._chosen_by}"
            )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
        raise self._other_daemon()

    def _bind(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            self._path.chmod(MODE)  # before ``listen``: until then nobody can connect
            self._inode = self._path.stat().st_ino
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener

    def _error(self, why: object) -> ControlSocketError:
        return ControlSocketError(f"{self._name} {self._path}: {why}")

    def _other_daemon(self) -> SocketInUseError:
        return SocketInUseError(
            f"another daemon runs for this link and listens at {self._path}; end it with "
            f"'qkdctl stop', or choose another socket with {self._chosen_by}"
        )


async def accept_clients(
    listener: socket.socket,
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tasks: asyncio.TaskGroup,
    *,
    name: str,
    limit: int,
) -> NoReturn:
    """Run a task for every client of a listening socket, until cancelled.

    Args:
        listener: Bound and listening; closed when this ends.
        serve: Serves one client until it goes away.
        tasks: Where the clients' tasks run; they may outlive this.
        name: Of those tasks.
        limit: Longest line that a reader takes, bytes.
    """

    async def attend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)

    def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not server.is_serving():  # came in while the server was closing
            writer.close()
            return
        tasks.create_task(attend(reader, writer), name=name)

    server = await asyncio.start_unix_server(welcome, sock=listener, limit=limit)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        server.close()
    raise RuntimeError(f"{name} ended although it serves until cancelled")
