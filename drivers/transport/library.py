"""Vendor libraries in the place of a wire: blocking calls, one at a time, every wait bounded.

A call that hangs inside a library cannot be ended from outside. Its caller is told after a bounded
time; its thread is left alone, and until it returns nothing else is called.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar, runtime_checkable

from drivers.errors import RejectedError, SettingError, TransportError
from drivers.roles import Health
from drivers.transport.trace import Trace

# What a library raises when an argument is not to its liking; NotImplementedError is that too,
# although it is a RuntimeError.
REFUSALS = (ValueError, IndexError, OverflowError, NotImplementedError)
# What it raises when the device is gone or does not do as it should.
FAILURES = (RuntimeError, OSError)
# What a trace and an error text show of a call.
SHOWN_CHARACTERS = 200

_T = TypeVar("_T")


class NotReturnedError(TransportError):
    """A call has not come back in time: nothing else can be called until it does."""


@runtime_checkable
class Library(Protocol):
    """A vendor's library and whoever carries out its calls. A call may be cancelled at any time."""

    async def load(self) -> Any:
        """Import it; raises ImportError where it is not installed."""
        ...

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Have ``function`` called where blocking does no harm; raises what it raises."""
        ...


class ThreadedLibrary:
    """A library whose calls each run in a thread that does not hold up the end of the program.

    Args:
        name: Name of the threads.
        importing: Imports the library and returns it.
    """

    def __init__(self, name: str, importing: Callable[[], Any]) -> None:
        self._name = name
        self._importing = importing
        self._library: Any = None
        self._last: Future[Any] | None = None

    async def load(self) -> Any:
        """Import the library, the first time."""
        if self._library is None:
            self._library = await self.call(self._importing)
        return self._library

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call ``function``, after the call before has returned, given up or not."""
        await self._wait_for_last()
        self._last = future = Future[Any]()
        threading.Thread(
            target=_carry_out, args=(future, function, args), name=self._name, daemon=True
        ).start()
        return await asyncio.wrap_future(future)

    async def _wait_for_last(self) -> None:
        if self._last is None:
            return
        # Unlike awaiting the future itself, this leaves it alone when cancelled.
        done, _ = await asyncio.wait([asyncio.wrap_future(self._last)])
        for future in done:
            if not future.cancelled():
                future.exception()  # it was for a caller who is gone
        self._last = None


def _carry_out(future: Future[Any], function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*args)
    except Exception as exc:  # noqa: BLE001  # as an executor: it is for whoever awaits
        future.set_exception(exc)
    else:
        future.set_result(result)


class Calls:
    """The right to call the library about one instrument, undisturbed, until the block ends."""

    def __init__(self, link: "LibraryLink") -> None:
        self._link = link

    @property
    def instrument(self) -> str:
        """Name of the instrument, for errors."""
        return self._link.instrument

    async def call(
        self, function: Callable[..., _T], *args: Any, timeout_s: float | None = None
    ) -> _T:
        """Call a function of the library, or one that calls it.

        Raises:
            RejectedError: The library does not take the arguments; nothing has changed.
            NotReturnedError: It has not returned in time.
            TransportError: The library says that it failed.
        """
        return await self._link.carry_out(function, args, timeout_s)


class LibraryLink:
    """The link to one instrument through a vendor's library, shared by whoever holds its driver.

    As with a transport, a failed link is not given up: the next dialogue runs ``on_reopen`` before
    anything else, and if that fails it does not start. ``on_set_up`` follows, unless the dialogue
    is urgent: then it is left for the next one that is not.

    Args:
        instrument: Name in errors and in the trace.
        library: Carries out the calls; the link is its only user.
        timeout_s: Longest wait for one call, s.
        trace: Traffic log, if wanted; results that are more than a number or a word are not shown.

    Attributes:
        on_reopen: Set by the driver: get hold of the device, if it is not held already, and see
            that it is the configured one. Runs when the link is opened, too, as does the next one.
        on_set_up: Set by the driver: put back what was lost.
        on_close: Set by the driver: let the device go.
    """

    def __init__(
        self,
        instrument: str,
        library: Library,
        *,
        timeout_s: float = 2.0,
        trace: Trace | None = None,
    ) -> None:
        self.instrument = instrument
        self.on_reopen: Callable[[Calls], Awaitable[None]] | None = None
        self.on_set_up: Callable[[Calls], Awaitable[None]] | None = None
        self.on_close: Callable[[Calls], Awaitable[None]] | None = None
        self._library = library
        self._timeout_s = timeout_s
        self._trace = trace
        self._lock = asyncio.Lock()
        self._is_wanted = False
        self._is_dirty = True
        self._is_set_up = False
        self._connected = 0
        self._exchanges = 0
        self._errors = 0
        self._round_trip_s: float | None = None
        self._last_error: str | None = None

    async def open(self) -> None:
        """Take up the device; nothing happens on a link that is open and in step.

        Raises:
            InstrumentError: What ``on_reopen`` or ``on_set_up`` raised. Later dialogues try again
                until ``close``.
        """
        async with self._lock:
            self._is_wanted = True
            await self._put_in_step(is_urgent=False)

    async def close(self) -> None:
        """Let the device go, after the dialogue in progress if there is one."""
        async with self._lock:
            self._is_wanted = False
            self._is_dirty = True
            if self.on_close is None:
                return
            try:
                await self.on_close(Calls(self))
            except TransportError as exc:
                self._remark(f"not closed: {exc.problem}")

    @asynccontextmanager
    async def exclusive(self, *, is_urgent: bool = False) -> AsyncIterator[Calls]:
        """Hold one dialogue under the lock.

        Whatever ends the block early leaves the link in doubt, except a refusal.

        Args:
            is_urgent: It needs no more than that this is the right device.

        Raises:
            TransportError: Not open, or the device could not be taken up again.
        """
        async with self._lock:
            if not self._is_wanted:
                raise TransportError(self.instrument, "the link is not open")
            await self._put_in_step(is_urgent=is_urgent)
            try:
                yield Calls(self)
            except (SettingError, RejectedError):
                raise
            except BaseException:
                self._is_dirty = True
                raise

    async def load(self) -> Any:
        """Return the library.

        Raises:
            SettingError: It is not installed; the text says how to install it.
            TransportError: It cannot be loaded.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._library.load()
        except ImportError as exc:
            raise SettingError(self.instrument, str(exc)) from exc
        except TimeoutError as exc:
            raise self._failed("the library is not loaded yet", "import", NotReturnedError) from exc
        except FAILURES as exc:
            raise self._failed(str(exc), "import") from exc

    async def carry_out(
        self, function: Callable[..., _T], args: tuple[Any, ...], timeout_s: float | None
    ) -> _T:
        """Make one call; only for whoever holds a dialogue. Raises as ``Calls.call`` does."""
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        sent = _shown_call(function, args)
        self._exchanges += 1
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        if self._trace:
            self._trace.sent(self.instrument, sent.encode())
        try:
            async with asyncio.timeout(limit_s):
                result: _T = await self._library.call(function, *args)
        except TimeoutError as exc:
            problem = f"no reply within {limit_s:g} s: the call has not returned"
            raise self._failed(problem, sent, NotReturnedError) from exc
        except REFUSALS as exc:
            self._remark(str(exc))
            raise RejectedError(
                self.instrument, "the library refused", sent=sent, received=str(exc)
            ) from exc
        except FAILURES as exc:
            raise self._failed(str(exc) or type(exc).__name__, sent) from exc
        except BaseException:
            self._is_dirty = True
            raise
        self._round_trip_s = loop.time() - started_s
        if self._trace:
            self._trace.received(self.instrument, _shown_result(result).encode())
        return result

    def note_connection(self) -> None:
        """Count that the driver got hold of the device anew."""
        self._connected += 1

    def health(self) -> Health:
        """Tell how the link has fared."""
        return Health(
            exchanges=self._exchanges,
            errors=self._errors,
            reconnects=max(0, self._connected - 1),
            last_round_trip_s=self._round_trip_s,
            last_error=self._last_error,
        )

    async def _put_in_step(self, *, is_urgent: bool) -> None:
        if self._is_dirty:
            self._is_set_up = False
            if self.on_reopen is not None:
                await self.on_reopen(Calls(self))
            self._is_dirty = False
        if not (is_urgent or self._is_set_up):
            if self.on_set_up is not None:
                await self.on_set_up(Calls(self))
            self._is_set_up = True

    def _failed(
        self, problem: str, sent: str, kind: type[TransportError] = TransportError
    ) -> TransportError:
        """Mark the link as in doubt and make the error that says why."""
        self._is_dirty = True
        self._errors += 1
        self._last_error = problem
        self._remark(problem)
        return kind(self.instrument, problem, sent=sent)

    def _remark(self, text: str) -> None:
        if self._trace:
            self._trace.remark(self.instrument, text)


def _shown_call(function: Callable[..., Any], args: tuple[Any, ...]) -> str:
    """A call as somebody would have written it, for errors and the trace."""
    named = function.func if isinstance(function, partial) else function
    name = getattr(named, "__name__", type(named).__name__)
    return f"{name}({', '.join(_shown_result(arg) for arg in args)})"[:SHOWN_CHARACTERS]


def _shown_result(value: object) -> str:
    """A number or a word; of anything else only its type: tags are bulky, and some are secret."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)[:SHOWN_CHARACTERS]
    return f"<{type(value).__name__}>"
