"""`full` over months: new frames are held against the model before it is fitted again with them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from typing import Any

import pytest
import yaml
from aged_sensor import LATER, Ageing, aged, write_later
from astropy.io import fits
from astropy.table import Table
from helpers import Campaign, call, command, environment, flags, labels, of_check, products, run, run_well, table

from darkpipe.jobs.report import RunReport

TEMPERATURES_C, EXPOSURES_S = (-10.0, 0.0), (100.0, 300.0)
FITTED = {"until_step": 5}
CHECK_STEPS = ["new_frames", "subtract_bias", "group_darks", "check_model"]


def add_later(work: Campaign, change: Ageing | None = None, **counts: Any) -> None:
    """New frames of the sensor after it has changed, beside the old ones."""
    sensor = aged(work.sensor, change or Ageing()).sensor
    write_later(work.raw, sensor, TEMPERATURES_C, EXPOSURES_S, **{"darks": 3, "biases": 4, **counts})


def steps_of_check(report: RunReport) -> list[str]:
    return list(dict.fromkeys(job.step for job in report.jobs if of_check(job)))


def checks(work: Campaign) -> Table:
    return table(work.model / "history" / "checks.ecsv")


def verdict(work: Campaign) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((work.out / "new_frames" / "check" / "verdict.yaml").read_text())
    return found


def told(report: RunReport) -> list[str]:
    return [text for name, text in report.summaries[-1][1] if name == "last check"]


def test_a_first_run_has_nothing_to_check(work: Campaign) -> None:
    assert not (work.out / "new_frames").exists()
    assert not (work.model / "history").exists()
    assert len(table(work.model / "frames.ecsv")) == len(list(work.raw.glob("*.fits")))


def test_frames_of_the_unchanged_sensor_find_the_model_current(work: Campaign) -> None:
    old = len(table(work.model / "frames.ecsv"))
    add_later(work)
    report = run_well(work, chosen=FITTED)
    assert steps_of_check(report) == CHECK_STEPS
    assert (report.exit_code, report.findings, report.notes) == (0, [], [])
    found = verdict(work)
    assert found["verdict"] == "current"
    assert len(found["cells"]) == len(TEMPERATURES_C) * len(EXPOSURES_S)
    (row,) = checks(work)
    assert (row["verdict"], row["darks"], row["biases"], row["model_frames"]) == ("current", 12, 8, old)
    assert abs(row["rate_ratio"] - 1) < 4 * row["rate_ratio_error"] < 0.2
    assert abs(row["pedestal_adu"]) < 4 * row["pedestal_adu_error"]
    (line,) = told(report)
    assert "12 new darks and 8 biases" in line
    assert "current" in line
    # masters of the new frames alone
    masters = sorted(p.name for p in (work.out / "new_frames" / "dark_masks_by_temp").iterdir())
    assert masters == [f"darks_T{t}C_texp{e:g}s.fits" for t in ("-10.0", "0.0") for e in EXPOSURES_S]
    assert set(table(work.out / "new_frames" / "check" / "check_model.ecsv")["n_frames"]) == {3}
    again = run_well(work, chosen=FITTED)
    assert again.up_to_date
    assert told(again) == [line]


def test_frames_of_an_aged_sensor_are_news_and_no_failure(work: Campaign) -> None:
    model = (work.model / "model.yaml").read_bytes()
    add_later(work, Ageing(growth=1.2, new_hot=0.01, pedestal_adu=-30.0))
    report = run_well(work, chosen=FITTED)
    assert (report.exit_code, report.findings) == (0, [])
    (note,) = report.notes
    assert "before the model is fitted again: the model is stale" in note
    (row,) = checks(work)
    assert row["verdict"] == "stale"
    assert row["bulk_ratio"] == pytest.approx(1.2, abs=4 * row["bulk_ratio_error"])
    assert row["hot_ratio"] == pytest.approx(1.2, abs=4 * row["hot_ratio_error"])
    assert row["pedestal_adu"] == pytest.approx(-30.0, abs=4 * row["pedestal_adu_error"])
    assert row["new_hot"] > 10
    (archived,) = [p for p in (work.model / "history").iterdir() if p.is_dir()]
    assert archived.name.endswith(f"_{row['model']}")  # the model that was judged is the one that was kept
    assert (archived / "model.yaml").read_bytes() == model
    assert (work.model / "model.yaml").read_bytes() != model  # and it was fitted again
    again = run_well(work, chosen=FITTED)
    assert again.up_to_date
    assert again.notes == []  # said once
    assert "stale" in told(again)[0]


def test_every_check_has_a_row(work: Campaign) -> None:
    add_later(work, Ageing(growth=1.2), biases=0)
    run_well(work, chosen=FITTED)
    add_later(work, Ageing(growth=1.5), biases=0, first=LATER + 50)
    run_well(work, chosen=FITTED)
    rows = checks(work)
    assert list(rows["verdict"]) == ["stale", "stale"]
    assert rows["model"][0] != rows["model"][1]
    assert list(rows["darks"]) == [12, 12]


def test_what_brings_no_new_frame_is_not_checked(work: Campaign) -> None:
    for change in (
        lambda: work.frames_of(-5.0, 100.0)[0].unlink(),
        lambda: work.frames_of(-5.0, 300.0)[0].rename(work.raw / "renamed.fits"),
        lambda: (work.raw / "notes.fits").write_text("not an image"),
    ):
        change()
        assert steps_of_check(run_well(work, chosen=FITTED)) == []
    report = run_well(work, chosen=FITTED, group_darks={"kappa": 4.0})
    assert "model.yaml" in labels(report)
    assert steps_of_check(report) == []
    assert not (work.out / "new_frames").exists()


def test_it_can_be_switched_off(work: Campaign) -> None:
    add_later(work, Ageing(growth=1.5))
    report = run_well(work, chosen=FITTED, new_frames={"check": False})
    assert steps_of_check(report) == []
    assert report.notes == []
    assert "model.yaml" in labels(report)


def test_frames_that_cannot_be_held_against_the_model_stop_nothing(work: Campaign) -> None:
    write_later(work.raw, work.sensor, (10.0,), (300.0,), darks=2, biases=0)
    report = run_well(work, chosen=FITTED)
    assert "T10.0C_texp300s" in set(table(work.out / "groups.ecsv")["cell"])
    (note,) = report.notes
    assert "range of the model" in note
    write_later(work.raw, work.sensor, (0.0,), (1.0,), darks=0, biases=2, first=LATER + 9)
    report = run_well(work, chosen=FITTED)
    (note,) = report.notes
    assert "no darks" in note


def test_one_dark_is_enough_to_look(work: Campaign) -> None:
    work.add_frame(0.0, 300.0)
    report = run_well(work, chosen=FITTED)
    assert report.notes == []
    assert verdict(work)["verdict"] == "current"


def test_a_dry_run_checks_nothing(work: Campaign) -> None:
    add_later(work)
    before = products(work.out)
    assert run(work, chosen={"dry_run": True}).jobs
    assert products(work.out) == before
    assert not (work.out / "new_frames").exists()


def test_several_configurations_are_checked_apart(work: Campaign) -> None:
    gains = {"100": Ageing(), "200": Ageing(growth=1.3)}

    def of_gain(gain: str, change: Ageing, first: int) -> None:
        folder = work.raw / f"gain{gain}_{first}"
        write_later(
            folder, aged(work.sensor, change).sensor, TEMPERATURES_C, EXPOSURES_S, darks=3, biases=4, first=first
        )
        for path in folder.glob("*.fits"):
            fits.setval(path, "GAIN", value=float(gain))

    for n, gain in enumerate(gains):
        of_gain(gain, Ageing(), LATER + 50 * n)
    assert steps_of_check(run_well(work, chosen=FITTED)) == []
    for n, (gain, change) in enumerate(gains.items()):
        of_gain(gain, change, LATER + 500 + 50 * n)
    report = run_well(work, chosen=FITTED)
    (note,) = report.notes
    assert "g200" in note
    folders = sorted(p.parent for p in work.out.glob("*/new_frames"))
    assert [yaml.safe_load((f / "new_frames/check/verdict.yaml").read_text())["verdict"] for f in folders] == [
        "current", "stale",
    ]  # fmt: skip
    assert run_well(work, chosen=FITTED).up_to_date


# runs that die
def start(work: Campaign) -> subprocess.Popen[str]:
    line = command(*flags(work, "full", "--until_step", "5", "--quiet"))
    return subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_when(work: Campaign, reached: Any) -> str:
    with start(work) as process:
        end = time.monotonic() + 100
        while not reached() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, said
    return said


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("moment", ["masters", "check", "mask", "fit", "description"])
def test_a_run_that_dies_says_the_same_when_it_goes_on(work: Campaign, moment: str) -> None:
    """Wherever it dies: the check is of the old model, never of one that is half replaced."""
    straight = work.copied_to(work.root.parent / "straight")
    for campaign in (work, straight):
        add_later(campaign, Ageing(growth=1.2))
    run_well(straight, chosen=FITTED)
    old = {p: p.stat().st_ino for p in work.model.rglob("*") if p.is_file()}

    def replaced(name: str) -> bool:
        path = work.model / name
        return path.is_file() and path.stat().st_ino != old[path]

    reached = {
        "masters": lambda: (work.out / "new_frames" / "dark_masks_by_temp").exists(),
        "check": lambda: (work.model / "history" / "checks.ecsv").exists(),
        "mask": lambda: replaced("hot_pixel_mask.fits"),
        "fit": lambda: replaced("dark_A_map.fits"),
        "description": lambda: replaced("model.yaml"),
    }[moment]
    kill_when(work, reached)
    report = run_well(work, chosen=FITTED)
    assert list(map(str, checks(work))) == list(map(str, checks(straight)))
    assert products(work.out) == products(straight.out)
    assert "stale" in told(report)[0]
    assert run_well(work, chosen=FITTED).up_to_date


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_frames_that_come_while_a_model_is_half_replaced_are_not_held_against_it(work: Campaign) -> None:
    add_later(work, Ageing(growth=1.2))
    inode = (work.model / "dark_A_map.fits").stat().st_ino
    kill_when(work, lambda: (work.model / "dark_A_map.fits").stat().st_ino != inode)
    before = list(map(str, checks(work)))
    add_later(work, Ageing(growth=1.2), first=LATER + 50)
    report = run_well(work, chosen=FITTED)
    assert steps_of_check(report) == []
    assert list(map(str, checks(work))) == before
    assert run_well(work, chosen=FITTED).up_to_date


def test_cron_gets_a_line_and_code_0(work: Campaign) -> None:
    add_later(work, Ageing(growth=1.2))
    done = call(*flags(work, "full", "--quiet"))
    assert done.returncode == 0
    assert "the model is stale" in done.stderr
    done = call(*flags(work, "full", "--quiet"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    shutil.rmtree(work.out / "new_frames")  # it may be deleted
    assert run_well(work).up_to_date
