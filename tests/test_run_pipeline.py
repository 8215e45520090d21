"""The command line: each flag arrives where it belongs, and what is wrong ends in one line and exit code 2."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import toy_steps
from pydantic import BaseModel, ConfigDict, create_model
from toy_steps import ToyPlace, ToyStep, no_plan, write_frames

import master_controller
import run_pipeline
from darkpipe.jobs.lock import hold
from darkpipe.settings import RunSettings, lookup
from master_controller import MODES, STEP_MODULES, MasterController
from run_pipeline import FLAGS, main
from steps import step0_acquire_darks as step0
from steps import step1_load_data as step1

PROJECT = Path(run_pipeline.__file__).parent
NAMES = (
    *("subtract_bias", "group_darks", "mask_hotpixels", "fit_dark_model"),
    *("generate_synthetic_darks", "evaluate_model", "check_model", "new_frames"),
    *("load_em_frames", "traditional_dark", "fit_noise_maps", "synthetic_noise_map_dark", "calibrate"),
    *("bad_pixels", "characterize", "export_library", "plan_campaign", "report"),
)
ALL_TARGETS = {target for flag in FLAGS for target in flag.targets} | {
    place for mode in MODES.values() for place in (*mode.overrides, *mode.required.values())
}


def section(name: str) -> type[BaseModel]:
    fields: dict[str, Any] = {
        target.partition(".")[2]: (Any, None) for target in ALL_TARGETS if target.partition(".")[0] == name
    }
    model: type[BaseModel] = create_model("Settings", __config__=ConfigDict(frozen=True, extra="forbid"), **fields)
    return model


WIRED = dict(enumerate((step0, step1, *(ToyStep(name, 1, section(name), no_plan) for name in NAMES))))


@pytest.fixture
def wired(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Runs end in settings instead of work; what `run` was called with is caught."""
    caught: dict[str, Any] = {}

    def run(self: MasterController, mode: str, **chosen: Any) -> Any:
        caught.update(chosen, mode=mode, settings=self.settings(mode).model_dump())
        return master_controller.RunReport(mode)

    monkeypatch.setattr(master_controller, "load_steps", lambda: WIRED)
    monkeypatch.setattr(master_controller, "_output_dir", ToyPlace)
    monkeypatch.setattr(MasterController, "run", run)
    return caught


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    monkeypatch.setattr(master_controller, "load_steps", lambda: toy_steps.STEPS)
    monkeypatch.setattr(master_controller, "_output_dir", ToyPlace)
    write_frames(tmp_path / "raw", "a-x-1", "a-y-1")
    return ["--mode", "full", "--basepath", str(tmp_path / "raw"), "--output_dir", str(tmp_path / "out")]


SYNTHETIC = "generate_synthetic_darks"


@pytest.mark.parametrize(
    ("line", "place", "value"),
    [
        ("--mode|full|--basepath|raw", "load_data.basepath", Path("raw")),
        ("--mode|synthetic_only|--temps|15.0 20.0 25.0", f"{SYNTHETIC}.temperatures_c", [15.0, 20.0, 25.0]),
        ("--mode|synthetic_only|--temps|-10 -5", f"{SYNTHETIC}.temperatures_c", [-10.0, -5.0]),
        ("--mode|synthetic_only|--temps|-10,-5", f"{SYNTHETIC}.temperatures_c", [-10.0, -5.0]),
        ("--mode|synthetic_only|--temps|-10|-5|0", f"{SYNTHETIC}.temperatures_c", [-10.0, -5.0, 0.0]),
        ("--mode|synthetic_only|--temps=-1e1", f"{SYNTHETIC}.temperatures_c", [-10.0]),
        ("--temps|0|--mode|synthetic_2d|--exptimes|.5, 300", f"{SYNTHETIC}.exposures_s", [0.5, 300.0]),
        ("--mode|synthetic_2d|--temps|0", f"{SYNTHETIC}.what", "grid"),
        ("--mode|synthetic_only|--model-dir|m", "evaluate_model.model_dir", Path("m")),
        ("--mode|synthetic_only|--model_dir|m", f"{SYNTHETIC}.model_dir", Path("m")),
        ("--mode|synthetic_2d_single|--temp_single|-7.5|--exptime_single|0.1", f"{SYNTHETIC}.temp_single_c", -7.5),
        ("--mode|synthetic_2d_single|--temp-single|0|--exptime-single=2", f"{SYNTHETIC}.temp_single_c", 0.0),
        ("--mode|synthetic_2d_single|--temp_single|-.5|--exptime_single|1", f"{SYNTHETIC}.exptime_single_s", 1.0),
        ("--mode|synthetic_2d_single|--output|d.fits", f"{SYNTHETIC}.output", Path("d.fits")),
        ("--mode|synthetic_2d|--include-bias", f"{SYNTHETIC}.include_bias", True),
        ("--mode|synthetic_2d|--dtype|uint16", f"{SYNTHETIC}.dtype", "uint16"),
        ("--mode|full|--model|exp_2d", "fit_dark_model.model", "exp_2d"),
        ("--mode|full|--model|exp_2d", "evaluate_model.model", "exp_2d"),
        ("--mode|full|--bias_model|b0.fits", "subtract_bias.bias_model", Path("b0.fits")),
        ("--mode|calibrate|--model_dir|m", "calibrate.model_dir", Path("m")),
        ("--mode|calibrate|--basepath|lights", "load_data.kinds", ["light", "flat"]),
        ("--mode|calibrate|--kinds|dark, bias", "load_data.kinds", ["dark", "bias"]),
        ("--mode|calibrate|--temperature|thermometer", "calibrate.temperature", "thermometer"),
        ("--mode|calibrate|--residual|--repair", "calibrate.residual", True),
        ("--mode|calibrate|--residual|--repair", "calibrate.repair", True),
        ("--mode|calibrate|--like|m31.fits|--output|d.fits", "calibrate.like", Path("m31.fits")),
        ("--mode|calibrate|--like|m31.fits|--output|d.fits", "calibrate.output", Path("d.fits")),
        ("--mode|calibrate|--like|m31.fits|--include-bias", "calibrate.include_bias", True),
        ("--mode|plan_campaign|--temps|-10 0|--exptimes|60", "plan_campaign.temperatures_c", [-10.0, 0.0]),
        ("--mode|plan_campaign|--model_dir|m|--num_darks|7", "plan_campaign.frames", 7),
        ("--mode|characterize|--basepath|d", "load_data.kinds", ["bias", "dark", "light", "flat"]),
        ("--mode|characterize|--combine|average", "characterize.combine", "average"),
        ("--mode|characterize|--expect-shape|9x7|--expect_filter|R", "characterize.expect_shape", "9x7"),
        ("--mode|characterize|--expect-shape|9x7|--expect_filter|R", "characterize.expect_filter", "R"),
        ("--mode|characterize|--expect_exposure|0.5", "characterize.expect_exposure_s", 0.5),
        ("--mode|characterize|--black_point|-5|--white-point|5", "characterize.black_point", -5.0),
        ("--mode|characterize|--black_point|-5|--white-point|5", "characterize.white_point", 5.0),
        ("--mode|characterize|--residual_points|-9 9|--stretch|linear", "characterize.residual_points", [-9.0, 9.0]),
        ("--mode|characterize|--residual_points|-9 9|--stretch|linear", "characterize.stretch", "linear"),
        ("--mode|characterize|--window|1:5,2:7", "characterize.window", "1:5,2:7"),
        ("--mode|characterize|--select|kind=dark", "characterize.select", {"kind": "dark"}),
        ("--mode|fit_2d_model", "fit_dark_model.model_set", "two_dimensional"),
        ("--mode|full|--engine|processes", "engine", "processes"),
        ("--mode|full|--workers|3", "workers", 3),
        ("--mode|full|--log-level|ERROR", "log_level", "ERROR"),
        ("--mode|full|--debug", "log_level", "DEBUG"),
        ("--mode|full|--quiet", "quiet", True),
        ("--mode|full|--select|gain=100|--select|camera=A=B", "select", {"gain": "100", "camera": "A=B"}),
        ("--mode|full|--output-dir|there", "output_dir", Path("there")),
        ("--mode|evaluate_2d_model|--basepath|new", "load_data.basepath", Path("new")),
        ("--mode|acquire|--bias-only", "dark_capture.select", "bias"),
        ("--mode|acquire|--science-only|--num-darks|30", "dark_capture.select", "science"),
        ("--mode|acquire|--science-only|--num-darks|30", "dark_capture.num_darks", 30),
        ("--mode|acquire|--science-exposure-time|2.0", "dark_capture.science_exposure_time", 2.0),
        ("--mode|acquire|--camera-address|127.0.0.1:11111", "camera.address", "127.0.0.1:11111"),
        ("--mode|full|--camera-address|127.0.0.1:11111|--session|b", "dark_capture.session", "b"),
        ("--mode|full|--camera-address|127.0.0.1:11111", "load_data.acquired", Path("darks")),
    ],
)
def test_flags_arrive(wired: dict[str, Any], line: str, place: str, value: Any) -> None:
    assert main(line.split("|")) == 0
    found = lookup(wired["settings"], place)
    # without a type that says Path, the section of this test leaves a path as it is given
    assert found in (value, Path.cwd() / value) if isinstance(value, Path) else found == value


def test_flags_of_the_run_arrive(wired: dict[str, Any]) -> None:
    assert main(["--mode", "full", "--from-step", "0", "--until_step", "5", "--force", "--dry_run"]) == 0
    assert (wired["from_step"], wired["until_step"], wired["force"], wired["dry_run"]) == (0, 5, True, True)
    assert main(["--force", "0", "--mode", "full"]) == 0
    assert (wired["from_step"], wired["force"], wired["dry_run"]) == (None, 0, False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "what is to be done? [--mode]. Modes: full, acquire"),
        ("--mode|ful", "there is no mode 'ful' [--mode]. Did you mean 'full'?"),
        ("--mode|full|--temp_singel|3", "unknown flag --temp_singel. Did you mean --temp_single?"),
        ("--mode|full|--mod|3", "unknown flag --mod. Did you mean --mode?"),
        ("--mode|full|stray", "unrecognized arguments: stray"),
        ("--mode|synthetic_only|--temps|warm", "argument --temps: 'warm' is no number"),
        ("--mode|synthetic_only|--temps|nan", "argument --temps: 'nan' is no finite number"),
        ("--mode|synthetic_only|--temps|", "argument --temps: there are no numbers"),
        ("--mode|synthetic_only|--temps", "argument --temps: expected one argument"),
        ("--mode|full|--from_step|x", "argument --from_step: invalid int value: 'x'"),
        ("--mode|full|--engine|rockets", "argument --engine: invalid choice: 'rockets'"),
        ("--mode|full|--select|gain", "argument --select: 'gain' is not KEY=VALUE"),
        ("--mode|full|--temp_single|3", "--temp_single has no effect in mode 'full'. It is for: synthetic_2d_single"),
        ("--mode|synthetic_only|--basepath|x", "--basepath has no effect in mode 'synthetic_only'"),
        ("--mode|full|--config|nowhere.yaml", "cannot read the settings: No such file or directory"),
        ("--mode|acquire|--bias-only|--science-only", "--bias_only and --science_only exclude each other"),
        ("--mode|full|--basepath|x|--num_darks|3", "--num_darks has no effect in mode 'full'. It needs a camera"),
        ("--mode|acquire|--num_darks|0", "dark_capture.num_darks: Input should be greater than or equal to 1"),
        ("--mode|acquire|--camera_address|nowhere", "camera.address 'nowhere' is not host:port"),
        ("--mode|acquire|--session|../x", "dark_capture.session"),
        ("--mode|full|--workers|0", "workers: Input should be greater than or equal to 1 (it is 0)"),
    ],
)
def test_wrong_flags_end_in_one_line(
    wired: dict[str, Any], capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    assert main(line.split("|") if line else []) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert len(printed.err.splitlines()) == 1
    assert printed.err.startswith("darkpipe: ")
    assert message in printed.err


def test_modes_say_what_they_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(master_controller, "load_steps", lambda: WIRED)
    monkeypatch.setattr(master_controller, "_output_dir", ToyPlace)
    out = ["--output_dir", str(tmp_path / "out")]
    for line, missing in [
        (["--mode", "full"], "--basepath"),
        (["--mode", "fit_2d_model"], "--basepath"),
        (["--mode", "synthetic_2d_single", "--temp_single", "0"], "--exptime_single"),
        (["--mode", "synthetic_2d_single", "--exptime_single", "1"], "--temp_single"),
    ]:
        assert main([*line, *out]) == 2
        assert f"needs {missing}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_run_prints_a_table_and_keeps_a_log(toy: list[str], tmp_path: Path, capsys: Any) -> None:
    assert main(toy) == 0
    printed = capsys.readouterr()
    rows = [line.split() for line in printed.out.splitlines()]
    assert rows[0][:2] == ["step", "made"]
    assert ["load_data", "3", "0", "0", "0"] in rows
    assert ["cells", "2"] in rows
    assert "info: load_data: 3 made, 0 up to date" in printed.err
    assert "survey a-x-1.txt" not in printed.err
    logs = list((tmp_path / "out" / "logs").glob("pipeline_????????.log"))
    assert len(logs) == 1
    assert "load_data: made survey a-x-1.txt (never made)" in logs[0].read_text()
    assert main([*toy, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert main([*toy, "--debug", "--force", "4"]) == 0
    assert "made synthetic x (forced)" in capsys.readouterr().err


def test_dry_run_and_explain_print(toy: list[str], tmp_path: Path, capsys: Any) -> None:
    assert main([*toy, "--dry-run"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "load_data: survey a-x-1.txt: never made"
    assert any(line.startswith("fit_dark_model: ") and "not yet known" in line for line in printed)
    assert not (tmp_path / "out").exists()
    main(toy)
    capsys.readouterr()
    assert main([*toy, "--dry_run", "--quiet"]) == 0
    assert capsys.readouterr().out == "everything is up to date\n"
    assert main(["--output_dir", str(tmp_path / "out"), "--explain", "model.txt"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "model.txt"
    assert main(["--output_dir", str(tmp_path / "out"), "--explain", "model.fits"]) == 1
    assert "does not know this file" in capsys.readouterr().err


def test_a_failure_exits_1_and_a_held_lock_75(toy: list[str], tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "raw" / "a-x-1.txt").write_text("-1")
    assert main(toy) == 1
    assert "error: cells: master x: a negative value" in capsys.readouterr().err
    with hold(tmp_path / "out"):
        assert main(toy) == 75
    assert "holds the lock" in capsys.readouterr().err


def test_yaml_is_read_and_printed(toy: list[str], tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "a.yaml").write_text("load_data: {basepath: ../raw}\noutput_dir: ../out\ncells: {factor: 2}\n")
    assert main(["--mode", "full", "--config", str(folder / "a.yaml")]) == 0
    assert (tmp_path / "out" / "model.txt").exists()
    capsys.readouterr()
    assert main(["--config", str(folder / "a.yaml"), "--print-config", "--workers", "1"]) == 0
    text = capsys.readouterr().out
    assert f"basepath: {tmp_path / 'raw'}" in text
    (folder / "b.yaml").write_text(text)
    assert main(["--mode", "full", "--config", str(folder / "b.yaml"), "--dry_run"]) == 0
    assert capsys.readouterr().out == "everything is up to date\n"
    (folder / "a.yaml").write_text("cells: {facter: 2}\n")
    assert main(["--mode", "full", "--config", str(folder / "a.yaml")]) == 2
    assert "unknown setting 'cells.facter'" in (said := capsys.readouterr().err)
    assert "Did you mean 'cells.factor'?" in said


def test_help_is_quick_and_names_modes_and_exit_codes() -> None:
    script = "import sys, run_pipeline\ntry: run_pipeline.main(['--help'])\nexcept SystemExit as end: code = end.code\n"
    script += (
        "heavy = {'numba', 'astropy', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)\nsys.exit(f'{code} {heavy}')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "0 set()"
    assert all(mode in done.stdout for mode in MODES)
    assert all(f"--{flag.name}" in done.stdout for flag in FLAGS)
    assert "75 another run holds the lock" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_exits_130_and_keeps_what_is_finished(tmp_path: Path, number: signal.Signals) -> None:
    write_frames(tmp_path / "raw", *(f"a-{cell}-1" for cell in "abcdefghijklmnopqrst"))
    script = (
        "import sys, toy_steps, master_controller, run_pipeline\n"
        "master_controller.load_steps = lambda: toy_steps.STEPS\n"
        "master_controller._output_dir = toy_steps.ToyPlace\n"
        "sys.exit(run_pipeline.main(sys.argv[1:]))\n"
    )
    (tmp_path / "slow.yaml").write_text(
        "cells: {pause_s: 0.2}\nload_data: {basepath: raw}\noutput_dir: out\nworkers: 1\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT), str(PROJECT / "tests")])}
    line = [sys.executable, "-c", script, "--mode", "full", "--config", str(tmp_path / "slow.yaml")]
    with subprocess.Popen(line, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not list((tmp_path / "out" / "masters").glob("*.txt")):
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted" in said
    masters = len(list((tmp_path / "out" / "masters").glob("*.txt")))
    assert 1 <= masters < 20
    # each master that stands there is recorded: none of them is made again
    report = toy_steps.controller(tmp_path, cells={"pause_s": 0.2}).run("full", from_step=2, until_step=2, dry_run=True)
    assert len(report.jobs) == 20 - masters


def test_flags_and_modes_name_settings_that_exist() -> None:
    for name in STEP_MODULES:
        pytest.importorskip(name)
    model = MasterController().model
    for target in sorted(ALL_TARGETS):
        section_name, _, name = target.partition(".")
        assert section_name in model.model_fields, target
        if section_name not in RunSettings.model_fields:
            assert name in model.model_fields[section_name].annotation.model_fields, target  # type: ignore[union-attr]
