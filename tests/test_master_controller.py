"""The controller with toy steps: what is run and why, what stops it, what is removed."""

from __future__ import annotations

import ast
import importlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import toy_steps
from toy_steps import ToyPlace, changed_step, controller, write_frames

import master_controller
from darkpipe.errors import BusyError, NothingToModelError, PipelineError, SettingsError
from darkpipe.jobs.lock import HOLDER_NAME, hold
from darkpipe.jobs.report import RunReport
from master_controller import MODES, STEP_MODULES, MasterController, Mode
from steps.modes import number_of

PROJECT = Path(master_controller.__file__).parent
FRAMES = ("a-x-1", "a-x-2", "a-y-1", "a-y-2", "a-z-1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_frames(tmp_path / "raw", *FRAMES)
    return tmp_path


def labels(report: RunReport) -> list[str]:
    return [job.label for job in report.jobs]


def products(root: Path) -> dict[str, bytes]:
    out = root / "out"
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.startswith((".", "journal.jsonl"))
    }


# what is run
def test_first_run_makes_everything_and_the_second_nothing(root: Path) -> None:
    first = controller(root).run("full")
    assert first.exit_code == 0
    assert labels(first) == [
        *(f"survey {name}.txt" for name in FRAMES),
        *("index", "master x", "master y", "master z", "cells", "tile 0", "tile 1", "tile 2", "model"),
        *("synthetic x", "synthetic y", "synthetic z"),
    ]
    assert {job.reason for job in first.jobs} == {"never made"}
    assert first.summaries == [("", [("cells", "3")])]
    before = {path: path.stat().st_mtime_ns for path in (root / "out").rglob("*.*") if ".lock" not in path.name}

    second = controller(root).run("full")
    assert second.up_to_date
    assert second.exit_code == 0
    assert sum(count.up_to_date for count in second.counts) == len(first.jobs)
    after = {path: path.stat().st_mtime_ns for path in (root / "out").rglob("*.*") if ".lock" not in path.name}
    assert after == before


def test_a_changed_frame_remakes_what_hangs_on_it(root: Path) -> None:
    controller(root).run("full")
    (root / "raw" / "a-y-2.txt").write_text("7")
    report = controller(root).run("full")
    # the index holds no values, so it comes out the same: cells that do not hold the frame are left alone
    assert labels(report) == [
        *("survey a-y-2.txt", "index", "master y", "cells", "tile 0", "tile 1", "tile 2", "model"),
        *("synthetic x", "synthetic y", "synthetic z"),
    ]
    reasons = {job.label: job.reason for job in report.jobs}
    assert reasons["survey a-y-2.txt"] == "input changed: ../raw/a-y-2.txt"
    assert reasons["index"] == "input changed: survey/a-y-2.json"
    assert reasons["master y"] == "input changed: ../raw/a-y-2.txt"
    assert reasons["synthetic x"] == "input changed: model.txt"


def test_a_new_frame_remakes_its_cell_alone(root: Path) -> None:
    controller(root).run("full")
    write_frames(root / "raw", "a-x-3")
    report = controller(root).run("full", until_step=2)
    assert labels(report) == ["survey a-x-3.txt", "index", "master x", "cells"]
    assert report.jobs[1].reason == "input added: survey/a-x-3.json"


def test_touching_a_frame_runs_nothing_and_is_remembered(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    controller(root).run("full")
    for path in (root / "raw").iterdir():
        os.utime(path, ns=(1, 1))
    assert controller(root).run("full").up_to_date
    monkeypatch.setattr("darkpipe.jobs.stamps.digest", lambda path: pytest.fail(f"read {path} again"))
    assert controller(root).run("full").up_to_date


def test_a_setting_remakes_its_step_and_names_itself(root: Path) -> None:
    controller(root).run("full")
    report = controller(root, cells={"factor": 2.0}).run("full", until_step=2)
    assert labels(report) == ["master x", "master y", "master z", "cells"]
    assert report.jobs[0].reason == "settings changed: factor 1.0 -> 2.0"


def test_a_setting_that_changes_no_content_stops_there(root: Path) -> None:
    controller(root).run("full")
    report = controller(root, cells={"pause_s": 0.001}).run("full")
    assert labels(report) == ["master x", "master y", "master z"]


def test_a_new_version_remakes_its_step(root: Path) -> None:
    controller(root).run("full")
    report = controller(root, steps=changed_step(3, VERSION=2)).run("full")
    assert labels(report) == ["tile 0", "tile 1", "tile 2", "model"]
    assert {job.reason for job in report.jobs} == {"step version changed (1 -> 2)"}


def test_an_altered_and_a_lost_product_are_made_again(root: Path) -> None:
    controller(root).run("full")
    (root / "out" / "masters" / "x.txt").write_text("scribble")
    (root / "out" / "synthetic" / "z.txt").unlink()
    report = controller(root).run("full")
    assert {job.label: job.reason for job in report.jobs} == {
        "master x": "output altered: masters/x.txt",
        "synthetic z": "output gone: synthetic/z.txt",
    }


def test_folders_can_move_together(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    controller(root).run("full")
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "deep"
    root.rename(elsewhere)
    assert controller(elsewhere).run("full").up_to_date


def test_from_until_force(root: Path) -> None:
    controller(root).run("full")
    (root / "raw" / "a-y-2.txt").write_text("7")
    assert controller(root).run("full", from_step=3).up_to_date
    forced = controller(root).run("full", from_step=3, force=3)
    assert labels(forced) == ["tile 0", "tile 1", "tile 2", "model"]
    assert {job.reason for job in forced.jobs} == {"forced"}
    assert controller(root).run("full", from_step=3).up_to_date
    everything = controller(root).run("full", force=True)
    assert len(everything.jobs) == 17
    with pytest.raises(SettingsError, match="cannot be forced"):
        controller(root).run("full", until_step=3, force=4)
    with pytest.raises(SettingsError, match="no step from 20"):
        controller(root).run("full", from_step=20)


# dry run
def test_dry_run_says_what_and_why_and_writes_nothing(root: Path) -> None:
    report = controller(root).run("full", dry_run=True)
    assert labels(report) == [f"survey {name}.txt" for name in FRAMES]
    assert ("load_data", "") in report.unknown
    assert ("seven", "") in report.unknown
    assert not (root / "out").exists()

    controller(root).run("full")
    before = products(root)
    report = controller(root, fit_dark_model={"model": "exp"}).run("full", dry_run=True)
    assert [(job.label, job.reason) for job in report.jobs] == [("model", 'settings changed: model "auto" -> "exp"')]
    assert ("generate_synthetic_darks", "") in report.unknown
    assert ("cells", "") not in report.unknown
    assert products(root) == before
    assert controller(root).run("full", dry_run=True).up_to_date


# failures
def test_a_failing_job_lets_its_batch_finish_and_stops_there(root: Path) -> None:
    (root / "raw" / "a-y-1.txt").write_text("-1")
    report = controller(root).run("full")
    assert report.exit_code == 1
    assert [failure.label for failure in report.failures] == ["master y"]
    assert labels(report)[-3:] == ["master x", "master y", "master z"]
    assert (root / "out" / "masters" / "z.txt").exists()
    assert not (root / "out" / "cells.json").exists()
    with pytest.raises(PipelineError, match="a negative value"):
        report.raise_for_failure()

    (root / "raw" / "a-y-1.txt").write_text("1")
    again = controller(root).run("full")
    assert again.exit_code == 0
    assert [job.label for job in again.jobs if job.step == "cells"] == ["master y", "cells"]


def test_a_bug_keeps_its_traceback_and_the_finished_jobs(root: Path) -> None:
    (root / "raw" / "a-z-1.txt").write_text("666")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        controller(root, workers=1).run("full")
    (root / "raw" / "a-z-1.txt").write_text("6")
    report = controller(root).run("full")
    assert [job.label for job in report.jobs if job.step == "cells"] == ["master z", "cells"]


def test_a_plan_that_fails_is_reported(root: Path) -> None:
    report = controller(root, load_data={"basepath": root / "nowhere"}).run("full")
    assert report.exit_code == 1
    assert "no such folder" in str(report.failures[0])


def test_a_frame_that_changes_while_the_pipeline_runs(root: Path) -> None:
    def plan(out: ToyPlace, settings: toy_steps.CellSettings) -> Any:
        (root / "raw" / "a-y-1.txt").write_text("1234")
        yield from toy_steps.plan_cells(out, settings)

    report = controller(root, steps=changed_step(2, plan=plan)).run("full")
    assert report.exit_code == 1
    assert [failure.label for failure in report.failures] == ["master y"]
    assert "changed while the pipeline runs" in str(report.failures[0])
    assert controller(root).run("full").exit_code == 0


# campaigns
def test_campaigns_go_on_without_each_other(root: Path) -> None:
    write_frames(root / "raw", "b-x-1", "c-none-1")
    (root / "raw" / "b-y-1.txt").write_text("-1")
    report = controller(root).run("full")
    assert report.exit_code == 1
    assert [(failure.campaign, failure.label) for failure in report.failures] == [("b", "master y")]
    assert any("there are no cells" in note for note in report.notes)
    assert (root / "out" / "a" / "model.txt").exists()
    (root / "raw" / "b-y-1.txt").write_text("1")
    assert controller(root).run("full").exit_code == 0


def test_nothing_to_model_anywhere_fails(tmp_path: Path) -> None:
    write_frames(tmp_path / "raw", "a-none-1")
    report = controller(tmp_path).run("full")
    assert report.exit_code == 1
    assert isinstance(report.failures[0].error, NothingToModelError)
    write_frames(tmp_path / "empty")
    report = controller(tmp_path, load_data={"basepath": tmp_path / "empty"}).run("full")
    assert report.exit_code == 1


def test_select_takes_one_and_leaves_the_others_alone(root: Path) -> None:
    write_frames(root / "raw", "b-x-1")
    controller(root).run("full")
    report = controller(root, select={"configuration": "b"}).run("full", force=2)
    assert {job.campaign for job in report.jobs} == {"b"}
    assert (root / "out" / "a" / "model.txt").exists()
    report = controller(root, select={"configuration": "q"}).run("full")
    assert report.exit_code == 2
    assert "There is: a, b" in str(report.failures[0])


# removing
def test_a_vanished_cell_takes_its_products_along(root: Path) -> None:
    controller(root).run("full")
    (root / "raw" / "a-z-1.txt").unlink()
    report = controller(root).run("full")
    assert report.exit_code == 0
    assert report.removed == ["survey/a-z-1.json", "masters/z.txt", "synthetic/z.txt"]
    assert not list((root / "out").rglob("*z*"))
    assert controller(root).run("full").up_to_date


def test_a_product_that_somebody_changed_is_left(root: Path) -> None:
    controller(root).run("full")
    (root / "raw" / "a-z-1.txt").unlink()
    (root / "out" / "masters" / "z.txt").write_text("my notes")
    report = controller(root).run("full")
    assert (root / "out" / "masters" / "z.txt").read_text() == "my notes"
    assert any("masters/z.txt is not ours any more" in note for note in report.notes)
    assert controller(root).run("full").up_to_date


def test_a_wish_is_not_removed_nor_what_a_narrow_mode_leaves_out(root: Path) -> None:
    controller(root).run("full")
    only = controller(root, generate_synthetic_darks={"wished": "w"})
    assert labels(only.run("full", from_step=4)) == ["synthetic w"]
    assert not (root / "out" / "synthetic" / "x.txt").exists()  # not in this plan, not wished for
    controller(root).run("full")
    assert sorted(path.name for path in (root / "out" / "synthetic").iterdir()) == ["w.txt", "x.txt", "y.txt", "z.txt"]


def test_a_vanished_campaign_takes_its_products_along(root: Path) -> None:
    write_frames(root / "raw", "b-x-1", "c-x-1")
    controller(root).run("full")
    assert (root / "out" / "b" / "synthetic" / "x.txt").exists()
    (root / "raw" / "b-x-1.txt").unlink()
    report = controller(root).run("full")
    assert report.exit_code == 0
    assert not (root / "out" / "b").exists()
    assert (root / "out" / "c" / "model.txt").exists()


def test_a_failed_step_removes_nothing(root: Path) -> None:
    controller(root).run("full")
    (root / "raw" / "a-z-1.txt").unlink()
    (root / "raw" / "a-y-1.txt").write_text("-1")
    assert controller(root).run("full").exit_code == 1
    assert (root / "out" / "masters" / "z.txt").exists()


# engines, crashes
@pytest.mark.parametrize("engine", ["threads", "processes", "dask"])
def test_engines_make_the_same(root: Path, engine: str) -> None:
    if engine == "dask":
        pytest.importorskip("distributed")
    report = controller(root, engine=engine).run("full")
    assert report.exit_code == 0
    made = products(root)
    assert made["masters/x.txt"] == str(float(sum(sum(name.encode()) for name in FRAMES[:2]))).encode()
    other = controller(root, output_dir=root / "out2", workers=1)
    other.run("full")
    assert {str(p.relative_to(root / "out2")) for p in (root / "out2").rglob("*.txt")} == {
        name for name in made if name.endswith(".txt")
    }
    assert all((root / "out2" / name).read_bytes() == content for name, content in made.items())


def test_dask_says_what_to_install(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    report = controller(root, engine="dask").run("full")
    assert report.exit_code == 2
    assert "pip install distributed" in str(report.failures[0])


@pytest.mark.parametrize(("engine", "kills"), [("threads", 7), ("processes", 3)])
def test_killed_at_random_moments_and_resumed(tmp_path: Path, engine: str, kills: int) -> None:
    names = [f"{configuration}-{cell}-1" for configuration in "ab" for cell in "pqrstuvwxyz"]
    for folder in ("calm", "killed"):
        (tmp_path / folder).mkdir()
        write_frames(tmp_path / folder / "raw", *names)
    assert toy_steps.main(tmp_path / "calm", "threads", 0.05) == 0
    chance = random.Random(20261)
    killed = 0
    for _ in range(kills):
        process = start_toy(tmp_path / "killed", engine)
        while process.poll() is None and not (tmp_path / "killed" / "out" / HOLDER_NAME).exists():
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.8))
        killed += process.poll() is None
        process.kill()
        process.wait()
        (tmp_path / "killed" / "out" / HOLDER_NAME).unlink(missing_ok=True)
    assert killed >= 2
    assert toy_steps.main(tmp_path / "killed", "threads", 0.05) == 0
    ours, theirs = products(tmp_path / "killed"), products(tmp_path / "calm")
    assert ours == theirs
    assert controller(tmp_path / "killed", cells={"pause_s": 0.05}).run("full").up_to_date
    assert not list((tmp_path / "killed").rglob("*.draft"))


def start_toy(root: Path, engine: str) -> subprocess.Popen[bytes]:
    search = os.pathsep.join([str(PROJECT), str(PROJECT / "tests")])
    script = str(PROJECT / "tests" / "toy_steps.py")
    return subprocess.Popen(
        [sys.executable, script, str(root), engine, "0.05"],
        env={**os.environ, "PYTHONPATH": search},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def test_a_second_run_is_refused_at_once(root: Path) -> None:
    with hold(root / "out"):
        with pytest.raises(BusyError, match=f"process {os.getpid()}") as caught:
            controller(root).run("full")
        assert caught.value.exit_code == 75
        assert controller(root).run("full", dry_run=True).jobs
    assert controller(root).run("full").exit_code == 0


def test_an_interrupt_keeps_what_is_finished(root: Path) -> None:
    def plan(out: ToyPlace, settings: toy_steps.CellSettings) -> Any:
        yield from toy_steps.plan_cells(out, settings)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        controller(root, steps=changed_step(2, plan=plan)).run("full")
    report = controller(root).run("full")
    assert labels(report)[0] == "tile 0"


# explain
def test_explain_goes_back_to_the_frames(root: Path) -> None:
    write_frames(root / "raw", *(f"a-x-{number}" for number in range(1, 15)))
    controller(root).run("full")
    text = controller(root).explain(Path("model.txt"))
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "model.txt"
    assert lines[1].startswith("step fit_dark_model (version 1): model, ")
    assert 'model = "auto"' in lines
    assert "../raw/a-y-1.txt" in lines
    assert "factor = 1.0" in lines
    assert "... and 11 more, to ../raw/a-x-9.txt" in lines
    assert "masters/x.txt  (see above)" in lines
    assert controller(root).explain(root / "out" / "model.txt") == text
    with pytest.raises(PipelineError, match="does not know this file"):
        controller(root).explain(Path("nothing.fits"))


# settings and modes
def test_settings_are_merged_in_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = Mode("toy", steps=(1, 2), overrides={"cells.factor": 3.0, "cells.pause_s": 0.5})
    monkeypatch.setitem(MODES, "toy", mode)
    flags = {"cells": {"pause_s": 0.25}}
    made = MasterController(
        {"cells": {"factor": 2.0}, "fit_dark_model": {"tiles": 5}}, flags=flags, steps=toy_steps.STEPS, layout=ToyPlace
    )
    settings: Any = made.settings("toy")
    assert (settings.cells.factor, settings.cells.pause_s) == (3.0, 0.25)
    assert settings.fit_dark_model.tiles == 5
    assert made.settings().model_dump()["cells"] == {"factor": 2.0, "pause_s": 0.25}
    again = MasterController(made.settings(), steps=toy_steps.STEPS, layout=ToyPlace)
    assert again.settings().model_dump() == made.settings().model_dump()


def test_a_mode_says_what_it_needs(root: Path) -> None:
    with pytest.raises(SettingsError, match="mode 'full' needs --basepath"):
        controller(root, load_data={}).run("full")
    with pytest.raises(SettingsError, match="Did you mean 'fit_2d_model'"):
        controller(root).run("fit_2d")
    controller(root).run("full")
    assert controller(root, load_data={}).run("full", from_step=2).up_to_date


def test_new_frames_bring_their_steps_along(root: Path) -> None:
    plain = controller(root)
    assert plain.numbers("evaluation_only") == (7, 19)
    flags = {"load_data": {"basepath": root / "raw"}}
    with_frames = MasterController({}, flags=flags, steps=toy_steps.STEPS, layout=ToyPlace)
    assert with_frames.numbers("evaluation_only") == (1, 2, 3, 4, 7, 19)


@pytest.mark.parametrize("model", [None, "out", "out/dark_model"])
def test_new_frames_are_not_indexed_over_the_models_own(root: Path, model: str | None) -> None:
    """Its campaign would be gone."""
    sections: dict[str, Any] = {"load_data": {"basepath": root / "raw"}}
    if model:
        sections["evaluate_model"] = {"model_dir": root / model}
    for mode in ("evaluation_only", "evaluate_2d_model"):
        real = MasterController({"output_dir": root / "out"}, flags=sections)
        with pytest.raises(SettingsError, match="another --output_dir, and the model's as --model_dir") as caught:
            real.run(mode)
        assert caught.value.exit_code == 2
    assert not (root / "out").exists()


def test_what_was_finished_before_a_failure_is_summarised(root: Path) -> None:
    def no_model(out: Any, settings: Any) -> Any:
        raise PipelineError("nothing fits")
        yield

    report = controller(root, steps=changed_step(5, plan=no_model)).run("full")
    assert report.exit_code == 1
    assert report.summaries == [("", [("cells", "3")])]


def test_modes_and_steps_fit_together() -> None:
    for name, mode in MODES.items():
        numbers = (*mode.camera_steps, *mode.frame_steps, *mode.steps)
        assert list(numbers) == sorted(set(numbers)), name
        assert set(numbers) <= {number_of(module) for module in STEP_MODULES}
        assert set(mode.prunes) <= {*numbers, *mode.checks}
        assert bool(numbers) != bool(mode.question), name
        if mode.question:
            module, _, function = mode.question.rpartition(".")
            assert callable(getattr(importlib.import_module(module), function))
    numbers_of_steps = [number_of(module) for module in STEP_MODULES]
    assert numbers_of_steps == sorted(set(numbers_of_steps))


@pytest.mark.parametrize("file", ["master_controller.py", "run_pipeline.py"])
def test_the_top_files_stay_thin(file: str) -> None:
    tree = ast.parse((PROJECT / file).read_text())
    assert len((PROJECT / file).read_text().splitlines()) < 400
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & {"numpy", "scipy", "astropy", "numba", "matplotlib"}
        if isinstance(node, ast.Compare):
            words = {word.value for word in ast.walk(node) if isinstance(word, ast.Constant)}
            assert not words & set(MODES), f"line {node.lineno} decides by the name of a mode"
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, node.name
