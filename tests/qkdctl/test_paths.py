import os
import socket
import stat
from pathlib import Path

import pytest

from qkdctl import paths
from qkdctl.paths import (
    UnsafeDirectoryError,
    find_sockets,
    make_private,
    runtime_directory,
    socket_path,
    state_directory,
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "QKDCTL_SOCKET",
        "RUNTIME_DIRECTORY",
        "XDG_RUNTIME_DIR",
        "STATE_DIRECTORY",
        "XDG_STATE_HOME",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "SYSTEM_RUNTIME_DIRECTORY", tmp_path / "run")


def make_socket(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
    return path


def test_without_any_hint_sockets_are_in_a_directory_of_the_users_own() -> None:
    assert runtime_directory() == Path(f"/tmp/qkdctl-{os.getuid()}")  # noqa: S108 - the documented place


def test_the_session_directory_is_used_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")

    assert socket_path("alice") == Path("/run/user/7/qkdctl/alice.sock")


def test_the_units_directory_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    monkeypatch.setenv("RUNTIME_DIRECTORY", "/run/qkdctl:/run/other")

    assert socket_path("alice") == Path("/run/qkdctl/alice.sock")


def test_the_socket_itself_may_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKDCTL_SOCKET", "/somewhere/x.sock")

    assert socket_path("alice") == Path("/somewhere/x.sock")


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("STATE_DIRECTORY", "/var/lib/qkdctl:/var/lib/other", "/var/lib/qkdctl"),
        ("XDG_STATE_HOME", "/home/eve/state", "/home/eve/state/qkdctl"),
        ("HOME", "/home/eve", "/home/eve/.local/state/qkdctl"),
    ],
)
def test_the_state_directory_follows_the_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)

    assert state_directory() == Path(expected)


def test_a_private_directory_is_made_for_this_user_alone(tmp_path: Path) -> None:
    make_private(tmp_path / "new")

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700


def test_a_directory_behind_a_link_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UnsafeDirectoryError, match="choose another with --socket"):
        make_private(tmp_path / "link")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_is_not_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = make_socket(tmp_path / "qkdctl" / "alice.sock")
    os.chown(made.parent, 4711, 4711)

    assert list(find_sockets()) == []
    with pytest.raises(UnsafeDirectoryError):
        make_private(made.parent)


def test_sockets_of_this_user_and_of_the_system_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    mine = make_socket(tmp_path / "qkdctl" / "alice.sock")
    systems = make_socket(tmp_path / "run" / "bob.sock")
    (tmp_path / "run" / "notes.txt").touch()
    (tmp_path / "run" / "file.sock").touch()

    assert list(find_sockets()) == [mine, systems]
    assert list(find_sockets("bob")) == [systems]
