"""The main job on real frames: everything is indexed, and held-out errors beat the reference figures beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

ROOT = Path(__file__).resolve().parents[1]
NO_TEN_DEGREES = "fit_dark_model: {exclude_temperatures_c: [10.0]}\nevaluate_model: {pictures: false}\n"

pytestmark = pytest.mark.real


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    command = [sys.executable, str(ROOT / "run_pipeline.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ, timeout=600, check=False)


@pytest.fixture(scope="module")
def main_set(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on the STL-1001E set, +10 °C kept out of the fit as the reference figures have it."""
    out = tmp_path_factory.mktemp("stl")
    config = out / "settings.yaml"
    config.write_text(NO_TEN_DEGREES)
    done = run(
        "--mode", "full", "--config", config, "--basepath", real_data / "stl1001e_sbu_dev", "--output_dir", out / "out"
    )
    assert done.returncode == 0, done.stderr
    assert "two_component" in done.stdout
    return out / "out"


def test_every_frame_is_accepted_and_grouped(main_set: Path) -> None:
    index = Table.read(main_set / "index.ecsv")
    assert len(index) == 74
    assert set(index["status"]) == {"accepted"}
    groups = Table.read(main_set / "groups.ecsv")
    assert len(groups) == 24
    assert sorted(groups["frames"])[-3:] == [1, 10, 11]
    assert set(groups["temperature_c"]) == {-10.0, -5.0, 0.0, 10.0}
    assert set(groups["temperature_source"]) == {"set point"}


@pytest.mark.parametrize(
    ("model", "table"), [("exp_2d", "held_out.ecsv"), ("two_component", "two_component/held_out.ecsv")]
)
def test_held_out_errors_are_no_worse_than_the_reference(
    main_set: Path, real_data: Path, model: str, table: str
) -> None:
    reference = Table.read(real_data / "reference_held_out_errors.csv", format="ascii.csv", comment="#")
    wanted = {(float(r["set_temp_c"]), float(r["exposure_s"])): float(r[model]) for r in reference}
    found = Table.read(main_set / "dark_model" / table)
    assert len(found) == 23
    assert (found["n_pixels"] == 512 * 512).all()  # no pixel was left out of the comparison
    ratios = [float(r["mae_adu"]) / wanted[float(r["temperature_c"]), float(r["exposure_s"])] for r in found]
    assert max(ratios) <= 1.03
    assert sum(found["mae_adu"]) <= sum(wanted[c] for c in wanted if c[0] <= 0)


def test_auto_takes_the_smaller_score(main_set: Path) -> None:
    scores = {
        "exp_2d": Table.read(main_set / "dark_model" / "held_out.ecsv"),
        "two_component": Table.read(main_set / "dark_model" / "two_component" / "held_out.ecsv"),
    }
    means = {k: np.mean(t["mae_unflagged_adu"] / t["noise_floor_unflagged_adu"]) for k, t in scores.items()}
    text = (main_set / "dark_model" / "model.yaml").read_text()
    assert text.splitlines()[0] == f"chosen: {min(means, key=lambda k: means[k])}"


def test_saturated_pixels_do_not_run_away(main_set: Path) -> None:
    """Two pixels of this sensor fill up within a minute at -10 °C: no dark may exceed what they can hold."""
    dark = fits.getdata(main_set / "synthetic" / "synthetic_dark_T0.0C_texp300s.fits", "SCI")
    assert np.nanmax(dark) < 65_535
    assert dark[153, 73] == pytest.approx(60_000, rel=0.05)


def test_a_light_frame_labelled_dark_is_rejected(real_data: Path, tmp_path: Path) -> None:
    done = run("--mode", "full", "--basepath", real_data / "atik_toronto2022", "--output_dir", tmp_path / "out")
    rejected = [r for p in tmp_path.rglob("corrected.ecsv") for r in Table.read(p) if r["status"] == "rejected"]
    assert [str(r["file"]) for r in rejected] == ["JupiterandIo.fit"]
    assert "JupiterandIo.fit" in done.stdout
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("folder", "model"), [("st402_sbu", "exp_t"), ("st8_itb_cc0", None)])
def test_sets_with_little_in_them_say_what_they_can_carry(
    real_data: Path, tmp_path: Path, folder: str, model: str | None
) -> None:
    done = run("--mode", "full", "--basepath", real_data / folder, "--output_dir", tmp_path / "out")
    assert "Traceback" not in done.stderr
    if model is None:  # two exposures, no bias of this binning: three unknowns a pixel
        assert done.returncode == 1
        assert "needs at least two" in done.stderr
        assert list(tmp_path.rglob("darks_*.fits"))  # what could be made is kept
    else:
        assert done.returncode == 0, done.stderr
        assert f"chosen: {model}" in next(tmp_path.rglob("model.yaml")).read_text()
