"""The DataLink service of the ID900: command lines in, JSON out, time stamps on streams.

Assumed, for want of a manual: the wording of the errors, and what the empty message means (see
``EmptyMessage``). Saving to files and reference indices are not modelled.
"""

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from sim.wire import Reply

DATALINK: Final = "datalink"
CHANNELS: Final = (1, 2, 3, 4)
FIRST_ACQUISITION_PORT: Final = 5556
"""Port in the id of an acquisition on channel 1; it is the data port of the time controller."""

EmptyMessage = Literal["acquisition", "stream"]
"""What an empty message on a stream ends: each acquisition, or the stream as a whole."""


def stream_port(channel: int) -> str:
    """Return the name of the port that carries a channel's time stamps."""
    return f"stream-{channel}"


@dataclass
class _Stream:
    channel: int
    last_activity_s: float
    acquisitions: int = 0
    tags: int = 0

    def status(self, now_s: float) -> dict[str, object]:
        return {
            "acquisitions_count": self.acquisitions,
            "timestamps_count": self.tags,
            "inactivity": round(now_s - self.last_activity_s, 6),
            "errors": [],
        }


class _RequestError(Exception):
    """The service declines; the text is its description."""


class DataLink:
    """The service, and what it passes on.

    Args:
        empty_message_ends: What an empty message ends.
        tags_per_message: Largest number of time stamps in one message.

    Attributes:
        stream_ports: TCP port of each channel's stream; None accepts whatever is asked for.
    """

    def __init__(self, empty_message_ends: EmptyMessage, tags_per_message: int) -> None:
        self.stream_ports: Mapping[int, int] | None = None
        self._empty_message_ends = empty_message_ends
        self._tags_per_message = tags_per_message
        self._streams: dict[str, _Stream] = {}

    def request(self, text: str, now_s: float) -> list[Reply]:
        """Answer one request; stopping a stream may end it as well."""
        replies: list[Reply] = []
        answer: object
        try:
            answer = self._answer(text, now_s, replies)
        except _RequestError as error:
            answer = {"error": {"description": str(error)}}
        return [*replies, Reply(json.dumps(answer).encode(), port=DATALINK)]

    def is_listening(self, channel: int) -> bool:
        """Tell whether somebody asked for a channel's time stamps."""
        return self._find(channel) is not None

    def deliver(
        self, channel: int, tags: NDArray[np.uint64], now_s: float, after_s: float, *, is_end: bool
    ) -> list[Reply]:
        """Pass time stamps on to a channel's stream, if there is one."""
        stream = self._find(channel)
        if stream is None:
            return []
        stream.tags += tags.size
        stream.last_activity_s = now_s + after_s
        data, port = tags.astype("<u8", copy=False), stream_port(channel)
        size = self._tags_per_message
        messages = [data[start : start + size].tobytes() for start in range(0, data.size, size)]
        if is_end:
            stream.acquisitions += 1
            if self._empty_message_ends == "acquisition":
                messages.append(b"")
        return [Reply(message, after_s, port) for message in messages]

    def _find(self, channel: int) -> _Stream | None:
        return next((s for s in self._streams.values() if s.channel == channel), None)

    def _answer(self, text: str, now_s: float, replies: list[Reply]) -> object:
        verb, options = _parse(text)
        match verb:
            case "list":
                return list(self._streams)
            case "start-stream":
                return {"id": self._start(options, now_s)}
            case "status":
                return self._stream(options)[1].status(now_s)
            case "stop":
                name, stream = self._stream(options)
                del self._streams[name]
                if self._empty_message_ends == "stream":
                    replies.append(Reply(b"", port=stream_port(stream.channel)))
                return {"status": stream.status(now_s)}
            case "start-save":
                raise _RequestError("saving to a file is not available")
            case _:
                raise _RequestError(f"unknown command '{verb}'")

    def _start(self, options: Mapping[str, str], now_s: float) -> str:
        if missing := {"address", "channel", "stream-port"} - set(options):
            raise _RequestError(f"missing option '--{min(missing)}'")
        if "with-ref-index" in options:
            raise _RequestError("a reference index is not available")
        channel, port = _integer(options, "channel"), _integer(options, "stream-port")
        if channel not in CHANNELS:
            raise _RequestError(f"channel {channel} is not between 1 and 4")
        if self.is_listening(channel):
            raise _RequestError(f"an acquisition is already active on channel {channel}")
        if self.stream_ports is not None and self.stream_ports.get(channel) != port:
            raise _RequestError(f"cannot open stream port {port}")
        name = f"{options['address']}:{FIRST_ACQUISITION_PORT + channel - 1}"
        self._streams[name] = _Stream(channel, now_s)
        return name

    def _stream(self, options: Mapping[str, str]) -> tuple[str, _Stream]:
        name = options.get("id", "")
        if name not in self._streams:
            raise _RequestError(f"unknown acquisition id '{name}'")
        return name, self._streams[name]


_SWITCHES: Final = ("with-ref-index",)


def _parse(text: str) -> tuple[str, dict[str, str]]:
    """Read a verb and its ``--option value`` pairs, in any order."""
    try:
        verb, *words = shlex.split(text) or [""]
    except ValueError as error:
        raise _RequestError(str(error)) from error
    options: dict[str, str] = {}
    while words:
        word = words.pop(0)
        name = word.removeprefix("--")
        if name == word or not (name in _SWITCHES or words):
            raise _RequestError(f"unexpected '{word}'")
        options[name] = "" if name in _SWITCHES else words.pop(0)
    return verb, options


def _integer(options: Mapping[str, str], name: str) -> int:
    text = options[name]
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise _RequestError(f"option '--{name}' needs a number, not '{text}'")
    return int(text)
