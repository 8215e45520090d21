"""A model that a refit replaces is kept, as a model that works; one that is not replaced leaves nothing behind."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from aged_sensor import Ageing, aged, write_later
from helpers import CAMPAIGN, Campaign, products, run, run_well

from darkpipe.errors import ProductError
from darkpipe.files import history
from darkpipe.files.atomic import replace_text
from darkpipe.files.history import keeping_replaced, last_change
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import read_description, read_maps

FITTED = {"until_step": 5}


def test_nothing_is_kept_of_a_model_that_stays(work: Campaign) -> None:
    run_well(work, chosen={"force": 5, **FITTED})
    assert not (work.model / "history").exists()
    assert last_change(ModelDir(work.model)) is None


def test_a_replaced_model_is_kept_and_works(work: Campaign) -> None:
    folder = ModelDir(work.model)
    before = read_maps(folder, read_description(folder.description).find("two_component"))
    signal = before.synthesize(-5.0, 100.0)[0]
    old = products(work.model)
    grown = aged(work.sensor, Ageing(growth=1.1, new_hot=0.02)).sensor
    for path in work.raw.glob("*.fits"):
        path.unlink()
    write_later(work.raw, grown, CAMPAIGN.temperatures_c, CAMPAIGN.exposures_s, darks=4, biases=8)
    report = run_well(work, chosen=FITTED)
    (place,) = folder.archived()
    assert place.name.startswith("0001_")
    kept = products(place)
    assert {name for name in kept if name != "changes.yaml"} <= set(old)
    assert all(kept[name] == old[name] for name in kept if name != "changes.yaml")
    archive = ModelDir.at(place)
    maps = read_maps(archive, read_description(archive.description).find("two_component"))
    np.testing.assert_array_equal(maps.synthesize(-5.0, 100.0)[0], signal)
    change = last_change(folder)
    assert change is not None
    assert change.chosen_before == "two_component"
    assert change.bulk_ratio == pytest.approx(1.1, abs=0.02)
    assert change.hot_ratio == pytest.approx(1.1, abs=0.02)
    assert change.hot - change.hot_before > 20
    told = [text for name, text in report.summaries[-1][1] if name == "since the last model"]
    assert told == [change.describe()]
    run_well(work, chosen=FITTED)
    assert folder.archived() == [place]  # nothing was done, nothing more is kept


def test_a_second_refit_is_kept_after_the_first(work: Campaign) -> None:
    for repeat, exposure in ((90, 300.0), (91, 100.0)):
        work.add_frame(0.0, exposure, repeat)
        run_well(work, chosen=FITTED)
    assert [p.name[:5] for p in ModelDir(work.model).archived()] == ["0001_", "0002_"]


def test_a_dry_run_keeps_nothing(work: Campaign, tmp_path: Path) -> None:
    work.add_frame(0.0, 300.0)
    run(work, chosen={"dry_run": True})
    assert not (work.model / "history").exists()


def refuse(*given: object, **more: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def archived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ModelDir, Path]:
    """A folder with one file of a model, and where that goes when it is replaced."""
    folder = ModelDir(tmp_path / "dark_model")
    path = folder.path / "map.fits"
    replace_text(path, "old")
    monkeypatch.setattr(history, "_place_of", lambda *model: folder.archive(1, "abc"))
    return folder, path


@pytest.mark.parametrize("what", ["mkdir", "link"])
def test_a_disk_that_cannot_keep_the_old_model_is_said(
    archived: tuple[ModelDir, Path], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Neither half a copy stays nor the new model in the place of the old one."""
    folder, path = archived
    monkeypatch.setattr(os, what, refuse)
    monkeypatch.setattr(shutil, "copyfileobj", refuse)
    with pytest.raises(ProductError, match="No space left"), keeping_replaced(folder, "m", "", [path]):
        pytest.fail("replaced all the same")
    assert path.read_text() == "old"
    assert [p.name for p in folder.path.rglob("*") if p.is_file()] == ["map.fits"]


@pytest.mark.parametrize("links", [True, False])
def test_what_is_replaced_is_kept_and_what_stays_is_not(
    archived: tuple[ModelDir, Path], monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    folder, path = archived
    if not links:
        monkeypatch.setattr(os, "link", refuse)
    with keeping_replaced(folder, "m", "", [path]):
        replace_text(path, "old")
    assert not (folder.path / "history").exists()
    with keeping_replaced(folder, "m", "", [path]):
        replace_text(path, "new")
    assert (folder.archive(1, "abc") / "map.fits").read_text() == "old"
