"""An event loop whose clock jumps: days pass in seconds, in the same order every time."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class StuckError(RuntimeError):
    """Tasks wait, but no timer is left that could ever wake one of them."""


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Event loop that skips waiting: when nothing is ready, its clock jumps to the next timer.

    The clock starts at 0 and moves only so. What would go to a worker thread runs inline, at the
    moment it is asked for; its result arrives one turn of the loop later, so that other tasks get
    their turn as they would beside a thread. Real sockets have no place here: nobody waits for
    them.

    Raises:
        StuckError: Out of ``run``: nothing is ready and no timer is left.
    """

    def __init__(self) -> None:
        self._now_s = 0.0
        super().__init__(_SkippingSelector(self._skip))

    def time(self) -> float:
        """Return virtual time, s."""
        return self._now_s

    def run_in_executor(
        self, executor: object, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """Run ``func`` now, in this thread; the future is finished in the loop's next turn."""
        future: asyncio.Future[_T] = self.create_future()
        try:
            result = func(*args)
        except Exception as error:  # noqa: BLE001  # as an executor: it is for whoever awaits
            self.call_soon(_settle, future, future.set_exception, error)
        else:
            self.call_soon(_settle, future, future.set_result, result)
        return future

    def _skip(self, wait_s: float | None) -> None:
        if wait_s is None:
            waiting = sorted(task.get_name() for task in asyncio.all_tasks(self))
            raise StuckError(
                f"virtual time stands still at {self._now_s:g} s: nothing is ready and no timer is "
                f"left to wake {', '.join(waiting) or 'anything'}"
            )
        self._now_s += wait_s


def _settle(future: asyncio.Future[_T], settle: Callable[[Any], None], outcome: object) -> None:
    if not future.cancelled():
        settle(outcome)


class _SkippingSelector(selectors.SelectSelector):
    """Reports what is ready at once, and has the clock skip whatever the loop would wait."""

    def __init__(self, skip: Callable[[float | None], None]) -> None:
        super().__init__()
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout != 0:
            self._skip(timeout)
        return ready


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Run ``main`` to its end in virtual time that starts at 0."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)
