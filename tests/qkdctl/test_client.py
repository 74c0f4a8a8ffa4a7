import ast
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from qkdctl import client as client_module
from qkdctl import paths
from qkdctl.client import (
    DaemonClient,
    DaemonError,
    NotReachedError,
    SeveralDaemonsError,
    find_daemon,
)
from qkdctl.verbs import ErrorCode


@pytest.fixture(autouse=True)
def runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.delenv("QKDCTL_SOCKET", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(paths, "SYSTEM_RUNTIME_DIRECTORY", tmp_path / "run")
    (tmp_path / "qkdctl").mkdir(mode=0o700)
    return tmp_path / "qkdctl"


def listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def test_the_client_needs_nothing_but_the_standard_library() -> None:
    for module in (client_module, paths):
        tree = ast.parse(Path(str(module.__file__)).read_text())
        imported = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
        }
        foreign = {name.split(".")[0] for name in imported} - set(sys.stdlib_module_names)
        assert foreign <= {"qkdctl"}
        assert {name for name in imported if name.startswith("qkdctl")} <= {"qkdctl.paths"}


def test_a_call_returns_the_result(fake_daemon: Any) -> None:
    with DaemonClient(fake_daemon.path) as daemon:
        assert daemon.call("status")["link"] == "alice-bob"
        assert daemon.call("knob_set", name="epc-1", value=-1.5)["value"] == -1.5


def test_a_refusal_is_raised_with_its_cure(fake_daemon: Any) -> None:
    with DaemonClient(fake_daemon.path) as daemon, pytest.raises(DaemonError) as caught:
        daemon.call("resume")

    assert str(caught.value) == "nothing to resume; run a calibration"
    assert caught.value.code == ErrorCode.REFUSED


def test_a_stream_tells_its_progress_then_its_result(fake_daemon: Any) -> None:
    fake_daemon.do(fake_daemon.operations.go_on.set)
    with DaemonClient(fake_daemon.path) as daemon:
        stream = daemon.stream("calibrate", stages=[])

        phases = [message["params"]["phase"] for message in stream]

    assert phases == ["search", "verify"]
    assert stream.result["results"][0]["outcome"] == "accepted"


def test_a_cancelled_stream_ends_with_an_error_once_the_bench_is_restored(
    fake_daemon: Any,
) -> None:
    with DaemonClient(fake_daemon.path) as daemon:
        stream = daemon.stream("calibrate", stages=[])
        fake_daemon.wait_for(fake_daemon.operations.calibrating)
        stream.cancel()
        with pytest.raises(DaemonError) as caught:
            list(stream)

    assert caught.value.code == ErrorCode.CANCELLED
    assert fake_daemon.operations.restored.is_set()


def test_calls_work_again_after_a_stream_was_cancelled(fake_daemon: Any) -> None:
    with DaemonClient(fake_daemon.path) as daemon:
        stream = daemon.stream("calibrate", stages=[])
        fake_daemon.wait_for(fake_daemon.operations.calibrating)
        stream.cancel()
        with pytest.raises(DaemonError):
            list(stream)

        assert daemon.call("status")["link"] == "alice-bob"


def test_where_nobody_listens_it_says_how_to_start_a_daemon(tmp_path: Path) -> None:
    with pytest.raises(NotReachedError, match="qkdctl daemon"):
        DaemonClient(tmp_path / "none.sock")


def test_a_daemon_that_goes_away_is_noticed(tmp_path: Path) -> None:
    with listen(tmp_path / "a.sock") as listener:
        daemon = DaemonClient(tmp_path / "a.sock")
        listener.accept()[0].close()
        with daemon, pytest.raises(NotReachedError, match="went away"):
            daemon.call("status")


def test_a_daemon_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    with (
        listen(tmp_path / "a.sock"),
        DaemonClient(tmp_path / "a.sock", timeout_s=0.05) as daemon,
        pytest.raises(NotReachedError, match="may still do what it was asked"),
    ):
        daemon.call("safe")


def test_a_refusal_before_any_request_reaches_the_caller(tmp_path: Path) -> None:
    refusal = {"jsonrpc": "2.0", "id": None, "error": {"code": -32001, "message": "too many"}}
    with listen(tmp_path / "a.sock") as listener, DaemonClient(tmp_path / "a.sock") as daemon:
        connection, _ = listener.accept()
        connection.sendall(json.dumps(refusal).encode() + b"\n")
        connection.close()

        with pytest.raises(DaemonError, match="too many"):
            daemon.call("status")


def test_whether_the_daemons_process_lives_is_known(tmp_path: Path) -> None:
    code = (
        "import socket, sys\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "listener.bind(sys.argv[1])\n"
        "listener.listen()\n"
        "print('listening', flush=True)\n"
        "sys.stdin.read()\n"
    )
    path = tmp_path / "a.sock"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout
        process.stdout.readline()
        daemon = DaemonClient(path)
        was_alive = daemon.is_daemon_alive()

    with daemon:
        assert was_alive
        assert not daemon.is_daemon_alive()


def test_a_path_that_is_given_is_used(tmp_path: Path) -> None:
    assert find_daemon(tmp_path / "x.sock", "alice") == tmp_path / "x.sock"


def test_the_environment_may_name_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKDCTL_SOCKET", "/somewhere/x.sock")

    assert find_daemon() == Path("/somewhere/x.sock")


def test_a_link_that_is_named_outranks_the_environment(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QKDCTL_SOCKET", "/somewhere/x.sock")
    with listen(runtime / "alice.sock"):
        assert find_daemon(link="alice") == runtime / "alice.sock"


def test_the_only_daemon_is_found_by_itself(runtime: Path) -> None:
    with listen(runtime / "alice.sock"):
        listen(runtime / "dead.sock").close()

        assert find_daemon() == runtime / "alice.sock"


def test_of_several_daemons_one_has_to_be_chosen(runtime: Path) -> None:
    with listen(runtime / "alice.sock"), listen(runtime / "bob.sock"):
        with pytest.raises(SeveralDaemonsError, match=r"alice\.sock, .*bob\.sock"):
            find_daemon()

        assert find_daemon(link="bob") == runtime / "bob.sock"


def test_without_a_daemon_the_link_is_named() -> None:
    with pytest.raises(NotReachedError, match="no daemon runs for link 'carol'"):
        find_daemon(link="carol")


def test_hanging_up_leaves_a_calibration_running(fake_daemon: Any) -> None:
    with DaemonClient(fake_daemon.path) as daemon:
        daemon.send("calibrate", stages=[])
        fake_daemon.wait_for(fake_daemon.operations.calibrating)
    fake_daemon.do(fake_daemon.operations.go_on.set)

    fake_daemon.wait_for(fake_daemon.operations.calibrated)


def test_two_clients_are_served_at_once(fake_daemon: Any) -> None:
    links = []

    def ask() -> None:
        with DaemonClient(fake_daemon.path) as daemon:
            links.extend(daemon.call("status")["link"] for _ in range(20))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert links == ["alice-bob"] * 80
