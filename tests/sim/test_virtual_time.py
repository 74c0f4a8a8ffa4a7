import asyncio
import threading
import time

import pytest

from sim.virtual_time import StuckError, VirtualTimeLoop, run


def test_a_day_passes_in_no_time() -> None:
    async def wait() -> float:
        await asyncio.sleep(86_400 * 3)
        return asyncio.get_running_loop().time()

    began = time.perf_counter()

    assert run(wait()) == 86_400 * 3
    assert time.perf_counter() - began < 1


def test_the_clock_starts_at_zero_and_stands_still_while_work_is_ready() -> None:
    async def work() -> set[float]:
        seen = set()
        for _ in range(100):
            await asyncio.sleep(0)
            seen.add(asyncio.get_running_loop().time())
        return seen

    assert run(work()) == {0.0}


def test_timers_fire_in_order_at_their_exact_times() -> None:
    fired: list[tuple[str, float]] = []

    async def after(name: str, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        fired.append((name, asyncio.get_running_loop().time()))

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            for name, delay_s in (("late", 3.3), ("early", 0.1), ("middle", 2.0)):
                tasks.create_task(after(name, delay_s))

    run(main())

    assert fired == [("early", 0.1), ("middle", 2.0), ("late", 3.3)]


def test_a_timeout_fires_at_its_deadline() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7.5):
                await asyncio.sleep(1e9)
        return asyncio.get_running_loop().time()

    assert run(main()) == 7.5


def test_waiting_for_what_never_comes_names_who_waits() -> None:
    async def wait_for_ever() -> None:
        await asyncio.sleep(2)
        await asyncio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait_for_ever(), name="the patient one")

    with pytest.raises(StuckError, match=r"at 2 s.*the patient one"):
        run(main())


def test_a_worker_thread_is_not_used() -> None:
    async def main() -> int:
        return await asyncio.to_thread(threading.get_ident)

    assert run(main()) == threading.get_ident()


def test_an_error_in_the_worker_reaches_the_caller() -> None:
    async def main() -> None:
        await asyncio.to_thread(int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        run(main())


def test_a_task_that_only_uses_workers_lets_others_run() -> None:
    done = asyncio.Event()

    async def busy() -> int:
        turns = 0
        while not done.is_set():
            await asyncio.to_thread(lambda: None)
            turns += 1
            assert turns < 1000
        return turns

    async def other() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        done.set()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(busy())
            tasks.create_task(other())

    run(main())


def test_a_cancelled_wait_for_a_worker_ends_quietly() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(asyncio.to_thread(lambda: 1))
            await asyncio.sleep(0)
            task.cancel()

    run(main())


def test_it_serves_as_a_runner_loop_factory() -> None:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(asyncio.sleep(10))
        assert runner.get_loop().time() == 10
