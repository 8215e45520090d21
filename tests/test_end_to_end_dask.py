"""The whole pipeline on a Dask cluster that loses a worker: the same bytes as with threads."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
from dask_helpers import AtJob, kill_a_worker, within
from helpers import Campaign, differing, products, settings_of

from master_controller import MasterController

pytest.importorskip("distributed", reason="pip install distributed")
JOBS_BEFORE = 75  # the frames have been looked at, masters are being made


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_makes_the_same(
    plain: Campaign, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fresh = Campaign(tmp_path / "fresh", plain.sensor)
    shutil.copytree(plain.raw, fresh.raw)
    killed: list[int] = []
    controller = MasterController(settings_of(fresh, engine="dask", dask_patience_s=60.0))
    controller.progress = AtJob(JOBS_BEFORE, lambda: killed.append(kill_a_worker()))
    with caplog.at_level(logging.WARNING, "darkpipe"):
        report = within(500.0, lambda: controller.run("full"))
    assert killed
    assert report.exit_code == 0
    assert "is gone; what it was at is run again elsewhere" in caplog.text
    assert differing(products(fresh.out), products(plain.out)) == []
    again = MasterController(settings_of(fresh)).run("full")
    assert again.up_to_date
