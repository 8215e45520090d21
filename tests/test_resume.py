"""What a second run does: nothing, or exactly what hangs on what changed. Job lists are asserted literally."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import (
    CELL_NAMES,
    PICTURES,
    Campaign,
    call,
    differing,
    flags,
    header,
    labels,
    products,
    run,
    run_well,
    steps_run,
    table,
)

MODELS = ("exp_2d", "two_component")
INDEX = "index of frames"
BIAS_TABLE, REFERENCE, LEVELS = "table of bias frames", "read noise, gain, scale factor", "level of each dark"
FIT = [
    "search for amplifier glow",
    *(f"population of {m}" for m in MODELS),
    *(f"fit {m} rows 0-47" for m in MODELS),
    *(f"maps of {m}" for m in MODELS),
    "model.yaml",
    *(f"activation energy of {m}" for m in MODELS),
    "summary of the sensor",
    "frames of the model",
]
DARKS = [f"synthetic dark {name}" for name in CELL_NAMES]


def evaluations(cells: list[str]) -> list[str]:
    return [f"evaluate {name}" for name in cells]


def again(campaign: Campaign, **sections: Any) -> list[str]:
    """Labels of the jobs of one more full run."""
    return labels(run_well(campaign, **sections))


def test_an_unchanged_run_runs_no_job(work: Campaign) -> None:
    before = {p: p.stat().st_mtime_ns for p in work.out.rglob("*") if p.is_file()}
    report = run_well(work)
    assert report.jobs == []
    assert report.up_to_date
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_an_unchanged_run_as_cron_does_it(work: Campaign) -> None:
    before = products(work.out)
    done = call(*flags(work, "full", "--quiet"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert products(work.out) == before


def test_one_new_frame_remakes_its_cell_and_what_hangs_on_it(work: Campaign) -> None:
    before = products(work.out)
    frame = work.add_frame(-5.0, 100.0)
    made = again(work)
    # the tables of step 2 are looked at and found to be the same, so the masters of all other cells hold
    assert made == [
        frame.name, INDEX, BIAS_TABLE, REFERENCE, LEVELS,
        "cells of darks", "master dark T-5.0C_texp100s",
        "levels of saturation", "mask of special pixels",
        *FIT, *DARKS, *evaluations(CELL_NAMES), "candidates.ecsv", "evaluation.ecsv", "evaluation_summary.png",
        "lists of bad pixels",
    ]  # fmt: skip
    changed = differing(products(work.out), before)
    masters = [name for name in changed if name.startswith(("dark_masks_by_temp", "bias/", "reference"))]
    assert masters == ["dark_masks_by_temp/darks_T-5.0C_texp100s.fits"]
    assert header(work.out / masters[0])["NCOMBINE"] == 5
    assert again(work) == []


def test_a_frame_that_goes_again_leaves_no_trace(work: Campaign) -> None:
    before = products(work.out)
    frame = work.add_frame(-5.0, 100.0)
    again(work)
    frame.unlink()
    again(work)
    assert differing(products(work.out), before) == []


def test_a_new_frame_in_a_new_cell_adds_it(work: Campaign) -> None:
    work.add_frame(-5.0, 200.0)
    made = again(work)
    assert [label for label in made if label.startswith("master")] == ["master dark T-5.0C_texp200s"]
    assert (work.out / "synthetic" / "synthetic_dark_T-5.0C_texp200s.fits").is_file()
    assert len(table(work.out / "groups.ecsv")) == 10


def test_a_rejected_frame_changes_the_index_alone(work: Campaign) -> None:
    before = products(work.out)
    (work.raw / "notes.fits").write_text("not an image")
    assert again(work) == ["notes.fits", INDEX, BIAS_TABLE, REFERENCE, LEVELS, "cells of darks"]
    changed = [name for name in differing(products(work.out), before) if not name.startswith("survey/")]
    assert changed == ["index.ecsv"]


def test_a_removed_cell_takes_its_products_along(finished: Campaign, tmp_path: Path) -> None:
    work = finished.copied_to(tmp_path / "work")
    gone = "T-5.0C_texp100s"
    before = products(work.out)
    for path in work.frames_of(-5.0, 100.0):
        path.unlink()
    report = run_well(work, evaluate_model=PICTURES)
    after = products(work.out)
    assert not [name for name in after if gone in name]
    vanished = {name for name in before if name not in after}
    assert {name for name in vanished if not name.startswith("survey/")} == {
        f"dark_masks_by_temp/darks_{gone}.fits",
        f"synthetic/synthetic_dark_{gone}.fits",
        *(f"evaluation/cells/{gone}.{kind}" for kind in ("json", "npz")),
        *(f"evaluation/{kind}_{gone}.png" for kind in ("mae", "mape", "synthetic_dark")),
    }
    assert len([name for name in vanished if name.startswith("survey/")]) == 4
    assert set(report.removed) == vanished
    assert not [label for label in labels(report) if label.startswith("master")]
    assert gone not in set(table(work.out / "evaluation" / "evaluation.ecsv")["cell"])
    assert again(work, evaluate_model=PICTURES) == []


CHANGES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "kappa of darks": ({"group_darks": {"kappa": 4.0}}, [f"master dark {name}" for name in CELL_NAMES]),
    "hot threshold": ({"mask_hotpixels": {"hot_sigma": 7.0}}, ["mask of special pixels"]),
    "model": ({"fit_dark_model": {"model": "exp_2d"}}, ["model.yaml"]),
    "darks of another model": ({"generate_synthetic_darks": {"model": "exp_2d"}}, DARKS),
    "form of darks": ({"generate_synthetic_darks": {"include_bias": True}}, DARKS),
    "pictures": ({"evaluate_model": PICTURES}, evaluations(CELL_NAMES)),
    "more workers": ({"workers": 1}, []),
    "level of the log": ({"log_level": "DEBUG"}, []),
}


@pytest.mark.parametrize(("settings", "first"), CHANGES.values(), ids=CHANGES)
def test_a_changed_setting_runs_its_step_first(work: Campaign, settings: dict[str, Any], first: list[str]) -> None:
    made = again(work, **settings)
    assert made[: len(first)] == first
    if not first:
        assert made == []
    assert again(work, **settings) == []


def test_a_changed_setting_stops_where_nothing_changes(work: Campaign) -> None:
    """Darks of another model: neither masters nor fit nor evaluation have anything to do with it."""
    report = run_well(work, generate_synthetic_darks={"model": "exp_2d"})
    assert steps_run(report) == ["generate_synthetic_darks"]
    report = run_well(work, generate_synthetic_darks={"model": "exp_2d"}, evaluate_model={"model": "exp_2d"})
    assert steps_run(report) == ["evaluate_model"]


def test_a_new_hot_threshold_reaches_fit_and_evaluation_but_no_master(work: Campaign) -> None:
    made = again(work, mask_hotpixels={"hot_sigma": 7.0})
    # the tiles are fitted again and give the same maps; the sensor's summary, darks and errors go by the mask
    left = [*DARKS, *evaluations(CELL_NAMES), "lists of bad pixels"]
    assert made == ["mask of special pixels", *FIT[:5], *FIT[-2:], *left]


EDITED = {
    "index.ecsv": INDEX,
    "reference.yaml": REFERENCE,
    "bias/master_bias_T-5.0C.fits": "master bias T-5.0C",
    "dark_masks_by_temp/darks_T0.0C_texp300s.fits": "master dark T0.0C_texp300s",
    "dark_model/hot_pixel_mask.fits": "mask of special pixels",
    "dark_model/dark_gamma_map.fits": "maps of exp_2d",
    "dark_model/model.yaml": "model.yaml",
    "synthetic/synthetic_dark_T0.0C_texp30s.fits": "synthetic dark T0.0C_texp30s",
    "evaluation/cells/T0.0C_texp30s.json": "evaluate T0.0C_texp30s",
}


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55
    path.write_bytes(content)


def keep_time(path: Path) -> None:
    """A change that keeps the size but not the time."""
    spoil(path)
    os.utime(path, (1e9, 1e9))


@pytest.mark.parametrize("how", [spoil, Path.unlink, keep_time], ids=["edited", "removed", "old time"])
def test_products_edited_by_hand_are_remade(work: Campaign, how: Callable[[Path], None]) -> None:
    before = products(work.out)
    for name in EDITED:
        how(work.out / name)
    made = again(work)
    assert sorted(made) == sorted(EDITED.values())
    assert differing(products(work.out), before) == []


def test_frames_and_products_moved_together_are_up_to_date(work: Campaign, tmp_path: Path) -> None:
    moved = work._replace(root=tmp_path / "elsewhere" / "deeper")
    moved.root.parent.mkdir()
    shutil.move(work.root, moved.root)
    assert again(moved) == []


def test_copies_without_their_times_are_up_to_date(plain: Campaign, tmp_path: Path) -> None:
    """Content decides, not time: a copy on another disk, an unpacked archive."""
    copied = plain._replace(root=tmp_path / "copied")
    shutil.copytree(plain.root, copied.root, copy_function=shutil.copyfile)
    assert again(copied) == []


def test_frames_elsewhere_alone_are_new_frames(work: Campaign) -> None:
    moved = work.root / "moved"
    work.raw.rename(moved)
    report = run(work, load_data={"basepath": moved})
    assert report.exit_code == 0
    before = products(work.out)
    assert [c.removed for c in report.counts if c.step == "load_data"] == [0]
    assert run(work, load_data={"basepath": moved}).jobs == []
    assert products(work.out) == before


def test_a_frame_changed_in_place_is_seen(work: Campaign) -> None:
    frame = work.frames_of(-5.0, 100.0)[2]
    other = work.add_frame(-5.0, 100.0, 77)
    other.replace(frame)
    made = again(work)
    assert made[0] == frame.name
    assert [label for label in made if label.startswith("master")] == ["master dark T-5.0C_texp100s"]


def test_touching_a_frame_runs_nothing(work: Campaign) -> None:
    for path in work.raw.glob("*.fits"):
        os.utime(path)
    assert again(work) == []


def test_a_draft_of_a_dead_run_is_swept_away(work: Campaign) -> None:
    draft = work.out / "synthetic" / ".synthetic_dark_T0.0C_texp30s.fits.999-1.draft"
    draft.write_bytes(b"half a file")
    assert again(work) == []
    assert not draft.exists()


def test_a_torn_line_of_the_journal_costs_one_job_at_most(work: Campaign) -> None:
    before = products(work.out)
    journal = work.out / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])
    made = again(work)
    assert len(made) <= 1
    assert products(work.out) == before


def test_without_its_journal_everything_is_made_again_to_the_same_bytes(work: Campaign) -> None:
    before = products(work.out)
    (work.out / "journal.jsonl").unlink()
    report = run_well(work)
    assert {job.reason for job in report.jobs} == {"never made"}
    assert differing(products(work.out), before) == []
