"""Files of feed messages: checking them, and posting them again with their timing, or faster."""

import json
import math
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from qkdctl.feed import FeedError, FeedMessage, message_line, parse_message

ANSWER_TIMEOUT_S = 10.0


class FeedFileError(Exception):
    """A file cannot be read as messages of the feed; the text names the file, and the line."""


class FeedRefusedError(Exception):
    """Nobody takes what is posted; the text says why."""


@dataclass(frozen=True)
class FileSummary:
    """What a file holds.

    Attributes:
        messages: How many.
        first_s: Start of the earliest window, s; None in an empty file.
        last_s: End of the latest one, s.
        by_origin: Messages of each origin.
    """

    messages: int
    first_s: float | None
    last_s: float | None
    by_origin: dict[str, int]


@dataclass
class Posted:
    """What became of what was posted.

    Attributes:
        accepted: Messages taken.
        refused: Messages refused.
        first_refusal: What was said of the first of them.
    """

    accepted: int = 0
    refused: int = 0
    first_refusal: str | None = None

    def count(self, answer: dict[str, Any]) -> None:
        """Take in an answer."""
        if answer["ok"]:
            self.accepted += 1
            return
        self.refused += 1
        if self.first_refusal is None:
            self.first_refusal = str(answer["error"])


def read_messages(path: Path) -> Iterator[FeedMessage]:
    """Read a file line by line, as far as it was written by now; empty lines are passed over.

    Raises:
        FeedFileError: It cannot be read, or a line is no message: the first of them is named.
    """
    try:
        with path.open("rb") as stream:
            left = _size(stream)
            for number, line in enumerate(stream, start=1):
                left -= len(line)
                if line.strip():
                    yield _parsed(line, f"{path}, line {number}")
                if left <= 0:
                    return
    except OSError as exc:
        raise FeedFileError(f"{path}: {exc.strerror or exc}") from exc


def check_file(path: Path) -> FileSummary:
    """Read a whole file.

    Raises:
        FeedFileError: As ``read_messages``.
    """
    first_s: float | None = None
    last_s: float | None = None
    by_origin: dict[str, int] = {}
    for message in read_messages(path):
        first_s = message.start_s if first_s is None else min(first_s, message.start_s)
        last_s = message.end_s if last_s is None else max(last_s, message.end_s)
        by_origin[message.origin] = by_origin.get(message.origin, 0) + 1
    return FileSummary(sum(by_origin.values()), first_s, last_s, by_origin)


def replay(
    path: Path,
    feed: Path,
    *,
    speed: float = 1.0,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Posted:
    """Post the messages of a file to a daemon, as if they were measured now.

    All times of the messages are moved to the present, and shortened by the speed: a window keeps
    its counts, and its distance from when it came. Which setting was in force is told anew.

    Args:
        path: The file.
        feed: Socket of the feed.
        speed: How much faster than it was.
        clock: Tells seconds since the epoch.
        sleep: Waits, s.

    Raises:
        FeedFileError: The file is wrong; what came before that line has been posted.
        FeedRefusedError: Nobody listens at the socket, or the connection was lost.
    """
    posted = Posted()
    begun_s = clock()
    origin_s: float | None = None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(str(feed))
            answers = connection.makefile("rb")
            for message in read_messages(path):
                came_s = _came_s(message)
                origin_s = came_s if origin_s is None else origin_s
                due_s = begun_s + (came_s - origin_s) / speed
                sleep(max(due_s - clock(), 0.0))
                connection.sendall(message_line(moved(message, came_s, due_s, speed)))
                posted.count(_answer(answers.readline()))
    except OSError as exc:
        raise FeedRefusedError(f"{feed}: {exc.strerror or exc}; is the daemon running?") from exc
    return posted


def moved(message: FeedMessage, came_s: float, now_s: float, speed: float) -> FeedMessage:
    """Give a message as if it had come at another time.

    Args:
        message: As it was.
        came_s: When it came, by the clock of the stack, s.
        now_s: When it comes now, s.
        speed: How much faster everything goes.
    """
    return message.model_copy(
        update={
            "start_s": now_s - (came_s - message.start_s) / speed,
            "duration_s": message.duration_s / speed,
            "posted_s": now_s,
            "in_force_s": None,
            "received_s": None,
        }
    )


def _came_s(message: FeedMessage) -> float:
    """Return when a message came, or would have: posted, received, or at the window's end."""
    if message.posted_s is not None:
        return message.posted_s
    return message.end_s if message.received_s is None else message.received_s


def _size(stream: IO[bytes]) -> float:
    """Return how long a file is; a pipe has no end yet."""
    found = os.fstat(stream.fileno())
    return found.st_size if stat.S_ISREG(found.st_mode) else math.inf


def _parsed(line: bytes, where: str) -> FeedMessage:
    try:
        return parse_message(line)
    except FeedError as exc:
        raise FeedFileError(f"{where}: {exc}") from None


def _answer(line: bytes) -> dict[str, Any]:
    if not line:
        raise ConnectionResetError("the daemon hung up")
    answer: dict[str, Any] = json.loads(line)
    return answer
