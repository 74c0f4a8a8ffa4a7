"""What every test promises: no task is left behind. Who takes minutes begins first."""

import asyncio
import inspect
import signal
from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

# Where the tests run in the background of a shell, Ctrl-C would be ignored by all that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("shared machine", deadline=None)
settings.load_profile("shared machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if inspect.iscoroutinefunction(getattr(item, "function", None)):
            item.add_marker(pytest.mark.usefixtures("no_task_left_behind"))
    items.sort(key=lambda item: item.get_closest_marker("begins_first") is None)


@pytest.fixture
async def no_task_left_behind() -> AsyncIterator[None]:
    """Fail a test that leaves a task running."""
    before = asyncio.all_tasks()
    yield
    left = [task for task in asyncio.all_tasks() - before if not task.done()]
    assert not left, f"tasks left behind: {[task.get_name() for task in left]}"
