"""Darks that gather charge beyond their stated exposure, as before a slow read-out that biases do not have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits
from helpers import Campaign, header, make_campaign, planes, run_well, spread, table

DELAY_S = 2.0
STATED_S = (4.0, 40.0, 150.0)


@pytest.fixture(scope="module")
def late(tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    """Headers that leave the delay away."""
    campaign = make_campaign(
        tmp_path_factory.mktemp("late"), exposures_s=tuple(t + DELAY_S for t in STATED_S), bulk_rate_adu_s=3.0
    )
    for path in sorted(campaign.raw.glob("*.fits")):
        with fits.open(path, mode="update") as hdus:
            if float(hdus[0].header["EXPTIME"]) > 0:
                hdus[0].header["EXPTIME"] -= DELAY_S
    return campaign


def dark_of(campaign: Campaign, path: Path, **sections: dict[str, object]) -> dict[str, np.ndarray]:
    wanted = {"temp_single_c": -5.0, "exptime_single_s": 10.0, "output": path}
    run_well(campaign, "synthetic_2d_single", generate_synthetic_darks=wanted, **sections)
    return planes(path)


def test_a_delay_that_is_given_belongs_to_every_dark(late: Campaign, tmp_path: Path) -> None:
    given = {"subtract_bias": {"readout_exposure_s": DELAY_S}, "fit_dark_model": {"model": "two_component"}}
    run_well(late, **given)
    described = yaml.safe_load((late.model / "model.yaml").read_text())
    assert described["readout_exposure_s"] == DELAY_S
    made = dark_of(late, tmp_path / "known.fits", **given)
    truth = late.sensor.signal_adu(-5.0, 10.0 + DELAY_S)
    good = np.isfinite(made["SCI"]) & (made["DQ"] == 0)
    assert good.mean() > 0.8
    pull = ((made["SCI"] - truth) / made["ERR"])[good]
    assert abs(np.median(pull)) < 0.2
    assert spread(pull) == pytest.approx(1.0, abs=0.15)
    assert (header(tmp_path / "known.fits")["EXPTIME"], header(tmp_path / "known.fits")["EXTRAPOL"]) == (10.0, False)
    rows = table(late.out / "evaluation" / "evaluation.ecsv")
    assert set(rows["kind"]) == {"held out"}


def test_without_it_short_darks_come_out_too_faint(late: Campaign, tmp_path: Path) -> None:
    unaware = {"fit_dark_model": {"model": "two_component"}}
    run_well(late, **unaware)
    made = dark_of(late, tmp_path / "unaware.fits", **unaware)
    truth = late.sensor.signal_adu(-5.0, 10.0 + DELAY_S)
    good = np.isfinite(made["SCI"]) & (made["DQ"] == 0)
    assert np.median((made["SCI"] - truth)[good] / truth[good]) < -0.05
