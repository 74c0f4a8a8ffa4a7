from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from calibration.account import Account, StageBudget
from calibration.metering import Progress
from calibration.signal_run import Procedure, SignalResult, SignalRun
from calibration.trials import MemoryTrialLog
from sim.virtual_time import run


@dataclass
class Conducted:
    """A run of a procedure in virtual time, and all that it told."""

    result: SignalResult
    progress: list[Progress] = field(default_factory=list)
    log: MemoryTrialLog = field(default_factory=MemoryTrialLog)

    @property
    def notes(self) -> list[str]:
        return [progress.note or "" for progress in self.progress]


Conduct = Callable[..., Conducted]


@pytest.fixture
def conduct() -> Conduct:
    """Run a procedure: ``conduct(procedure, only_if_needed=…, max_photons=…, max_s=…)``."""

    def conducted(
        procedure: Procedure,
        *,
        only_if_needed: bool = False,
        max_photons: int = 10_000_000,
        max_s: float = 1000.0,
    ) -> Conducted:
        progress: list[Progress] = []
        log = MemoryTrialLog()

        async def main() -> SignalResult:
            budget = StageBudget(max_photons=max_photons, max_s=max_s)
            account = Account(procedure.name, "study", budget, log, progress.append)
            stage = SignalRun(procedure, account)
            result = await stage.run(only_if_needed=only_if_needed)
            assert stage.result is result
            return result

        return Conducted(run(main()), progress, log)

    return conducted
