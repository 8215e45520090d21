"""The numbers of the evaluation, computed again with plain numpy; held-out errors by really leaving a cell out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from astropy.io import fits
from helpers import CAMPAIGN, CELL_NAMES, CELLS, Campaign, planes, row, run_well, table

from darkpipe.science.flags import MODEL_INVALID
from master_controller import MasterController

LEFT_OUT = (-5.0, 100.0)
LEFT_OUT_NAME = "T-5.0C_texp100s"


def master(campaign: Campaign, name: str) -> dict[str, np.ndarray]:
    return planes(campaign.out / "dark_masks_by_temp" / f"darks_{name}.fits")


def held_out(campaign: Campaign, name: str, model: str = "two_component") -> dict[str, float]:
    found = row(campaign.out / "evaluation" / "evaluation.ecsv", model=model, cell=name)
    return dict(zip(found.colnames, found.values(), strict=True))


def unmasked(campaign: Campaign) -> np.ndarray:
    return (planes(campaign.model / "hot_pixel_mask.fits")["DQ"] & int(MODEL_INVALID)) == 0


def test_every_cell_and_model_has_a_row(finished: Campaign) -> None:
    rows = table(finished.out / "evaluation" / "evaluation.ecsv")
    assert list(rows["cell"]) == CELL_NAMES * 2
    assert list(rows["model"]) == ["two_component"] * 9 + ["exp_2d"] * 9  # the chosen one first
    assert set(rows["kind"]) == {"held out"}
    assert list(zip(rows["temperature_c"], rows["exposure_s"], strict=True)) == CELLS * 2
    assert set(rows["n_frames"]) == {CAMPAIGN.n_darks}
    assert rows.meta["chosen"] == "two_component"


def test_the_candidates_are_ranked_and_the_rest_say_why_they_are_missing(finished: Campaign) -> None:
    rows = table(finished.out / "evaluation" / "candidates.ecsv")
    fitted = [r for r in rows if np.isfinite(r["score"])]
    assert {str(r["model"]) for r in fitted} == {"two_component", "exp_2d"}
    assert [r["score"] for r in fitted] == sorted(r["score"] for r in fitted)
    assert [bool(r["chosen"]) for r in fitted] == [True, False]
    for r in fitted:
        errors = [held_out(finished, name, str(r["model"])) for name in CELL_NAMES]
        ratios = [e["mae_unflagged_adu"] / e["noise_floor_unflagged_adu"] for e in errors]
        assert r["score"] == pytest.approx(np.mean(ratios), rel=1e-5)
        assert r["cells"] == r["cells_left_out"] == len(CELL_NAMES)
    assert all(str(r["why"]).startswith("not fitted: ") for r in rows if not np.isfinite(r["score"]))
    assert {"exp_1d", "exp_t"} <= {str(r["model"]) for r in rows}


@pytest.mark.parametrize("name", CELL_NAMES)
def test_in_sample_numbers_are_those_of_the_frames(finished: Campaign, name: str) -> None:
    found = json.loads((finished.out / "evaluation" / "cells" / f"{name}.json").read_text())
    made = planes(finished.out / "synthetic" / f"synthetic_dark_{name}.fits")
    real = master(finished, name)
    error = made["SCI"].astype(float) - real["SCI"]
    known = np.isfinite(error)
    assert found["n_pixels"] == known.sum()
    assert found["mae_adu"] == pytest.approx(np.abs(error[known]).mean(), rel=1e-5)
    assert found["rmse_adu"] == pytest.approx(np.sqrt((error[known] ** 2).mean()), rel=1e-5)
    assert found["mean_error_adu"] == pytest.approx(error[known].mean(), rel=1e-4, abs=1e-5)
    assert found["median_error_adu"] == pytest.approx(np.median(error[known]), abs=0.02)
    sigma = real["ERR"]
    floor = known & np.isfinite(sigma)
    assert found["noise_floor_adu"] == pytest.approx(np.sqrt(2 / np.pi) * sigma[floor].mean(), rel=1e-5)
    bright = floor & (real["SCI"] > 5 * sigma)
    assert found["mape_fraction"] == pytest.approx(bright.sum() / known.sum())
    relative = np.abs(error[bright]) / real["SCI"][bright]
    assert found["mape_percent"] == pytest.approx(100 * relative.mean(), rel=1e-4)
    assert found["median_relative_percent"] == pytest.approx(100 * np.median(relative), rel=0.02, abs=0.02)
    good = known & ((made["DQ"] & int(MODEL_INVALID)) == 0)
    assert found["n_pixels_unflagged"] == good.sum()
    assert found["mae_unflagged_adu"] == pytest.approx(np.abs(error[good]).mean(), rel=1e-5)
    faint = known & (made["SCI"] < 300)
    assert found["n_below_300"] == faint.sum()
    assert found["mae_below_300_adu"] == pytest.approx(np.abs(error[faint]).mean(), rel=1e-5)


def test_the_baseline_is_the_nearest_master_scaled(finished: Campaign) -> None:
    """The longest other master at the same temperature, by the ratio of the exposures."""
    for name, other, factor in (
        ("T-10.0C_texp300s", "T-10.0C_texp100s", 3.0),
        ("T-5.0C_texp100s", "T-5.0C_texp300s", 1 / 3),
        ("T0.0C_texp30s", "T0.0C_texp300s", 0.1),
    ):
        error = (master(finished, other)["SCI"] * factor - master(finished, name)["SCI"])[unmasked(finished)]
        found = held_out(finished, name)["nearest_scaled_mae_unflagged_adu"]
        assert found == pytest.approx(np.nanmean(np.abs(error)), rel=1e-4)


def test_held_out_means_that_the_cell_was_not_there(finished: Campaign, tmp_path: Path) -> None:
    """The same campaign without the frames of one cell, fitted again, against the master of these frames."""
    poorer = finished.copied_to(tmp_path / "poorer")
    for path in poorer.frames_of(*LEFT_OUT):
        path.unlink()
    run_well(poorer, chosen={"until_step": 5})
    target = tmp_path / "predicted.fits"
    for model in ("two_component", "exp_2d"):
        section = {"temp_single_c": LEFT_OUT[0], "exptime_single_s": LEFT_OUT[1], "output": target, "model": model}
        run_well(poorer, "synthetic_2d_single", generate_synthetic_darks=section)
        good = unmasked(finished)
        error = (planes(target)["SCI"] - master(finished, LEFT_OUT_NAME)["SCI"])[good]
        found = held_out(finished, LEFT_OUT_NAME, model)
        # population and master levels are estimated anew without the cell: not to the last digit
        assert found["mae_unflagged_adu"] == pytest.approx(np.nanmean(np.abs(error)), rel=0.03)
        assert found["mean_error_unflagged_adu"] == pytest.approx(np.nanmean(error), abs=0.1)
        assert found["mae_unflagged_adu"] > found["in_sample_mae_adu"] * 0.9


def test_held_out_errors_of_a_true_model_are_noise(finished: Campaign) -> None:
    for name in CELL_NAMES:
        found = held_out(finished, name)
        assert found["pull_spread_unflagged"] == pytest.approx(1.0, abs=0.1)
        assert abs(found["pull_median_unflagged"]) < 0.12
        assert found["mae_unflagged_adu"] == pytest.approx(found["expected_mae_unflagged_adu"], rel=0.1)
        assert found["median_signal_adu"] == pytest.approx(float(np.nanmedian(master(finished, name)["SCI"])))


def test_pictures_have_their_names_and_can_be_read(finished: Campaign) -> None:
    folder = finished.out / "evaluation"
    names = {p.name for p in folder.glob("*.png")}
    expected = {f"{kind}_{name}.png" for kind in ("mae", "mape", "synthetic_dark") for name in CELL_NAMES}
    assert names == expected | {"evaluation_summary.png", "parameter_maps.png", "hot_pixel_map.png"}
    for path in folder.glob("*.png"):
        image = matplotlib.image.imread(path)
        assert min(image.shape[:2]) > 200
        assert image[..., :3].std() > 0.01, path.name  # not a blank page


def test_without_pictures_only_the_summary_is_drawn(work: Campaign) -> None:
    run_well(work)
    assert {p.name for p in (work.out / "evaluation").glob("*.png")} == {"evaluation_summary.png"}


def test_new_frames_against_an_old_model(work: Campaign, tmp_path: Path) -> None:
    """Evaluation of a model from elsewhere: masters of its own, no held-out column, nothing fitted. A cell with a frame
    that the model was fitted to is no test of it."""
    new = Campaign(tmp_path / "new", work.sensor)
    new.raw.mkdir(parents=True)
    for path in (*work.frames_of(-5.0, 100.0), *work.frames_of(0.0, 30.0), *work.raw.glob("frame_000[1-8].fits")):
        shutil.copy(path, new.raw)
    for path in work.frames_of(-5.0, 100.0):
        with fits.open(new.raw / path.name, mode="update") as units:
            units[0].header["OBSERVER"] = "somebody else"  # as good as another frame
    given = {"output_dir": new.out, "evaluate_model": {"model_dir": work.out, "pictures": False}}
    flags = {"load_data": {"basepath": str(new.raw)}}
    report = MasterController(given, flags=flags).run("evaluation_only")
    report.raise_for_failure()
    rows = table(new.out / "evaluation" / "evaluation.ecsv")
    assert list(rows["cell"]) == ["T-5.0C_texp100s", "T0.0C_texp30s"]
    assert list(rows["kind"]) == ["new", "seen"]
    assert "in_sample_mae_adu" not in rows.colnames
    assert not (new.model / "model.yaml").exists()
    page = (new.out / "evaluation" / "report.html").read_text(encoding="utf-8")
    assert "Seen: the fit has seen frames of this cell" in page
    assert "New: the fit has not seen these frames" in page
    assert all(0.8 < r["mae_unflagged_adu"] / r["noise_floor_unflagged_adu"] < 1.8 for r in rows)


def test_new_frames_without_biases_stand_on_the_bias_of_the_model(work: Campaign, tmp_path: Path) -> None:
    new = Campaign(tmp_path / "new", work.sensor)
    new.raw.mkdir(parents=True)
    for path in (*work.frames_of(-5.0, 100.0), *work.frames_of(0.0, 30.0)):
        (new.raw / path.name).write_bytes(path.read_bytes())
    given = {"output_dir": new.out, "evaluate_model": {"model_dir": work.out, "pictures": False}}
    flags = {"load_data": {"basepath": str(new.raw)}}
    MasterController(given, flags=flags).run("evaluation_only").raise_for_failure()
    rows = table(new.out / "evaluation" / "evaluation.ecsv")
    assert list(rows["cell"]) == ["T-5.0C_texp100s", "T0.0C_texp30s"]
    for r in rows:
        assert 0.8 < r["mae_unflagged_adu"] / r["noise_floor_unflagged_adu"] < 1.8
        assert abs(r["median_error_unflagged_adu"]) < 1.0
        assert 0.8 < r["pull_spread_unflagged"] < 1.3
        own = float(np.nanmedian(master(work, r["cell"])["SCI"]))
        assert r["median_signal_adu"] == pytest.approx(own, abs=1.0)  # the dark signal, not the bias under it
