"""A planned campaign from settings, from the plan of a camera and from a model; its products and its words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.table import Table
from helpers import CELLS, Campaign
from PIL import Image

from darkpipe.errors import DesignError, PipelineError, SettingsError
from darkpipe.files.layout import OutputDir
from darkpipe.jobs.report import RunReport
from hardware.planning.plan import estimate, make_plan
from hardware.settings import AcquisitionSettings
from master_controller import MasterController
from run_pipeline import main

PLAN: dict[str, Any] = {"temperatures_c": [-10.0, 0.0], "exposures_s": [30.0, 120.0], "frames": 4, "biases": 6}
CAPTURE: dict[str, Any] = {
    "num_darks": 3,
    "science_exposure_time": 60.0,
    "exposure_factors": [0.5, 2.0],
    "max_exposure": 300.0,
    "temperatures_c": [0.0, -10.0],
}


def planned(out: Path, sections: dict[str, Any] | None = None, **settings: Any) -> RunReport:
    given = {"output_dir": out, "plan_campaign": settings, **(sections or {})}
    return MasterController(given).run("plan_campaign")


def tables(out: Path) -> tuple[Table, Table]:
    place = OutputDir(out)
    return tuple(Table.read(p, format="ascii.ecsv") for p in (place.planned_errors, place.planned_changes))  # type: ignore[return-value]


def failure(report: RunReport) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        report.raise_for_failure()
    return caught.value


def test_products_of_a_plan(tmp_path: Path) -> None:
    planned(tmp_path, **PLAN).raise_for_failure()
    errors, changes = tables(tmp_path)
    assert set(errors["pixel"]) == {"bulk", "hot"}
    assert sorted(set(errors["temperature_c"])) == [-15.0, -10.0, -5.0, 0.0, 5.0]
    assert sorted(set(errors["exposure_s"])) == [20.0, 30.0, 60.0, 120.0, 180.0]
    inside = np.array(errors["inside"])
    assert inside.sum() == 2 * 9
    assert (np.array(errors["with_bias_adu"]) > np.array(errors["error_adu"])).all()
    assert changes["frames"][0] == 4 * 4 + 2 * 6
    by_change = {str(r["what"]): r for r in changes}
    assert by_change["twice the frames of everything"]["frames"] == 2 * changes["frames"][0]
    for kind in ("bulk", "hot"):
        assert by_change["twice the frames of everything"][f"{kind}_percent"] < -15
        assert by_change["half the frames of everything"][f"{kind}_percent"] > 15
    assert np.isnan(by_change["without 0 °C"]["hot_percent"])  # one temperature: no exp_2d
    with Image.open(OutputDir(tmp_path).planned_picture) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 20
    text = OutputDir(tmp_path).planned_text.read_text(encoding="utf-8")
    assert "28 frames, about" in text
    assert "without 0 °C: this model cannot be fitted" in text


def test_a_plan_is_made_once(tmp_path: Path) -> None:
    assert planned(tmp_path, **PLAN).counts[0].made == 2
    assert planned(tmp_path, **PLAN).counts[0].made == 0
    assert planned(tmp_path, **{**PLAN, "frames": 5}).counts[0].made == 2


def test_the_plan_of_the_camera_and_its_time(tmp_path: Path) -> None:
    planned(tmp_path, {"dark_capture": CAPTURE}).raise_for_failure()
    errors, changes = tables(tmp_path)
    assert errors.meta["cells"] == [[0.0, 30.0, 3], [0.0, 120.0, 3], [-10.0, 30.0, 3], [-10.0, 120.0, 3]]
    assert errors.meta["biases"] == 3
    settings = AcquisitionSettings.model_validate({"dark_capture": CAPTURE})
    capture = make_plan(settings, None, None)
    seconds = estimate(capture, capture.slots, None, settings, None).total_s
    assert changes["hours"][0] == pytest.approx(seconds / 3600, rel=1e-3)


def test_one_dark_that_matters(tmp_path: Path) -> None:
    planned(tmp_path, **PLAN, temp_single_c=0.0, exptime_single_s=120.0).raise_for_failure()
    errors, changes = tables(tmp_path)
    row = next(r for r in errors if (r["pixel"], r["temperature_c"], r["exposure_s"]) == ("hot", 0.0, 120.0))
    ratio = row["error_adu"] / row["frame_noise_adu"]
    assert changes["hot_error_per_frame_noise"][0] == pytest.approx(ratio, rel=1e-4)
    where = {str(r["what"]): float(r["hot_percent"]) for r in changes}
    assert where["twice the darks of 0 °C"] < where["twice the darks of -10 °C"]


@pytest.mark.parametrize(
    ("settings", "model", "grid"),
    [
        ({"temperatures_c": [-10.0], "exposures_s": [10.0, 60.0, 300.0]}, "exp_t", 1),
        ({"temperatures_c": [-10.0, -5.0, 0.0], "exposures_s": [60.0]}, "two_component", 7),
        ({"temperatures_c": [-10.0, -5.0, 0.0], "exposures_s": [60.0], "model": "exp_1d"}, "exp_1d", 7),
    ],
)
def test_one_axis_alone(tmp_path: Path, settings: dict[str, Any], model: str, grid: int) -> None:
    planned(tmp_path, **{**PLAN, **settings}).raise_for_failure()
    errors, _ = tables(tmp_path)
    assert errors.meta["model"] == model
    assert len(set(errors["temperature_c"])) == grid
    assert np.isfinite(errors["error_adu"]).all()


def test_a_plan_from_a_model(plain: Campaign, tmp_path: Path) -> None:
    planned(tmp_path, model_dir=plain.out).raise_for_failure()
    errors, changes = tables(tmp_path)
    recipe = plain.sensor.recipe
    assert sorted((t, e) for t, e, _ in errors.meta["cells"]) == sorted(CELLS)
    assert changes["frames"][0] == len(CELLS) * recipe.n_darks + len(recipe.temperatures_c) * recipe.n_biases
    bulk, hot = errors.meta["pixels"]
    rate = float(np.median(plain.sensor.signal_adu(0.0, 1.0)[~plain.sensor.hot])) * recipe.gain_e_per_adu
    at_zero = bulk["e_s"] * 2 ** ((0.0 - bulk["temperature_c"]) / bulk["doubling_c"])
    assert at_zero == pytest.approx(rate, rel=0.1)
    assert hot["e_s"] > bulk["e_s"]
    assert errors.meta["noise"]["read_noise_adu"] == pytest.approx(recipe.read_noise_e / recipe.gain_e_per_adu, rel=0.1)
    # another campaign with the same sensor
    planned(tmp_path / "other", model_dir=plain.out / "dark_model", temperatures_c=[-20.0, 0.0]).raise_for_failure()
    assert len(tables(tmp_path / "other")[0].meta["cells"]) == 2 * len(recipe.exposures_s)


def test_what_a_plan_may_lack(tmp_path: Path) -> None:
    no_temperature = failure(planned(tmp_path))
    assert isinstance(no_temperature, SettingsError)
    assert "temperatures of the planned campaign are not known" in str(no_temperature)
    one_cell = failure(planned(tmp_path, temperatures_c=[0.0], exposures_s=[60.0]))
    assert isinstance(one_cell, DesignError)
    diagonal = failure(planned(tmp_path, **{**PLAN, "temperatures_c": [0.0], "model": "exp_2d"}))
    assert "exp_2d" in str(diagonal)
    half = failure(planned(tmp_path, **PLAN, temp_single_c=0.0))
    assert "only one of temperature and exposure" in str(half)
    one_t = {**PLAN, "temperatures_c": [0.0]}
    elsewhere = failure(planned(tmp_path, **one_t, temp_single_c=5.0, exptime_single_s=60.0))
    assert "exp_t of this plan makes no dark of 5 °C and 60 s" in str(elsewhere)
    no_darks = failure(planned(tmp_path, {"dark_capture": {**CAPTURE, "select": "bias"}}))
    assert "this plan has no darks" in str(no_darks)
    many = failure(planned(tmp_path, temperatures_c=list(range(-50, 0)), exposures_s=list(range(1, 20))))
    assert "more than 400" in str(many)
    assert not (tmp_path / "campaign_plan").exists()


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "plan"
    flags = ["--temps", "-10 -5 0", "--exptimes", "30 100 300", "--num_darks", "5", "--temp_single", "-5"]
    told = ["--mode", "plan_campaign", "--output_dir", str(out), *flags, "--exptime_single", "100"]
    assert main(told) == 0
    printed = capsys.readouterr().out
    assert "3 temperatures (-10, -5, 0 °C), 3 exposures (30, 100, 300 s), 5 darks a cell" in printed
    assert "at -5 °C, 100 s" in printed
    assert main([*told, "--camera_address", "127.0.0.1:1"]) == 2
