"""Flags and settings on real frames: order of steps, dry runs, explanations, YAML, exit codes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from helpers import Campaign, call, command, environment, flags, make_campaign, products, table, write_yaml

from run_pipeline import main

STEPS = (
    *("load_data", "subtract_bias", "group_darks", "mask_hotpixels", "fit_dark_model"),
    *("generate_synthetic_darks", "evaluate_model"),
)


@pytest.fixture
def small(tmp_path: Path) -> Campaign:
    return make_campaign(tmp_path, rows=16, cols=12, n_biases=3, n_darks=2, hot_fraction=0.0)


@pytest.fixture
def line(small: Campaign) -> list[str]:
    """A command line for it."""
    return flags(small)


def counts(text: str) -> dict[str, int]:
    """Jobs made a step, from the table that is printed."""
    rows = [line.split() for line in text.splitlines()]
    return {r[0]: int(r[1]) for r in rows if len(r) >= 5 and r[0] in STEPS}


def test_from_until_and_force(small: Campaign, line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "--until_step", "3"]) == 0
    assert list(counts(capsys.readouterr().out)) == list(STEPS[:3])
    assert (small.out / "dark_masks_by_temp").is_dir()
    assert not (small.out / "dark_model").exists()
    assert main([*line, "--from_step", "4", "--until_step", "5"]) == 0
    assert list(counts(capsys.readouterr().out)) == list(STEPS[3:5])
    assert main(line) == 0
    made = counts(capsys.readouterr().out)
    assert [name for name, n in made.items() if n] == list(STEPS[5:])
    before = products(small.out)
    assert main([*line, "--force", "5"]) == 0
    made = counts(capsys.readouterr().out)
    assert [name for name, n in made.items() if n] == ["fit_dark_model"]  # and it made the same bytes
    assert main([*line, "--force"]) == 0
    assert all(counts(capsys.readouterr().out).values())
    assert products(small.out) == before


def test_from_step_does_not_look_at_the_frames(small: Campaign, line: list[str]) -> None:
    assert main([*line, "--quiet"]) == 0
    for path in small.raw.glob("*.fits"):
        path.unlink()
    without = [*line[:4], *line[6:]]
    assert "--basepath" not in without
    assert main([*without, "--from_step", "4", "--quiet"]) == 0
    assert main([*without, "--from_step", "6", "--force", "6", "--quiet"]) == 0


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--from_step", "6", "--until_step", "3"], "has no step from 6 to 3"),
        (["--force", "9"], "step 9 cannot be forced"),
        (["--until_step", "3", "--force", "5"], "step 5 cannot be forced"),
    ],
)
def test_steps_that_are_not_there(
    small: Campaign, line: list[str], more: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line, *more]) == 2
    assert word in capsys.readouterr().err


def test_a_dry_run_writes_nothing(small: Campaign, line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert re.search(r"load_data: \d+ jobs, frame_0001.fits … frame_\d+.fits: never made\n", text)
    assert not small.out.exists()
    assert main([*line, "--quiet"]) == 0
    state = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in small.out.rglob("*") if p.is_file()}
    capsys.readouterr()
    assert main([*line, "--dry_run"]) == 0
    assert capsys.readouterr().out == "everything is up to date\n"
    (small.out / "dark_model" / "chi2_map.fits").unlink()
    assert main([*line, "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "fit_dark_model: maps of exp_2d: output gone: dark_model/chi2_map.fits" in text
    state.pop(small.out / "dark_model" / "chi2_map.fits")
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in small.out.rglob("*") if p.is_file()} == state


def test_a_product_is_explained_down_to_its_frames(
    small: Campaign, line: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*line, "--quiet"]) == 0
    ask = ["--output_dir", str(small.out), "--explain"]
    assert main([*ask, "synthetic/synthetic_dark_T-5.0C_texp100s.fits"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "synthetic/synthetic_dark_T-5.0C_texp100s.fits"
    for word in ("step generate_synthetic_darks (version", "temperature_c = -5.0", "step fit_dark_model",
                 "dark_masks_by_temp/darks_T-5.0C_texp100s.fits", "step group_darks", "bias/master_bias_T-5.0C.fits",
                 "../raw/frame_0001.fits"):  # fmt: skip
        assert word in text, word
    assert main([*ask, str(small.out / "groups.ecsv")]) == 0
    assert main([*ask, "synthetic/nothing.fits"]) == 1
    assert "does not know this file" in capsys.readouterr().err


def test_settings_are_printed_and_can_be_read_again(
    small: Campaign, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*line, "--quiet", "--model", "exp_2d", "--workers", "1"]) == 0
    assert main([*line, "--model", "exp_2d", "--workers", "1", "--print_config"]) == 0
    text = capsys.readouterr().out
    given = yaml.safe_load(text)
    assert set(STEPS) <= set(given)
    assert given["fit_dark_model"]["model"] == "exp_2d"
    assert given["load_data"]["basepath"] == str(small.raw)
    comments = [line for line in text.splitlines() if line.lstrip().startswith("#")]
    assert len(comments) > 30
    (small.root / "again.yaml").write_text(text)
    assert main(["--mode", "full", "--config", str(small.root / "again.yaml"), "--dry_run"]) == 0
    assert capsys.readouterr().out == "everything is up to date\n"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fit_dark_model": {"modle": "auto"}}, ("fit_dark_model.modle", "fit_dark_model.model")),
        ({"subtract_bais": {}}, ("subtract_bais", "subtract_bias")),
        ({"hot_sigma": 3.0}, ("hot_sigma", "mask_hotpixels.hot_sigma")),
        ({"subtract_bias": {"kappa": "many"}}, ("subtract_bias.kappa", "many")),
        ({"subtract_bias": {"kappa": 0.5}}, ("subtract_bias.kappa", "greater than 1")),
    ],
)
def test_wrong_settings_exit_2_and_name_what_was_meant(
    small: Campaign, settings: dict, words: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_yaml(small.root / "wrong.yaml", settings)
    assert main(flags(small, "full", "--config", str(config))) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert len(said.splitlines()) == 1
    assert not small.out.exists()


def test_paths_of_a_yaml_are_relative_to_it(small: Campaign) -> None:
    (small.root / "conf").mkdir()
    write_yaml(small.root / "conf" / "here.yaml", {"output_dir": "../out", "load_data": {"basepath": "../raw"}})
    line = ["--mode", "full", "--config", "conf/here.yaml", "--until_step", "1", "--quiet"]
    done = call(*line, cwd=small.root)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(table(small.out / "index.ecsv")) == 27


def test_quiet_and_debug(small: Campaign, line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*line, "--quiet", "--until_step", "2"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*line, "--until_step", "3", "--debug"]) == 0
    printed = capsys.readouterr()
    assert "master dark T-5.0C_texp100s" in printed.err
    assert "group_darks" in printed.out
    assert main([*line, "--until_step", "3", "--force", "3", "--log_level", "ERROR"]) == 0
    assert "info" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "code", "word"),
    [
        (["--mode", "full"], 2, "needs --basepath"),
        (["--mode", "fulll"], 2, "Did you mean 'full'"),
        (["--mode", "full", "--basepath", "nowhere"], 2, "no such folder"),
        (["--mode", "acquire", "--camera_address", "127.0.0.1:9"], 1, "127.0.0.1:9"),
        (["--mode", "synthetic_2d"], 1, "no dark model here"),
        (["--mode", "synthetic_only", "--model_dir", "nowhere", "--temps", "-5"], 1, "no dark model here"),
        (["--mode", "evaluation_only"], 1, "no dark model here"),
        (["--mode", "synthetic_2d_single", "--temp_single", "-5"], 2, "needs --exptime_single"),
        (["--mode", "synthetic_2d_single", "--temp_single", "-5", "--exptime_single", "-1"], 2, "greater than 0"),
        (["--mode", "synthetic_2d_single", "--temp_single", "-5", "--exptime_single", "1e308"], 2, "86400"),
        (["--mode", "synthetic_2d", "--temps", "101", "--exptimes", "60"], 2, "100"),
        (["--mode", "synthetic_2d", "--temps", "-5", "--exptimes", "1e6"], 2, "86400"),
        (["--mode", "plan_campaign", "--temps", "-5 0", "--exptimes", "1e6"], 2, "86400"),
        (["--mode", "full", "--basepath", ".", "--bias_model", "nowhere"], 1, "no FITS file"),
        (["--mode", "full", "--basepath", ".", "--engine", "steam"], 2, "invalid choice"),
        (["--explain", "x.fits"], 1, "does not know this file"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, list) else None,
)
def test_what_is_wrong_ends_in_a_line_and_its_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    line: list[str], code: int, word: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main([*line, "--output_dir", str(tmp_path / "out")]) == code
    printed = capsys.readouterr()
    assert word in printed.err
    assert "Traceback" not in printed.err


def test_a_bias_model_that_is_not_there(small: Campaign, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(flags(small, "full", "--bias_model", str(small.root / "nowhere"))) == 1
    assert "no bias model was found" in capsys.readouterr().err


def test_a_model_without_temperatures_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    campaign = make_campaign(tmp_path, rows=16, cols=12, temperatures_c=(-10.0,), n_biases=3, n_darks=2)
    assert main(flags(campaign, "full", "--model", "exp_2d")) == 1
    said = capsys.readouterr().err
    assert "exp_2d cannot be fitted" in said
    assert "two temperatures" in said
    assert (campaign.out / "dark_model" / "hot_pixel_mask.fits").is_file()


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_an_interrupt_exits_130_and_the_next_run_goes_on(plain: Campaign, work: Campaign) -> None:
    line = command(*flags(work, "full", "--force", "--workers", "1"))
    with subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as run:
        journal = work.out / "journal.jsonl"
        size = journal.stat().st_size
        while journal.stat().st_size <= size + 2000 and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "interrupted" in said
    assert "Traceback" not in said
    assert main(flags(work, "full", "--quiet")) == 0
    assert products(work.out) == products(plain.out)
