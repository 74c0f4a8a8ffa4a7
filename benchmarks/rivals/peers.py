"""Public laboratory optimisers, run as their users run them; from the optional extra ``peers``."""

import contextlib
import logging
import os
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tasks.link import BudgetSpentError, Link

PHOTONS, SETTINGS = 4000, 100
"""Its Gaussian process takes about a second per setting and more the longer it runs."""


def m_loop(link: Link, seed: int) -> None:
    """Run M-LOOP with its Gaussian-process learner, which is its default, for some settings.

    It is told the uncertainty of every cost, as its manual advises. Source: P. B. Wigley et al.,
    Scientific Reports 6, 25890 (2016).
    """
    create_controller = import_module("mloop.controllers").create_controller
    Interface: Any = import_module("mloop.interfaces").Interface

    class LinkInterface(Interface):  # type: ignore[misc]  # M-LOOP has no types
        """The link as M-LOOP sees an experiment; it calls this from a thread of its own."""

        def __init__(self) -> None:
            super().__init__()
            self.best: tuple[float, Any] = (np.inf, link.middle)

        def get_next_cost_dict(self, params_dict: dict[str, Any]) -> dict[str, Any]:
            """Take one reading."""
            params = np.array(params_dict["params"], dtype=float)
            try:
                reading = link.count(params, PHOTONS)
            except BudgetSpentError:
                return {"cost": np.nan, "bad": True}
            self.best = min(self.best, (reading.qber, params), key=lambda pair: pair[0])
            link.recommend(self.best[1])
            return {"cost": reading.qber, "uncer": float(np.sqrt(reading.variance)), "bad": False}

    np.random.seed(seed)  # M-LOOP draws from the global generator
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        logging.disable(logging.CRITICAL)
        with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            controller = create_controller(
                LinkInterface(),
                controller_type="gaussian_process",
                max_num_runs=SETTINGS,
                num_params=len(link.half_turn),
                min_boundary=link.limits[0].tolist(),
                max_boundary=link.limits[1].tolist(),
                controller_archive_file_type="pkl",
                learner_archive_file_type="pkl",
            )
            controller.optimize()
        logging.disable(logging.NOTSET)
