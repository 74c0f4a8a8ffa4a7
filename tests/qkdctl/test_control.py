import asyncio
import json
import logging
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkdctl import control
from qkdctl.control import ControlServer, ControlSocketError, SocketInUseError
from qkdctl.jsonrpc import MAX_ANSWERS, MAX_LINE, Outbox, parse_request, parse_request_id
from qkdctl.verbs import ErrorCode, OperationError


class Peer:
    """A client that speaks JSON lines by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def ask(self, request_id: Any, method: str, **params: Any) -> None:
        request = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        await self.send(json.dumps(request).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            line = await self._reader.readline()
        if not line:
            raise EOFError
        message: dict[str, Any] = json.loads(line)
        assert message.pop("jsonrpc") == "2.0"
        return message

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        await self.ask(99, method, **params)
        message = await self.receive()
        assert message["id"] == 99
        return message

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):  # the server may have hung up first
            await self._writer.wait_closed()


class Server:
    """A served control socket, and a way to be its client."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._peers: list[Peer] = []

    async def connect(self) -> Peer:
        peer = Peer(*await asyncio.open_unix_connection(self.path))
        self._peers.append(peer)
        return peer

    async def hang_up(self) -> None:
        for peer in self._peers:
            await peer.close()


@asynccontextmanager
async def serving(operations: Any, path: Path) -> AsyncIterator[Server]:
    served = ControlServer(path, operations)
    served.claim()
    server = Server(path)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(served.serve())
        try:
            yield server
        finally:
            operations.go_on.set()
            await server.hang_up()
            task.cancel()
    served.release()


@pytest.fixture
async def server(operations: Any, tmp_path: Path) -> AsyncIterator[Server]:
    async with serving(operations, tmp_path / "a.sock") as running:
        yield running


@pytest.fixture
async def peer(server: Server) -> Peer:
    return await server.connect()


async def happens(event: asyncio.Event) -> None:
    async with asyncio.timeout(10):
        await event.wait()


# requests and answers


async def test_a_request_is_answered_under_its_id(peer: Peer) -> None:
    await peer.ask("mine", "status")

    answer = await peer.receive()

    assert answer["id"] == "mine"
    assert answer["result"]["link"] == "alice-bob"


async def test_a_change_is_carried_out_and_logged_with_who_asked(
    peer: Peer, operations: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="qkdctl.control")

    answer = await peer.call("knob_set", name="epc-1", value=-2.5)

    assert answer["result"] == {"name": "epc-1", "value": -2.5, "unit": "V"}
    assert operations.knob_value_v == -2.5
    assert f"uid {os.getuid()} (process {os.getpid()})" in caplog.text
    assert "epc-1" in caplog.text


async def test_looking_is_not_logged(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="qkdctl.control")

    await peer.call("status")

    assert not caplog.records


async def test_a_number_that_json_lacks_becomes_null(peer: Peer, operations: Any) -> None:
    operations.rows["windows"] = [{"time_s": 1.0, "qber": float("nan"), "list": [float("inf")]}]

    answer = await peer.call("history", kind="windows")

    assert answer["result"]["rows"] == [{"time_s": 1.0, "qber": None, "list": [None]}]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (b"hello", ErrorCode.PARSE, "not JSON"),
        (b"\xff\xfe\xfd", ErrorCode.PARSE, "not JSON"),
        (b"[" * 100_000, ErrorCode.PARSE, "not JSON"),
        (b'{"id": NaN}', ErrorCode.PARSE, "NaN"),
        (b"[]", ErrorCode.INVALID_REQUEST, "no batches"),
        (b"7", ErrorCode.INVALID_REQUEST, "JSON object"),
        (b"{}", ErrorCode.INVALID_REQUEST, "needs an id"),
        (b'{"id": true}', ErrorCode.INVALID_REQUEST, "needs an id"),
        (b'{"id": "' + b"x" * 1000 + b'"}', ErrorCode.INVALID_REQUEST, "200 characters"),
        (b'{"id": 1, "method": "status"}', ErrorCode.INVALID_REQUEST, "2.0"),
        (b'{"id": 1, "jsonrpc": "2.0"}', ErrorCode.INVALID_REQUEST, "names its method"),
        (b'{"id": 1, "jsonrpc": "2.0", "method": "statu"}', ErrorCode.UNKNOWN_VERB, "statu"),
        (
            b'{"id": 1, "jsonrpc": "2.0", "method": "status", "params": {"a": 1}}',
            ErrorCode.BAD_PARAMETERS,
            "'a'",
        ),
    ],
)
async def test_a_wrong_request_is_refused_in_clear_words(
    peer: Peer, line: bytes, code: ErrorCode, words: str
) -> None:
    await peer.send(line + b"\n")

    answer = await peer.receive()

    assert answer["error"]["code"] == code
    assert words in answer["error"]["message"]
    assert (await peer.call("status"))["result"]


async def test_a_misspelt_verb_is_answered_with_the_nearest_one(peer: Peer) -> None:
    answer = await peer.call("statu")

    assert answer["error"]["data"] == {"cure": "did you mean status?"}


async def test_a_line_that_is_too_long_is_refused_and_the_next_one_is_served(peer: Peer) -> None:
    await peer.send(b"x" * (3 * MAX_LINE) + b"\n")

    refusal = await peer.receive()

    assert refusal["id"] is None
    assert str(MAX_LINE) in refusal["error"]["message"]
    assert (await peer.call("status"))["result"]


@given(lines=st.lists(st.binary(max_size=200), max_size=5))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_garbage_never_ends_the_server(fake_daemon: Any, lines: list[bytes]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(10)
        connection.connect(str(fake_daemon.path))
        connection.sendall(b"\n".join(lines) + b'\n{"jsonrpc":"2.0","id":"q","method":"status"}\n')
        answers = connection.makefile("rb")
        while True:
            answer = json.loads(answers.readline())
            if answer["id"] == "q":
                break
            assert answer["error"]["message"]


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode()))
def test_whatever_a_line_holds_it_is_a_request_or_is_refused(line: bytes) -> None:
    refusal = ""
    try:
        parse_request_id(parse_request(line))
    except OperationError as exc:
        refusal = str(exc)

    assert "\n" not in refusal


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("unplugged", ErrorCode.INSTRUMENT, "no answer within 1 s"),
        ("epc-1", ErrorCode.REFUSED, "outside -5 to 5 V"),
    ],
)
async def test_what_an_instrument_says_reaches_the_caller(
    peer: Peer, name: str, code: ErrorCode, words: str
) -> None:
    answer = await peer.call("knob_set", name=name, value=9)

    assert answer["error"]["code"] == code
    assert words in answer["error"]["message"]


async def test_a_refusal_carries_its_cure(peer: Peer) -> None:
    answer = await peer.call("resume")

    assert answer["error"] == {
        "code": ErrorCode.REFUSED,
        "message": "nothing to resume",
        "data": {"cure": "run a calibration"},
    }


async def test_a_bug_is_logged_here_and_told_there_without_its_traceback(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await peer.call("knob_set", name="bug", value=1)

    assert answer["error"]["code"] == ErrorCode.INTERNAL
    assert "secret details" not in json.dumps(answer)
    assert "secret details" in caplog.text
    assert (await peer.call("status"))["result"]


# long requests


async def test_progress_is_told_before_the_result(peer: Peer, operations: Any) -> None:
    operations.go_on.set()
    await peer.ask(7, "calibrate", stages=["polarization"])

    first, second, last = [await peer.receive() for _ in range(3)]

    assert [first["method"], second["method"]] == ["progress", "progress"]
    assert (first["params"]["id"], first["params"]["phase"]) == (7, "search")
    assert last["id"] == 7
    assert last["result"]["results"][0]["outcome"] == "accepted"


async def test_other_requests_are_answered_while_a_long_one_runs(
    peer: Peer, server: Server, operations: Any
) -> None:
    other = await server.connect()
    await peer.ask(7, "calibrate")
    await peer.receive()

    assert (await peer.call("status"))["result"]
    assert (await other.call("status"))["result"]
    assert not operations.calibrated.is_set()


async def test_a_cancelled_calibration_is_answered_once_the_bench_is_restored(
    peer: Peer, operations: Any
) -> None:
    operations.finish_restoring.clear()
    await peer.ask(7, "calibrate")
    await peer.receive()
    await happens(operations.calibrating)
    await peer.ask(8, "cancel", request=7)
    await happens(operations.restoring)
    assert (await peer.call("status"))["result"]
    operations.finish_restoring.set()

    answers = {answer["id"]: answer for answer in [await peer.receive(), await peer.receive()]}

    assert operations.restored.is_set()
    assert answers[7]["error"]["code"] == ErrorCode.CANCELLED
    assert answers[8]["result"] == {"cancelled": 1}


async def test_a_second_cancellation_does_not_cut_the_restoring_short(
    peer: Peer, server: Server, operations: Any
) -> None:
    operations.finish_restoring.clear()
    other = await server.connect()
    await peer.ask(7, "calibrate")
    await happens(operations.calibrating)
    await peer.ask(8, "cancel", request=7)
    await happens(operations.restoring)
    await other.ask(1, "cancel")
    await other.ask(2, "status")
    assert (await other.receive())["id"] == 2
    operations.finish_restoring.set()

    assert (await other.receive())["result"] == {"cancelled": 1}
    assert operations.restored.is_set()


async def test_a_calibration_goes_on_when_its_client_goes_away(
    peer: Peer, server: Server, operations: Any
) -> None:
    await peer.ask(7, "calibrate")
    await happens(operations.calibrating)
    await peer.close()
    operations.go_on.set()

    await happens(operations.calibrated)

    assert (await (await server.connect()).call("status"))["result"]


async def test_a_calibration_without_its_client_can_be_cancelled_by_another(
    peer: Peer, server: Server, operations: Any
) -> None:
    await peer.ask(7, "calibrate")
    await happens(operations.calibrating)
    await peer.close()

    answer = await (await server.connect()).call("cancel")

    assert answer["result"] == {"cancelled": 1}
    assert operations.restored.is_set()


@pytest.mark.parametrize("request_id", [None, 7, 99])
async def test_where_there_is_nothing_to_cancel_it_says_so(
    peer: Peer, request_id: int | None
) -> None:
    answer = await peer.call("cancel", request=request_id)

    assert answer["error"]["code"] == ErrorCode.REFUSED
    assert "under way" in answer["error"]["message"]


async def test_an_id_that_is_in_use_is_refused(peer: Peer, operations: Any) -> None:
    await peer.ask(7, "calibrate")
    await peer.receive()
    await peer.ask(7, "status")

    assert "still under way" in (await peer.receive())["error"]["message"]
    assert operations.calibrating.is_set()


async def test_a_client_has_a_limit_of_requests_under_way(peer: Peer) -> None:
    for number in range(control.MAX_REQUESTS):
        await peer.ask(number, "subscribe")
    await peer.ask("one more", "status")

    assert (await peer.receive())["error"]["code"] == ErrorCode.BUSY


async def test_a_client_too_many_is_told_so(
    server: Server, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 1)
    await peer.call("status")
    other = await server.connect()

    answer = await other.receive()

    assert answer["id"] is None
    assert answer["error"]["code"] == ErrorCode.BUSY
    with pytest.raises(EOFError):
        await other.receive()


async def test_a_client_that_left_makes_room(
    server: Server, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_CLIENTS", 1)
    await peer.call("status")
    await peer.close()
    answer: dict[str, Any] = {}
    async with asyncio.timeout(10):
        while "result" not in answer:
            other = await server.connect()
            await other.ask(1, "status")
            answer = await other.receive()

    assert answer["result"]["link"] == "alice-bob"


# subscriptions


async def test_events_are_told_as_they_happen(peer: Peer, operations: Any) -> None:
    await peer.ask(5, "subscribe")
    operations.happenings.put_nowait({"time_s": 1.0, "kind": "note", "text": "hello"})

    message = await peer.receive()

    assert message == {
        "method": "event",
        "params": {"time_s": 1.0, "kind": "note", "text": "hello", "id": 5},
    }


async def test_a_subscription_ends_with_its_client(peer: Peer, operations: Any) -> None:
    await peer.ask(5, "subscribe")
    await happens(operations.subscribed)
    await peer.close()

    await happens(operations.unsubscribed)


async def test_a_subscription_can_be_cancelled(peer: Peer, operations: Any) -> None:
    await peer.ask(5, "subscribe")
    await happens(operations.subscribed)
    await peer.ask(6, "cancel", request=5)

    assert (await peer.receive())["error"]["code"] == ErrorCode.CANCELLED
    assert (await peer.receive())["result"] == {"cancelled": 1}
    assert operations.unsubscribed.is_set()


async def test_a_slow_client_loses_its_oldest_notices_and_is_told_how_many() -> None:
    outbox = Outbox(max_notices=2)
    outbox.answer(b"answer")
    for notice in (b"1", b"2", b"3", b"4"):
        outbox.notify(notice)

    lost, *rest = outbox.drain()

    assert json.loads(lost) == {"jsonrpc": "2.0", "method": "lost", "params": {"count": 2}}
    assert rest == [b"answer", b"3", b"4"]


async def test_a_client_that_reads_no_answers_is_asked_nothing_more() -> None:
    outbox = Outbox()
    for _ in range(MAX_ANSWERS + 1):
        outbox.answer(b"answer")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await outbox.has_room()

    await outbox.take()

    await outbox.has_room()


# the daemon's end


async def test_those_who_wait_are_told_that_the_daemon_ends(
    operations: Any, tmp_path: Path
) -> None:
    async with asyncio.TaskGroup() as tasks:
        served = ControlServer(tmp_path / "a.sock", operations)
        served.claim()
        task = tasks.create_task(served.serve())
        peer = Peer(*await asyncio.open_unix_connection(tmp_path / "a.sock"))
        await peer.ask(7, "calibrate")
        await peer.receive()
        task.cancel()

        answer = await peer.receive()
        with pytest.raises(EOFError):
            await peer.receive()
        await peer.close()
    served.release()

    assert answer["error"]["code"] == ErrorCode.STOPPING
    assert operations.restored.is_set()


async def test_a_client_that_reads_nothing_does_not_keep_the_daemon_from_ending(
    operations: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "FLUSH_S", 0.05)
    operations.rows["windows"] = [{"time_s": float(i), "x": "y" * 1000} for i in range(1000)]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as deaf:
        async with serving(operations, tmp_path / "a.sock") as server:
            deaf.connect(str(tmp_path / "a.sock"))
            for number in range(5):
                request = {
                    "jsonrpc": "2.0",
                    "id": number,
                    "method": "history",
                    "params": {"kind": "windows", "limit": 1000},
                }
                deaf.sendall(json.dumps(request).encode() + b"\n")
            await (await server.connect()).call("status")


# the socket file


async def test_the_socket_is_for_its_owner_and_the_group(server: Server) -> None:
    assert stat.S_IMODE(server.path.stat().st_mode) == 0o660


@asynccontextmanager
async def running(served: ControlServer, path: Path) -> AsyncIterator[None]:
    """Serve without having claimed, until a client has been answered and the body has ended."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(served.serve())
        await asyncio.sleep(0)  # the task's first step makes the socket
        peer = Peer(*await asyncio.open_unix_connection(path))
        await peer.call("status")
        yield
        await peer.close()
        task.cancel()


async def test_a_server_that_claims_by_itself_removes_its_socket(
    operations: Any, tmp_path: Path
) -> None:
    async with running(ControlServer(tmp_path / "a.sock", operations), tmp_path / "a.sock"):
        pass

    assert not (tmp_path / "a.sock").exists()


async def test_a_socket_that_was_claimed_before_stays_until_it_is_released(
    operations: Any, tmp_path: Path
) -> None:
    served = ControlServer(tmp_path / "a.sock", operations)
    served.claim()
    async with running(served, tmp_path / "a.sock"):
        pass
    with pytest.raises(SocketInUseError):
        ControlServer(tmp_path / "a.sock", operations).claim()

    served.release()

    assert not (tmp_path / "a.sock").exists()


async def test_a_second_daemon_on_the_same_socket_is_refused(
    server: Server, operations: Any
) -> None:
    with pytest.raises(SocketInUseError, match="another daemon runs for this link"):
        ControlServer(server.path, operations).claim()

    assert (await (await server.connect()).call("status"))["result"]


def test_a_socket_on_which_somebody_else_listens_is_left_alone(
    operations: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with pytest.raises(SocketInUseError):
            ControlServer(path, operations).claim()

    assert path.is_socket()


async def test_a_socket_that_outlived_its_daemon_is_replaced(
    operations: Any, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "a.sock"))

    async with serving(operations, tmp_path / "a.sock") as server:
        assert (await (await server.connect()).call("status"))["result"]


def test_a_file_that_is_no_socket_is_left_alone(operations: Any, tmp_path: Path) -> None:
    (tmp_path / "a.sock").write_text("precious")

    with pytest.raises(ControlSocketError, match="something else has that name"):
        ControlServer(tmp_path / "a.sock", operations).claim()

    assert (tmp_path / "a.sock").read_text() == "precious"


@pytest.mark.parametrize("name", ["no/such/folder/a.sock", "x" * 120 + ".sock"])
def test_a_socket_that_cannot_be_made_is_named(operations: Any, tmp_path: Path, name: str) -> None:
    with pytest.raises(ControlSocketError, match=name[-20:]):
        ControlServer(tmp_path / name, operations).claim()


def test_claiming_and_releasing_may_be_repeated(operations: Any, tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "a.sock", operations)
    server.claim()
    server.claim()
    server.release()
    server.release()

    assert not (tmp_path / "a.sock").exists()
