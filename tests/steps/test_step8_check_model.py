"""New frames of an aged sensor against its old model: what the check finds is what was done to the sensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import yaml
from aged_sensor import LATER, Ageing, aged, write_later
from astropy.io import fits
from helpers import Campaign, labels, products, run_well, steps_run, table

import run_pipeline
from darkpipe.errors import NothingToModelError, SettingsError
from darkpipe.jobs.report import FINDING, RunReport
from master_controller import MasterController

TEMPERATURES_C, EXPOSURES_S = (-10.0, 0.0), (100.0, 300.0)


def later(work: Campaign, folder: Path, change: Ageing | None = None, **counts: Any) -> Campaign:
    """New frames, in folder/raw, of the sensor after it has changed."""
    new = Campaign(folder, aged(work.sensor, change or Ageing()).sensor)
    chosen = {"darks": 3, "biases": 4, **counts}
    write_later(new.raw, new.sensor, TEMPERATURES_C, EXPOSURES_S, **chosen)
    return new


def check(work: Campaign, new: Campaign, **settings: Any) -> RunReport:
    given = {"output_dir": new.out, "workers": 2, "load_data": {"basepath": new.raw}, "check_model": settings}
    return MasterController(given, flags={"check_model": {"model_dir": str(work.out)}}).run("check_model")


def verdict(new: Campaign) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((new.out / "check" / "verdict.yaml").read_text())
    return found


def test_an_unchanged_sensor_is_current(work: Campaign, tmp_path: Path) -> None:
    before = products(work.out)
    new = later(work, tmp_path / "new")
    report = check(work, new)
    report.raise_for_failure()
    assert (report.exit_code, report.findings) == (0, [])
    found = verdict(new)
    assert (found["verdict"], found["why"]) == ("current", [])
    assert found["hot_pixels"]["new"] == found["hot_pixels"]["vanished"] == 0
    for part in ("all", "bulk", "hot"):
        ratio = found["rate_ratio"][part]
        assert abs(ratio["value"] - 1.0) < 4 * ratio["error"], part
    assert products(work.out) == before  # the model is looked at, not touched
    assert not (new.out / "dark_model").exists()


@pytest.mark.parametrize(
    ("change", "expected"),
    [(Ageing(growth=1.06), "drifted"), (Ageing(growth=0.94), "drifted"), (Ageing(growth=1.3), "stale")],
)
def test_a_changed_rate_is_found(work: Campaign, tmp_path: Path, change: Ageing, expected: str) -> None:
    new = later(work, tmp_path / "new", change, darks=6)
    report = check(work, new)
    report.raise_for_failure()  # nothing failed: everything was made
    assert report.exit_code == FINDING == 3
    found = verdict(new)
    assert found["verdict"] == expected
    for part in ("bulk", "hot"):
        ratio = found["rate_ratio"][part]
        assert abs(ratio["value"] - change.growth) < 4 * ratio["error"], part
    assert found["hot_pixels"]["new"] == 0
    assert "rate of" in report.findings[0]
    told = dict(report.summaries[-1][1])
    assert "products" in told
    rows = table(new.out / "check" / "check_model.ecsv")
    assert len(rows) == len(TEMPERATURES_C) * len(EXPOSURES_S)
    assert rows.meta["verdict"] == expected
    assert np.all(np.abs(rows["hot_ratio"] - change.growth) < 4 * rows["hot_ratio_error"])


def test_new_hot_pixels_are_found_and_cosmic_rays_are_not(work: Campaign, tmp_path: Path) -> None:
    changed = aged(work.sensor, Ageing(new_hot=0.02, new_decades=(1.3, 2.5)))
    new = Campaign(tmp_path / "new", changed.sensor)
    write_later(new.raw, new.sensor, TEMPERATURES_C, EXPOSURES_S, darks=1, biases=4)  # nothing clips a single frame
    hit = (31, 14)
    assert not changed.sensor.hot[hit]
    path = sorted(p for p in new.raw.glob("*.fits") if fits.getval(p, "EXPTIME") == 300.0)[-1]
    with fits.open(path, mode="update") as hdus:
        hdus[0].data[hit] += 4000
    check(work, new).raise_for_failure()
    found = verdict(new)
    assert found["verdict"] == "stale"
    assert found["rate_ratio"]["bulk"]["value"] == pytest.approx(1.0, abs=4 * found["rate_ratio"]["bulk"]["error"])
    pixels = table(new.out / "check" / "changed_pixels.ecsv")
    listed = {(int(r["y"]), int(r["x"])): str(r["kind"]) for r in pixels}
    truth = {(int(y), int(x)) for y, x in np.argwhere(changed.new)}
    said_new = {where for where, kind in listed.items() if kind == "new"}
    assert len(truth) > 20
    assert said_new <= truth
    assert len(said_new) >= 0.9 * len(truth)
    assert listed.get(hit) != "new"
    assert all(r["significance"] > 6 for r in pixels if r["kind"] == "new")
    assert all(r["now_adu"] > found["hot_pixels"]["hot_above_adu"] for r in pixels if r["kind"] == "new")


def test_one_frame_alone_cannot_tell_a_hot_pixel_from_a_cosmic_ray(work: Campaign, tmp_path: Path) -> None:
    changed = aged(work.sensor, Ageing(new_hot=0.02, new_decades=(1.3, 2.5)))
    new = Campaign(tmp_path / "new", changed.sensor)
    write_later(new.raw, new.sensor, (0.0,), (300.0,), darks=1, biases=4)
    report = check(work, new)
    found = verdict(new)["hot_pixels"]
    assert found["new"] == 0
    assert found["unconfirmed"] >= 0.9 * changed.new.sum()
    assert (report.exit_code, verdict(new)["verdict"]) == (0, "current")
    write_later(new.raw, new.sensor, (0.0,), (300.0,), darks=3, biases=4)
    check(work, new)
    found = verdict(new)["hot_pixels"]
    assert found["new"] >= 0.9 * changed.new.sum()


def test_vanished_hot_pixels_are_found(work: Campaign, tmp_path: Path) -> None:
    changed = aged(work.sensor, Ageing(vanished=0.3))
    new = Campaign(tmp_path / "new", changed.sensor)
    write_later(new.raw, new.sensor, TEMPERATURES_C, EXPOSURES_S, darks=3, biases=4)
    check(work, new).raise_for_failure()
    pixels = table(new.out / "check" / "changed_pixels.ecsv")
    said = {(int(r["y"]), int(r["x"])) for r in pixels if r["kind"] == "vanished"}
    truth = {(int(y), int(x)) for y, x in np.argwhere(changed.vanished)}
    assert len(truth) > 5
    assert said <= truth
    assert len(said) >= 0.6 * len(truth)  # the faintest ones were hardly hot


@pytest.mark.parametrize("biases", [4, 0])
def test_a_shifted_pedestal_is_found_with_biases_and_without(work: Campaign, tmp_path: Path, biases: int) -> None:
    new = later(work, tmp_path / "new", Ageing(pedestal_adu=25.0), biases=biases)
    report = check(work, new)
    report.raise_for_failure()
    found = verdict(new)
    pedestal = next(c for c in found["criteria"] if c["name"].startswith("pedestal"))
    assert pedestal["value"] == pytest.approx(25.0, abs=4 * pedestal["error"])
    assert pedestal["error"] < 3.0
    assert pedestal["verdict"] == "drifted"
    for part in ("bulk", "hot"):  # it is not taken for a change of rate
        assert found["rate_ratio"][part]["value"] == pytest.approx(1.0, abs=4 * found["rate_ratio"][part]["error"])
    assert report.exit_code == FINDING


def test_the_same_again_makes_nothing_and_says_it_again(work: Campaign, tmp_path: Path) -> None:
    new = later(work, tmp_path / "new", Ageing(growth=1.3))
    check(work, new)
    before = products(new.out)
    again = check(work, new)
    assert again.up_to_date
    assert again.exit_code == FINDING
    assert products(new.out) == before
    wider = check(work, new, rate_limits=(0.5, 0.6))  # the limits are the user's
    assert wider.exit_code == 0
    assert labels(wider, "check_model") == ["verdict on the model", "picture of the check"]
    assert steps_run(wider) == ["check_model"]


def test_the_picture_shows_something(work: Campaign, tmp_path: Path) -> None:
    new = later(work, tmp_path / "new", Ageing(growth=1.3, new_hot=0.01))
    check(work, new)
    image = matplotlib.image.imread(new.out / "check" / "check_model.png")
    assert min(image.shape[:2]) > 800
    assert image[..., :3].std() > 0.05


def test_frames_of_another_configuration_are_refused(work: Campaign, tmp_path: Path) -> None:
    new = later(work, tmp_path / "new")
    for path in new.raw.glob("*.fits"):
        fits.setval(path, "GAIN", value=200.0)
    report = check(work, new)
    assert report.exit_code == 1
    assert isinstance(report.failures[0].error, NothingToModelError)
    assert "configuration" in str(report.failures[0].error)


def test_cells_outside_the_model_are_left_out_and_said(work: Campaign, tmp_path: Path) -> None:
    new = Campaign(tmp_path / "new", work.sensor)
    write_later(new.raw, new.sensor, (-10.0, 5.0), (300.0,), darks=3, biases=4, first=LATER)
    check(work, new).raise_for_failure()
    assert verdict(new)["outside_the_model"] == ["T5.0C_texp300s"]
    assert list(table(new.out / "check" / "check_model.ecsv")["cell"]) == ["T-10.0C_texp300s"]
    check(work, new, extrapolate=True).raise_for_failure()
    assert verdict(new)["outside_the_model"] == []
    for path in new.raw.glob("*.fits"):
        if fits.getval(path, "SET-TEMP") < 0:
            path.unlink()
    report = check(work, new)
    assert report.exit_code == 1
    assert "range of the model" in str(report.failures[0])


def test_beyond_its_range_the_error_holds_what_the_laws_differ_by(work: Campaign, tmp_path: Path) -> None:
    """15 °C beyond the model the wrong law is off by far more than the noise: no alarm, and the reason is said."""
    new = Campaign(tmp_path / "new", work.sensor)
    write_later(new.raw, new.sensor, (15.0,), (30.0, 100.0), darks=3, biases=4)
    report = check(work, new, extrapolate=True, model="exp_2d")
    report.raise_for_failure()
    found = verdict(new)
    assert found["extrapolated"] == found["cells"] == ["T15.0C_texp30s", "T15.0C_texp100s"]
    for part in ("bulk", "hot"):
        ratio = found["rate_ratio"][part]
        assert abs(ratio["value"] - 1.0) < 3 * ratio["error"], part
    rows = table(new.out / "check" / "check_model.ecsv")
    assert rows["extrapolated"].all()
    assert np.all(np.abs(rows["bulk_law_error"]) > 0.03)
    ratio = found["rate_ratio"]["bulk"]
    assert ratio["error"] > 0.5 * abs(float(np.median(rows["bulk_law_error"])))
    assert any("extrapolated" in line for name, line in report.summaries[-1][1] if name == "verdict")
    inside = later(work, tmp_path / "inside")
    check(work, inside, extrapolate=True)
    assert verdict(inside)["extrapolated"] == []
    assert verdict(inside)["rate_ratio"]["hot"]["error"] < 0.3 * ratio["error"]


def test_the_directory_of_the_model_is_not_written_into(work: Campaign) -> None:
    with pytest.raises(SettingsError, match="directory of the model"):
        check(work, work)


def test_the_command_line_ends_with_3(work: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = later(work, tmp_path / "new", Ageing(growth=1.3))
    line = ["--mode", "check_model", "--basepath", str(new.raw), "--output_dir", str(new.out), "--quiet"]
    assert run_pipeline.main(line) == 2  # no model
    assert "--model_dir" in capsys.readouterr().err
    assert run_pipeline.main([*line, "--model_dir", str(work.out)]) == 3
    told = capsys.readouterr()
    assert "stale" in told.err  # what cron mails
    assert run_pipeline.main([*line[:-1], "--model_dir", str(work.model)]) == 3
    told = capsys.readouterr()
    assert "the model is stale" in told.out
    assert "bulk ratio" in told.out


def test_a_model_of_frames_without_biases_is_checked_by_such(work: Campaign, tmp_path: Path) -> None:
    for path in work.raw.glob("*.fits"):
        if fits.getval(path, "IMAGETYP").startswith("Bias"):
            path.unlink()
    run_well(work, chosen={"until_step": 5})
    new = later(work, tmp_path / "new", Ageing(growth=1.2), biases=0)
    report = check(work, new)
    report.raise_for_failure()
    ratio = verdict(new)["rate_ratio"]["hot"]
    assert ratio["value"] == pytest.approx(1.2, abs=4 * ratio["error"])
    assert report.exit_code == FINDING
