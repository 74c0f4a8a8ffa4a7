"""Vendor libraries: one call at a time, every wait bounded, and a hung call is waited out."""

import asyncio
import io
import threading
from typing import Any

import pytest

from drivers.errors import RejectedError, SettingError, TransportError
from drivers.transport.connect import Connector
from drivers.transport.library import LibraryLink, NotReturnedError, ThreadedLibrary
from drivers.transport.trace import Trace


class Vendor:
    """A library that hangs until it may go on."""

    def __init__(self) -> None:
        self.may_return = threading.Event()
        self.is_called = threading.Event()
        self.threads: set[str] = set()
        self.overlaps = 0
        self._lock = threading.Lock()

    def echo(self, value: Any) -> Any:
        self.overlaps += not self._lock.acquire(blocking=False)
        self.threads.add(threading.current_thread().name)
        self._lock.release()
        return value

    def hang(self) -> str:
        with self._lock:
            self.is_called.set()
            self.may_return.wait(10)
        return "at last"

    def fail(self, error: Exception) -> None:
        raise error


async def opened(vendor: Vendor, timeout_s: float = 0.1) -> LibraryLink:
    link = LibraryLink("tagger", ThreadedLibrary("tagger", lambda: vendor), timeout_s=timeout_s)
    await link.open()
    return link


async def call(link: LibraryLink, function: Any, *args: Any) -> Any:
    async with link.exclusive() as calls:
        return await calls.call(function, *args)


async def test_a_call_is_made_beside_the_loop_and_its_result_returned() -> None:
    vendor = Vendor()
    link = await opened(vendor, timeout_s=5)

    assert await call(link, vendor.echo, 0.5) == 0.5
    assert vendor.threads == {"tagger"}


async def test_a_call_that_hangs_is_given_up_in_time() -> None:
    vendor = Vendor()
    link = await opened(vendor)
    try:
        with pytest.raises(NotReturnedError, match="not returned") as caught:
            await call(link, vendor.hang)
    finally:
        vendor.may_return.set()

    assert (caught.value.instrument, caught.value.sent) == ("tagger", "hang()")


async def test_nothing_else_is_called_until_a_call_that_hangs_has_returned() -> None:
    vendor = Vendor()
    link = await opened(vendor)
    try:
        with pytest.raises(NotReturnedError):
            await call(link, vendor.hang)
        with pytest.raises(NotReturnedError):
            await call(link, vendor.echo, 1)
        assert not vendor.threads
    finally:
        vendor.may_return.set()

    assert await call(link, vendor.echo, 2) == 2


async def test_a_cancelled_call_runs_to_its_end_before_the_next() -> None:
    vendor = Vendor()
    link = await opened(vendor, timeout_s=5)
    async with asyncio.TaskGroup() as tasks:
        hanging = tasks.create_task(call(link, vendor.hang))
        await asyncio.to_thread(vendor.is_called.wait, 5)
        hanging.cancel()
    async with asyncio.TaskGroup() as tasks:
        next_one = tasks.create_task(call(link, vendor.echo, 3))
        await asyncio.sleep(0)
        vendor.may_return.set()

    assert next_one.result() == 3
    assert vendor.overlaps == 0


async def test_what_a_given_up_call_raises_later_harms_nobody() -> None:
    vendor = Vendor()

    def hang_and_fail() -> None:
        vendor.hang()
        raise RuntimeError("too late")

    link = await opened(vendor)
    with pytest.raises(NotReturnedError):
        await call(link, hang_and_fail)
    vendor.may_return.set()

    assert await call(link, vendor.echo, 4) == 4


@pytest.mark.parametrize("error", [RuntimeError("gone"), OSError("gone")])
async def test_a_failure_of_the_library_is_a_transport_error(error: Exception) -> None:
    vendor = Vendor()
    link = await opened(vendor, timeout_s=5)

    with pytest.raises(TransportError, match="gone"):
        await call(link, vendor.fail, error)

    assert (link.health().errors, link.health().last_error) == (1, "gone")


@pytest.mark.parametrize(
    "error", [ValueError("too high"), OverflowError("too high"), NotImplementedError("too high")]
)
async def test_arguments_that_the_library_does_not_take_are_a_refusal(error: Exception) -> None:
    vendor = Vendor()
    link = await opened(vendor, timeout_s=5)
    reopened = []

    async def note(calls: Any) -> None:
        reopened.append(calls)

    link.on_reopen = note
    with pytest.raises(RejectedError) as caught:
        await call(link, vendor.fail, error)
    await call(link, vendor.echo, 5)

    assert caught.value.received == "too high"
    assert not reopened


async def test_after_a_failure_the_device_is_taken_up_again_before_anything_else() -> None:
    vendor = Vendor()
    link = await opened(vendor, timeout_s=5)
    with pytest.raises(TransportError):
        await call(link, vendor.fail, RuntimeError("gone"))
    order = []

    async def take_up(calls: Any) -> None:
        order.append(await calls.call(vendor.echo, "taken up"))

    link.on_reopen = take_up
    order.append(await call(link, vendor.echo, "asked"))

    assert order == ["taken up", "asked"]


async def test_a_closed_link_calls_nothing() -> None:
    vendor = Vendor()
    link = await opened(vendor, timeout_s=5)
    await link.close()

    with pytest.raises(TransportError, match="not open"):
        await call(link, vendor.echo, 6)
    assert not vendor.threads


async def test_a_device_that_cannot_be_let_go_does_not_keep_the_link_from_closing() -> None:
    vendor = Vendor()
    link = await opened(vendor, timeout_s=5)

    async def let_go(calls: Any) -> None:
        await calls.call(vendor.fail, RuntimeError("gone"))

    link.on_close = let_go
    await link.close()


async def test_a_library_that_is_not_installed_is_told_with_its_cure() -> None:
    def load() -> None:
        raise ImportError("install it")

    link = LibraryLink("tagger", ThreadedLibrary("tagger", load), timeout_s=5)

    with pytest.raises(SettingError, match="tagger: install it"):
        await link.load()


async def test_a_library_that_does_not_load_is_a_transport_error() -> None:
    def load() -> None:
        raise OSError("libusb is missing")

    link = LibraryLink("tagger", ThreadedLibrary("tagger", load), timeout_s=5)

    with pytest.raises(TransportError, match="libusb"):
        await link.load()


async def test_the_trace_shows_calls_and_words_but_no_tags() -> None:
    vendor, stream = Vendor(), io.StringIO()
    library = ThreadedLibrary("tagger", lambda: vendor)
    link = LibraryLink("tagger", library, timeout_s=5, trace=Trace(stream))
    await link.open()

    await call(link, vendor.echo, "a word")
    await call(link, vendor.echo, [123456])

    shown = stream.getvalue()
    assert "> b\"echo('a word')\"" in shown
    assert "123456" not in shown


async def test_a_library_is_no_wire_and_a_wire_no_library() -> None:
    class Channel:
        async def open(self) -> None: ...

    library = ThreadedLibrary("tagger", Vendor)
    connector = Connector(memory={"library": lambda: library, "wire": Channel})  # type: ignore[dict-item]

    with pytest.raises(SettingError, match="not a wire"):
        connector.channel("tagger", "memory:library")
    with pytest.raises(SettingError, match="not a library"):
        connector.library("tagger", "memory:wire", Vendor)
