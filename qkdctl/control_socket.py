"""The socket file of a daemon: one per link, for the operators' group, gone when the daemon is."""

import fcntl
import logging
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from qkdctl.paths import UnsafeDirectoryError, make_private, runtime_directory

log = logging.getLogger(__name__)

MODE = 0o660
BACKLOG = 32


class ControlSocketError(OSError):
    """The control socket cannot be made; the text says why and what to do."""


class SocketInUseError(ControlSocketError):
    """Another daemon runs for this link."""


class ControlSocket:
    """A listening socket, with a lock that the kernel drops when its daemon dies.

    The lock decides between two daemons that start at once; without it both could find a stale
    socket file, and the slower one would remove what the faster one has just made.

    Attributes:
        listener: Bound and listening.
    """

    def __init__(self, path: Path) -> None:
        """Make the socket at ``path``, in place of one that no daemon listens on any more.

        Raises:
            SocketInUseError: Another daemon listens there.
            ControlSocketError: The file cannot be made.
        """
        self._path = path
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
            log.warning("control socket %s was not removed: %s", self._path, exc)
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
                "something else has that name; remove it or choose another with --socket"
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
        return ControlSocketError(f"control socket {self._path}: {why}")

    def _other_daemon(self) -> SocketInUseError:
        return SocketInUseError(
            f"another daemon runs for this link and listens at {self._path}; end it with "
            "'qkdctl stop', or choose another socket with --socket"
        )
