"""What the demo waits for before it speaks to a process."""

import socket
from pathlib import Path

from qkdctl import demo


def test_a_socket_that_is_there_but_accepts_nobody_yet_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "daemon.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        assert path.exists()
        assert not demo._listens(path)
        server.listen()
        assert demo._listens(path)
