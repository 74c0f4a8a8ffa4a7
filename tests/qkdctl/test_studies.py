"""Which study an aligning stage goes on with."""

from pathlib import Path

import pytest

from calibration.inversion import Inverted
from qkdctl.history import History
from qkdctl.studies import Studies, study_kind


@pytest.mark.parametrize(("inverted", "is_resumed"), [(("Z",), True), ((), False)])
async def test_a_study_cut_short_goes_on_only_while_the_same_bits_are_inverted(
    tmp_path: Path, inverted: Inverted, is_resumed: bool
) -> None:
    history = History(tmp_path / "lab1.sqlite", lambda: 1000.0)
    await history.open()
    studies = Studies(history, lambda: 1000.0)
    begun = await studies.begin(study_kind("polarization", ("Z",)), None)
    studies.interrupted = begun.name, 900.0

    study = await studies.begin(study_kind("polarization", inverted), None)

    await history.close()
    assert study.is_resumed == is_resumed
