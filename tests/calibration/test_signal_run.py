import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from calibration.account import Account, BudgetError, StageBudget
from calibration.metering import RETRY_DELAYS_S
from calibration.signal_run import Figure, PreconditionError, SignalRun
from calibration.trials import MemoryTrialLog
from drivers.errors import InstrumentError, SettingError, TransportError
from sim.virtual_time import run

Conduct = Callable[..., Any]


class Scripted:
    """A procedure of which every step is told beforehand; less is better."""

    name = "scripted"
    figure_name = "error"
    unit = "ps"
    target = 0.0

    def __init__(self, figures: Sequence[float]) -> None:
        self.figures = list(figures)
        self.done: list[str] = []
        self.search_ends: Callable[[], None] = lambda: None
        self.search_s = 1.0
        self.restore_fails: Exception | None = None
        self.photons = 100

    async def measure(self, account: Account) -> Figure:
        self.done.append("measure")
        account.spend(account.affordable(self.photons))
        return Figure.normal(self.figures.pop(0), 1.0)

    def is_good(self, figure: Figure) -> bool:
        return figure.value < 5

    async def search(self, account: Account) -> str:
        self.done.append("search")
        await asyncio.sleep(self.search_s)
        self.search_ends()
        return "found"

    def is_worse(self, before: Figure, after: Figure) -> bool:
        return after.low > before.high

    async def restore(self) -> None:
        self.done.append("restore")
        if self.restore_fails:
            raise self.restore_fails

    def in_force(self) -> dict[str, float]:
        return {"knob": float(len(self.done))}


def test_a_better_figure_by_a_fresh_measurement_is_kept(conduct: Conduct) -> None:
    procedure = Scripted([20, 2])

    result = conduct(procedure).result

    assert procedure.done == ["measure", "search", "measure"]
    assert result.outcome == "accepted"
    assert (
        result.reason == "error 2 ps (0.3551 to 3.645) after, 20 ps (18.36 to 21.64) before; found"
    )
    assert (result.before.value, result.after.value) == (20, 2)
    assert result.photons == {"before": 100, "verify": 100}
    assert result.setting == {"knob": 3.0}


def test_what_is_good_is_left_alone_if_wanted(conduct: Conduct) -> None:
    procedure = Scripted([2])

    result = conduct(procedure, only_if_needed=True).result

    assert procedure.done == ["measure"]
    assert result.outcome == "skipped"
    assert result.reason.startswith("still good: error 2 ps")


def test_what_is_good_is_done_again_if_asked_for(conduct: Conduct) -> None:
    assert conduct(Scripted([2, 2])).result.outcome == "accepted"


def test_a_worse_figure_is_rolled_back(conduct: Conduct) -> None:
    procedure = Scripted([2, 20])

    result = conduct(procedure).result

    assert procedure.done[-1] == "restore"
    assert result.outcome == "rolled-back"
    assert result.reason.startswith("worse: error 20 ps")
    assert result.reason.endswith("what was in force before is so again")


@pytest.mark.parametrize(
    "failure",
    [
        PreconditionError("no light: open the shutter"),
        BudgetError("no photons left"),
        SettingError("knob", "outside"),
    ],
)
def test_what_stops_a_search_is_the_reason_and_the_start_is_put_back(
    conduct: Conduct, failure: Exception
) -> None:
    procedure = Scripted([20])

    def fail() -> None:
        raise failure

    procedure.search_ends = fail

    result = conduct(procedure).result

    assert result.outcome == "failed"
    assert result.reason.startswith(str(failure))
    assert procedure.done[-1] == "restore"
    assert result.after is None


def test_a_start_that_cannot_be_put_back_is_not_claimed_to_be_in_force(conduct: Conduct) -> None:
    procedure = Scripted([2, 20])
    procedure.restore_fails = TransportError("source", "link lost")

    result = conduct(procedure).result

    assert result.outcome == "failed"
    assert "could not be put back: source: link lost" in result.reason
    assert result.setting == {}


def test_a_stage_ends_when_its_photons_are_spent(conduct: Conduct) -> None:
    result = conduct(Scripted([20, 2]), max_photons=150).result

    assert result.outcome == "failed"
    assert "100 of 150 are spent" in result.reason


def test_a_stage_ends_when_its_time_is_over(conduct: Conduct) -> None:
    procedure = Scripted([20, 2])
    procedure.search_s = 100

    result = conduct(procedure, max_s=30).result

    assert result.outcome == "failed"
    assert result.reason.startswith("not done within 30 s")
    assert procedure.done[-1] == "restore"
    assert result.duration_s == pytest.approx(30)


def test_a_cancelled_stage_puts_the_start_back_before_it_ends() -> None:
    procedure = Scripted([20, 2])
    procedure.search_s = 100

    async def main() -> SignalRun:
        account = Account("s", "study", StageBudget(), MemoryTrialLog(), lambda progress: None)
        stage = SignalRun(procedure, account)
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(stage.run())
            await asyncio.sleep(5)
            task.cancel()
        assert task.cancelled()
        return stage

    result = run(main()).result

    assert procedure.done[-1] == "restore"
    assert result is not None
    assert (result.outcome, result.reason.split(";")[0]) == ("rolled-back", "cancelled")


def test_an_unforeseen_error_is_raised_once_the_start_is_back() -> None:
    procedure = Scripted([20])

    def fail() -> None:
        raise ZeroDivisionError("a bug")

    procedure.search_ends = fail

    async def main() -> None:
        account = Account("s", "study", StageBudget(), MemoryTrialLog(), lambda progress: None)
        with pytest.raises(ZeroDivisionError):
            await SignalRun(procedure, account).run()

    run(main())

    assert procedure.done[-1] == "restore"


@pytest.mark.parametrize(("failures", "lives"), [(3, True), (4, False)])
def test_a_look_is_repeated_as_often_as_a_measurement_of_any_stage(
    failures: int, lives: bool
) -> None:
    notes: list[str] = []
    log = MemoryTrialLog()
    left = failures

    async def read() -> float:
        nonlocal left
        if left:
            left -= 1
            raise TransportError("meter", "no answer")
        return 1.5

    async def main() -> float | None:
        account = Account("s", "s", StageBudget(), log, lambda p: notes.append(p.note or ""))
        try:
            return await account.look({"knob": 1.0}, read)
        except InstrumentError:
            return None

    assert run(main()) == (1.5 if lives else None)
    past = run(log.past("s"))
    assert [trial.state for trial in past] == ["failed"] * failures + ["complete"] * lives
    assert notes == ["meter: no answer; trying again"] * len(RETRY_DELAYS_S)
    if lives:
        assert (past[-1].value, past[-1].params) == (1.5, {"knob": 1.0})
