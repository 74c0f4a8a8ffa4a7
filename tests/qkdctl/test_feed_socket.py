"""The socket on which a QKD stack posts, and the record of what it posted."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from qkdctl import feed_socket
from qkdctl.clock import epoch_clock
from qkdctl.control_socket import SocketInUseError
from qkdctl.feed import MAX_LINE, parse_message
from qkdctl.feed_config import FeedConfig
from qkdctl.feed_inbox import FeedInbox
from qkdctl.feed_record import FeedRecord
from qkdctl.feed_replay import (
    FeedFileError,
    FeedRefusedError,
    check_file,
    read_messages,
    replay,
)
from qkdctl.feed_socket import FeedServer, RateLimit
from qkdctl.settings_in_force import SettingsInForce
from sim import virtual_time

EPOCH_S = 1.7e9


def line(sequence: int, **changes: Any) -> bytes:
    message = {
        "version": 1,
        "sequence": sequence,
        "start_s": 10.0 + sequence,
        "duration_s": 1.0,
        "posted_s": 12.0 + sequence,
        "origin": "error-correction",
        "bases": {"Z": {"sifted": 100, "errors": 2}},
    }
    return json.dumps(message | changes).encode() + b"\n"


class Client:
    """A stack's end of the socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, *lines: bytes) -> None:
        self.writer.writelines(lines)
        await self.writer.drain()

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            text = await self._reader.readline()
        if not text:
            raise EOFError
        answer: dict[str, Any] = json.loads(text)
        return answer

    async def post(self, text: bytes) -> dict[str, Any]:
        await self.send(text)
        return await self.answer()

    async def close(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


class Served:
    """A served inbox and its clients."""

    def __init__(self, path: Path, **config: Any) -> None:
        self.path = path
        now = epoch_clock(EPOCH_S)
        settings = SettingsInForce(lambda: now() - 3600)  # remembers the hour before as well
        settings.settle({})
        self.inbox = FeedInbox(FeedConfig(**config), settings, now)
        self._clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_unix_connection(self.path))
        self._clients.append(client)
        return client

    async def hang_up(self) -> None:
        for client in self._clients:
            await client.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(tmp_path / "lab.feed")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(FeedServer(served.path, served.inbox).serve())
        async with asyncio.timeout(10):
            while not served.path.exists():
                await asyncio.sleep(0)
        yield served
        await served.hang_up()
        task.cancel()


async def test_only_the_operators_group_may_post(served: Served) -> None:
    assert stat.S_IMODE(served.path.stat().st_mode) == 0o660


async def test_the_socket_goes_with_the_daemon(tmp_path: Path) -> None:
    served = Served(tmp_path / "lab.feed")
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(FeedServer(served.path, served.inbox).serve())
        await asyncio.sleep(0)
        assert served.path.exists()
        task.cancel()
    assert not served.path.exists()


async def test_a_second_daemon_is_told_where_to_choose_another_socket(served: Served) -> None:
    with pytest.raises(SocketInUseError, match=r"feed\.socket"):
        await FeedServer(served.path, served.inbox).serve()


async def test_each_line_is_answered_in_order(served: Served) -> None:
    client = await served.connect()
    await client.send(line(0), b"nonsense\n", b"\n", line(1))

    answers = [await client.answer() for _ in range(3)]

    assert [answer["ok"] for answer in answers] == [True, False, True]
    assert [answer["sequence"] for answer in answers] == [0, None, 1]


async def test_several_clients_post_side_by_side(served: Served) -> None:
    first, second = await served.connect(), await served.connect()

    assert (await first.post(line(0, stream="z")))["ok"]
    assert (await second.post(line(0, stream="x")))["ok"]
    assert (await first.post(line(1, stream="z")))["ok"]


async def test_a_line_without_an_end_is_refused_and_the_next_one_taken(served: Served) -> None:
    client = await served.connect()

    assert (await client.post(b"x" * (3 * MAX_LINE) + b"\n"))["reason"] == "too-long"
    assert (await client.post(line(0)))["ok"]


async def test_a_client_that_cuts_a_line_short_leaves_nothing_behind(served: Served) -> None:
    await (await served.connect()).send(line(0)[:-20])
    await served.hang_up()

    assert (await (await served.connect()).post(line(0)))["ok"]


async def test_one_client_too_many_is_told_so(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_socket, "MAX_CLIENTS", 1)
    assert (await (await served.connect()).post(line(0)))["ok"]

    assert (await (await served.connect()).answer())["reason"] == "busy"


async def test_a_client_that_reads_no_answers_harms_nobody(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_socket, "MAX_UNREAD", 1000)
    deaf, other = await served.connect(), await served.connect()
    await deaf.send(*[b"x\n"] * 900)  # its answers fill every buffer there is

    assert (await other.post(line(0)))["ok"]
    assert served.inbox.counts()["refused"]["not-json"] > 0


def test_a_client_that_floods_is_made_to_wait() -> None:
    async def flood() -> float:
        now = asyncio.get_running_loop().time
        limit, begun_s = RateLimit(100.0, now), now()
        for _ in range(350):
            await limit.wait()
        return now() - begun_s

    assert virtual_time.run(flood()) == pytest.approx(2.5)  # the first hundred pass at once


def test_a_record_is_a_file_of_messages_and_bounded(tmp_path: Path) -> None:
    record = FeedRecord(tmp_path / "feed.jsonl", megabytes=0.002, files=2)
    for number in range(60):
        record.add(parse_message(line(number)), EPOCH_S + number)
    record.close()

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["feed.jsonl", "feed.jsonl.1", "feed.jsonl.2"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert check_file(tmp_path / "feed.jsonl").messages > 0


def test_a_record_that_cannot_be_written_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = FeedRecord(tmp_path / "missing" / "feed.jsonl", megabytes=1, files=1)
    record.add(parse_message(line(0)), EPOCH_S)
    record.add(parse_message(line(1)), EPOCH_S)

    assert caplog.text.count("cannot be written") == 1


def test_the_first_fault_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_bytes(line(0) + b"\n" + line(1, origin="guessed") + b"nonsense\n")

    with pytest.raises(FeedFileError, match="line 3: origin"):
        check_file(path)


async def test_a_file_is_posted_again_in_its_own_time_or_faster(
    served: Served, tmp_path: Path
) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_bytes(b"".join(line(number) for number in range(5)))
    slept_s: list[float] = []

    posted = await asyncio.to_thread(
        lambda: replay(path, served.path, speed=4.0, clock=lambda: EPOCH_S, sleep=slept_s.append)
    )

    assert (posted.accepted, posted.refused) == (5, 0)
    assert slept_s == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert served.inbox.latest is not None
    assert served.inbox.latest.duration_s == 0.25


async def test_what_a_replay_was_refused_is_told(served: Served, tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_bytes(line(0) + line(0))

    posted = await asyncio.to_thread(replay, path, served.path, sleep=lambda _: None)

    assert (posted.accepted, posted.refused) == (1, 1)
    assert "came before" in str(posted.first_refusal)


def test_a_file_that_grows_is_read_as_it_was_at_first(tmp_path: Path) -> None:
    path = tmp_path / "feed.jsonl"
    path.write_bytes(line(0) + line(1))
    numbers = []
    for message in read_messages(path):
        numbers.append(message.sequence)
        with path.open("ab") as stream:
            stream.write(line(7))

    assert numbers == [0, 1]


def test_a_replay_to_nobody_says_so(tmp_path: Path) -> None:
    with pytest.raises(FeedRefusedError, match="is the daemon running"):
        replay(tmp_path / "feed.jsonl", tmp_path / "nowhere.feed")
