"""The guide for new kinds of controllers is true: its code runs, and its example can be aligned."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution

from calibration import posterior
from calibration.chain import Chain
from calibration.clicks import Clicks
from calibration.sampler import RotationSampler

GUIDE = Path(__file__).parents[2] / "docs" / "actuators.md"


@pytest.fixture(scope="module")
def guide() -> dict[str, Any]:
    """What the guide's Python leaves behind."""
    names: dict[str, Any] = {"__name__": __name__}
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    for number, block in enumerate(blocks):
        exec(compile(block, f"{GUIDE.name}, block {number}", "exec"), names)  # noqa: S102
    return names


def test_the_sampler_aligns_with_the_guide_s_chain(guide: dict[str, Any]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    chain: Chain = guide["chain"]
    rng = np.random.default_rng(2)
    truth = chain.draw(rng, 1)
    space: dict[str, BaseDistribution] = {
        name: FloatDistribution(0.0, 300.0) for name in ("a", "b", "c")
    }
    study = optuna.create_study(sampler=RotationSampler(space, chain=chain, seed=3))
    for _ in range(8):
        trial = study.ask(space)
        drives = np.array([list(trial.params.values())])
        p = np.kron(chain.error_probability(truth, drives)[0, 0].T, np.ones((2, 2)))
        unlike = np.tile(1 - np.eye(2), (2, 2))
        table = rng.poisson(100 * np.where(unlike == 1, p, 1 - p))
        trial.set_user_attr("clicks", table.tolist())
        study.tell(trial, Clicks(table).qber.value)

    setting = study.sampler.advice(study).setting  # type: ignore[attr-defined]

    assert chain.excess(truth, np.array([list(setting.values())]))[0, 0] < 0.003


def test_the_guide_s_table_names_every_model() -> None:
    text = GUIDE.read_text()

    assert all(f"| `{model.__name__}` |" in text for model in posterior.MODELS.values())
