"""The modes of an EM-CCD by the command line: products, messages, exit codes, and runs that find everything made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from em_folder import AREAS, FRAMES, SHAPE, EmFolder
from em_frames import GRID, write_em_campaign, write_em_frame
from helpers import call, header, planes, products, write_yaml

from darkpipe.science.flags import DQ
from run_pipeline import main

MODES = ("traditional_dark", "fit_noise_maps")


def line(folder: EmFolder, mode: str, *more: str) -> list[str]:
    """A command line for frames of a folder; the areas stand in a file."""
    config = write_yaml(folder.root / "emccd.yaml", {"load_em_frames": AREAS})
    frames = [] if mode == "synthetic_noise_map_dark" else ["--basepath", str(folder.frames)]
    return ["--mode", mode, "--config", str(config), "--output_dir", str(folder.out), *frames, *more]


@pytest.fixture
def fresh(em_plain: EmFolder, tmp_path: Path) -> EmFolder:
    """The frames, of which nothing was made yet."""
    (tmp_path / "frames").symlink_to(em_plain.frames)
    return EmFolder(tmp_path, em_plain.sensor)


def said(capsys: pytest.CaptureFixture[str]) -> str:
    out = capsys.readouterr()
    return " ".join((out.out + out.err).split())


def test_the_three_modes_one_after_the_other(fresh: EmFolder, capsys: pytest.CaptureFixture[str]) -> None:
    for mode in MODES:
        assert main(line(fresh, mode)) == 0
    text = said(capsys)
    assert f"{6 * FRAMES} found, {6 * FRAMES} used, 0 rejected" in text
    assert "6 of EM gain and exposure, 6 to 6 frames each" in text
    assert "40 x 56, image 30 x 36 from (2, 14), active 36 x 40, prescan 40 x 10, telemetry 1 row(s)" in text
    synthetic = line(fresh, "synthetic_noise_map_dark", "--em_gain", "300", "--exptime_single", "50")
    assert main(synthetic) == 0
    made = products(fresh.out)
    dark = planes(fresh.out / "em_darks" / "synthetic_dark_g300_texp50s.fits")
    assert dark["SCI"].shape == (30, 36)
    assert np.isfinite(dark["SCI"]).all()
    for arguments in (*(line(fresh, mode) for mode in MODES), synthetic):
        assert main(arguments) == 0
        assert "0 made" in said(capsys)
    assert products(fresh.out) == made


def test_in_a_process_of_its_own(em_work: EmFolder) -> None:
    before = products(em_work.out)
    done = call(*line(em_work, "traditional_dark", "--em-gain", "100", "--exptime-single=30", "--force"))
    assert done.returncode == 0, done.stderr
    assert products(em_work.out) == before


def test_flags_choose_the_dark(fresh: EmFolder, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("--em_gain", "1000", "--exptime_single", "2")
    assert main(line(fresh, "traditional_dark", *chosen, "--full_frame")) == 0
    assert [p.name for p in (fresh.out / "em_darks").iterdir()] == ["traditional_dark_g1000_texp2s_full.fits"]
    assert main(line(fresh, "fit_noise_maps")) == 0
    target = fresh.root / "mine.fits"
    other = EmFolder(fresh.root / "other", fresh.sensor)
    other.root.mkdir()
    arguments = line(other, "synthetic_noise_map_dark", *chosen, "--model_dir", str(fresh.out), "--output", str(target))
    assert main([*arguments, "--full_frame"]) == 0
    assert planes(target)["SCI"].shape == SHAPE
    assert header(target)["EMGAIN"] == 1000
    capsys.readouterr()
    assert main(["--output_dir", str(other.out), "--explain", str(target)]) == 0
    assert "F_map.fits" in said(capsys)


def test_a_dry_run_writes_nothing_and_says_why(em_work: EmFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = products(em_work.out)
    em_work.stack(100, 30)[0].unlink()
    assert main(line(em_work, "traditional_dark", "--dry_run")) == 0
    assert "input dropped" in said(capsys)
    assert products(em_work.out) == before
    assert main(line(em_work, "traditional_dark")) == 0
    assert header(em_work.out / "em_darks" / "traditional_dark_g100_texp30s.fits")["NCOMBINE"] == FRAMES - 1
    after = products(em_work.out)
    assert [name for name in after if before[name] != after[name]] == [
        "em_darks/traditional_dark_g100_texp30s.fits", "em_frames.ecsv",
    ]  # fmt: skip


def test_a_changed_map_makes_its_dark_stale(em_work: EmFolder, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic = line(em_work, "synthetic_noise_map_dark", "--em_gain", "300", "--exptime_single", "50")
    assert main(synthetic) == 0
    yaml = {"load_em_frames": AREAS, "fit_noise_maps": {"negatives": "zero"}}
    config = str(write_yaml(em_work.root / "zero.yaml", yaml))
    assert main([*line(em_work, "fit_noise_maps"), "--config", config]) == 0
    capsys.readouterr()
    assert main([*synthetic, "--dry_run"]) == 0
    assert "input changed: dark_model/noise_maps/F_map.fits (and 2 more)" in said(capsys)


def test_too_few_stacks(em_plain: EmFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_em_campaign(tmp_path / "frames", em_plain.sensor, np.random.default_rng(1), [2] * 3, GRID[:3])
    folder = EmFolder(tmp_path, em_plain.sensor)
    assert main(line(folder, "fit_noise_maps")) == 1
    text = said(capsys)
    assert "noise maps need at least 4 stacks of different EM gain and exposure, here are 3" in text
    assert "Traceback" not in text
    assert not (folder.out / "dark_model").exists()


def test_stacks_of_one_gain_and_exposure(
    em_plain: EmFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = ((50.0, 2.0), (50.0, 10.0), (50.0, 30.0), (50.0, 60.0))
    write_em_campaign(tmp_path / "frames", em_plain.sensor, np.random.default_rng(1), [2] * 4, grid)
    assert main(line(EmFolder(tmp_path, em_plain.sensor), "fit_noise_maps")) == 1
    assert "all stacks have one EM gain (50): the fixed pattern cannot be told" in said(capsys)


def test_mixed_shapes(em_plain: EmFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = EmFolder(tmp_path, em_plain.sensor)
    write_em_frame(tmp_path / "frames" / "a.fits", np.ones(SHAPE, np.float32), 100.0, 30.0)
    write_em_frame(tmp_path / "frames" / "b.fits", np.ones((9, 9), np.float32), 100.0, 30.0)
    arguments = ["--mode", "traditional_dark", "--basepath", str(folder.frames), "--output_dir", str(folder.out)]
    assert main(arguments) == 1
    assert "as many frames of 40 x 56 and 9 x 9 pixels" in said(capsys)
    assert main(line(folder, "traditional_dark")) == 1
    write_em_frame(tmp_path / "frames" / "c.fits", np.ones(SHAPE, np.float32), 100.0, 30.0)
    assert main(arguments) == 0
    assert "b.fits: 9 x 9 pixels, not 40 x 56" in said(capsys)


def test_non_finite_pixels(em_plain: EmFolder, tmp_path: Path) -> None:
    sensor = em_plain.sensor
    sensor = type(sensor)(sensor.fixed_e.copy(), sensor.cic_e, sensor.dark_e_per_s)
    sensor.fixed_e[10, 20] = np.nan
    write_em_campaign(tmp_path / "frames", sensor, np.random.default_rng(1), [2] * len(GRID))
    folder = EmFolder(tmp_path, sensor)
    for mode in MODES:
        assert main(line(folder, mode, "--quiet")) == 0
    dark = planes(folder.out / "em_darks" / "traditional_dark_g100_texp30s.fits")
    maps = planes(folder.out / "dark_model" / "noise_maps" / "C_map.fits")
    assert np.isnan(dark["SCI"][8, 6])
    assert dark["DQ"][8, 6] & DQ.FEW_SAMPLES
    assert np.isnan(maps["SCI"][10, 20])
    assert maps["DQ"][10, 20] & DQ.FIT_FAILED


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--mode fit_noise_maps", "mode 'fit_noise_maps' needs --basepath"),
        ("--mode synthetic_noise_map_dark --em_gain 5", "needs --exptime_single"),
        ("--mode synthetic_noise_map_dark --exptime_single 5", "needs --em_gain"),
        ("--mode synthetic_noise_map_dark --em_gain 0.5 --exptime_single 5", "synthetic_noise_map_dark.em_gain"),
        ("--mode synthetic_noise_map_dark --em_gain ten --exptime_single 5", "'ten' is no number"),
        ("--mode fit_noise_maps --basepath . --em_gain 5", "--em_gain has no effect in mode 'fit_noise_maps'"),
        ("--mode synthetic_noise_map_dark --em_gain 5 --exptime_single 5 --temps 3", "--temps has no effect"),
        ("--mode synthetic_2d_single --em_gain 5", "--em_gain has no effect in mode 'synthetic_2d_single'"),
        ("--mode fit_noise_maps --basepath . --select gain=5", "--select has no effect in mode 'fit_noise_maps'"),
        ("--mode fit_noise_map", "Did you mean 'fit_noise_maps'?"),
    ],
)
def test_wrong_flags(arguments: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments.split(), "--output_dir", str(tmp_path / "out")]) == 2
    assert message in said(capsys)


def test_a_dark_without_maps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--mode", "synthetic_noise_map_dark", "--em_gain", "5", "--exptime_single", "5"]
    assert main([*arguments, "--output_dir", str(tmp_path)]) == 1
    assert "there are no noise maps here" in said(capsys)
