"""Where a link's control socket and its lasting state are on disk."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

SYSTEM_RUNTIME_DIRECTORY = Path("/run/qkdctl")
"""``RuntimeDirectory=qkdctl`` of the systemd unit: set for the daemon, not for its clients."""

SUFFIX = ".sock"
FEED_SUFFIX = ".feed"


class UnsafeDirectoryError(Exception):
    """A directory for sockets belongs to somebody else, who could pose as the daemon."""


def runtime_directory() -> Path:
    """Directory in which a daemon started here and now puts its control socket."""
    if given := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(given.split(":")[0])  # systemd may name several
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(given) / "qkdctl"
    return Path(f"/tmp/qkdctl-{os.getuid()}")  # noqa: S108 - its owner is checked


def socket_path(link: str) -> Path:
    """Path of the control socket that the daemon of ``link`` makes when none is given."""
    if given := os.environ.get("QKDCTL_SOCKET"):
        return Path(given)
    return runtime_directory() / f"{link}{SUFFIX}"


def feed_path(control: Path) -> Path:
    """Path of the socket on which the QKD stack posts, beside the control socket."""
    return control.with_suffix(FEED_SUFFIX)


def make_private(directory: Path) -> None:
    """Make ``directory`` for this user alone, unless it is there already.

    Raises:
        UnsafeDirectoryError: It is a link, is no directory, or belongs to another user.
        OSError: It cannot be made.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.getuid(), 0}:
        raise UnsafeDirectoryError(
            f"{directory} belongs to another user; remove it or choose another with --socket"
        )


def find_sockets(link: str | None = None) -> Iterator[Path]:
    """Yield the control sockets on this machine, of ``link`` or of any, that may be trusted.

    A socket file may have outlived its daemon: whether one listens, only a connection tells.
    """
    seen = set()
    for directory in (runtime_directory(), SYSTEM_RUNTIME_DIRECTORY):
        if directory in seen or not _is_trusted(directory):
            continue
        seen.add(directory)
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            if path.is_socket() and link in {None, path.stem}:
                yield path


def state_directory() -> Path:
    """Directory for what must survive a restart."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    if given := os.environ.get("XDG_STATE_HOME"):
        return Path(given) / "qkdctl"
    return Path.home() / ".local" / "state" / "qkdctl"


def _is_trusted(directory: Path) -> bool:
    """Whether only we, or root, could have put a socket there.

    The system's own directory belongs to the daemon's user, and root made it.
    """
    try:
        found = directory.lstat()
    except OSError:
        return False
    if directory == SYSTEM_RUNTIME_DIRECTORY:
        return stat.S_ISDIR(found.st_mode)
    return stat.S_ISDIR(found.st_mode) and found.st_uid in {os.getuid(), 0}
