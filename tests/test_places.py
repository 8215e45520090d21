"""Nothing is written, or removed, outside of the places that the user named; folders of others are not trusted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import toy_steps
import yaml
from helpers import CELLS, Campaign, run, run_well

from darkpipe.errors import PipelineError, ProductError
from darkpipe.files.atomic import replace_text
from darkpipe.jobs.contract import Digests, Job
from darkpipe.settings import output_places
from hardware import connect
from hardware.connect import CameraLock
from hardware.errors import CameraError
from master_controller import MasterController

UNIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners of folders are those of Unix")


def write(inputs: object, outputs: tuple[Path, ...]) -> Digests:
    return {path: replace_text(path, "x") for path in outputs}


@pytest.mark.parametrize("name", ["../elsewhere", "a/../../elsewhere", "/tmp/darkpipe-elsewhere"])
def test_a_product_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    def plan(out: toy_steps.ToyPlace, settings: object) -> Iterator[list[Job]]:
        yield [Job(write, (), (out.root / name,), {}, label="elsewhere")]

    toy_steps.write_frames(tmp_path / "raw", "A-10-1")
    controller = toy_steps.controller(tmp_path, steps=toy_steps.changed_step(2, plan=plan))
    report = controller.run("full")
    assert [type(failure.error) for failure in report.failures] == [ProductError]
    assert "outside of the places" in str(report.failures[0].error)
    assert not (tmp_path / "elsewhere").exists()
    assert not Path("/tmp/darkpipe-elsewhere").exists()


def test_places_are_those_that_the_user_named(tmp_path: Path) -> None:
    given = {
        "output_dir": tmp_path / "out",
        "dark_capture": {"output_dir": tmp_path / "raw"},
        "calibrate": {"output": tmp_path / "one.fits", "model_dir": tmp_path / "model"},
    }
    places = set(output_places(MasterController(given).settings()))
    assert places == {tmp_path / "out", tmp_path / "raw", tmp_path / "one.fits"}


@pytest.mark.parametrize(
    ("name", "value"),
    [("cell", "../../../elsewhere"), ("name", "../exp_2d"), ("name", "nothing"), ("cell", 7), ("cell", ".hidden")],
)
def test_a_model_of_somebody_else_names_no_path(work: Campaign, name: str, value: object) -> None:
    path = work.model / "model.yaml"
    data = yaml.safe_load(path.read_text())
    data["models"][0][name] = value
    path.write_text(yaml.safe_dump(data))
    report = run(work, "synthetic_2d", generate_synthetic_darks={"model_dir": work.model})
    assert "is no name of a model, a cell or a configuration" in str(report.failures[0].error)


def test_a_configuration_of_somebody_else_names_no_path(work: Campaign) -> None:
    path = work.model / "model.yaml"
    data = yaml.safe_load(path.read_text())
    data["configuration"] = "cam_g../../../../elsewhere_48x40"
    path.write_text(yaml.safe_dump(data))
    report = run(work, "export_library", export_library={"model_dir": work.model})
    assert "is no name of a model, a cell or a configuration" in str(report.failures[0].error)


def test_an_index_of_somebody_else_names_no_folder(work: Campaign) -> None:
    index = work.out / "index.ecsv"
    lines = index.read_text().splitlines()
    head = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    column = lines[head].split().index("campaign")
    assert column
    from darkpipe.files.tables import read_table, write_table

    table = read_table(index)
    table["campaign"] = ["../../elsewhere"] * len(table)
    write_table(index, table)
    report = run(work, "full", chosen={"from_step": 2})
    assert "cannot be the name of a configuration" in str(report.failures[0].error)


@UNIX
def test_a_link_where_a_product_goes_is_replaced_and_not_followed(work: Campaign, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("of somebody")
    master = next((work.out / "dark_masks_by_temp").glob("*.fits"))
    content = master.read_bytes()
    master.unlink()
    master.symlink_to(victim)
    (work.out / "journal.jsonl").rename(work.out / "before")
    (work.out / "before").unlink()
    run_well(work)
    assert victim.read_text() == "of somebody"
    assert not master.is_symlink()
    assert len(master.read_bytes()) == len(content)


@UNIX
def test_links_between_raw_frames_go_round_once(work: Campaign) -> None:
    (work.raw / "again").symlink_to(work.raw, target_is_directory=True)
    (work.raw / "frame_link.fits").symlink_to(work.frames_of(*CELLS[0])[0])
    (work.raw / "nowhere.fits").symlink_to(work.root / "nothing.fits")
    before = sorted(path.name for path in work.raw.iterdir())
    run_well(work)
    assert sorted(path.name for path in work.raw.iterdir()) == before


@UNIX
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "lock_folder", lambda: tmp_path / "locks")
    (tmp_path / "locks").mkdir()
    os.chown(tmp_path / "locks", 12345, -1)
    with pytest.raises(CameraError, match="its folder belongs to somebody else"):
        CameraLock("h:1", 0).acquire()


@UNIX
def test_a_link_in_place_of_the_folder_for_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_somebody").mkdir()
    (tmp_path / "locks").symlink_to(tmp_path / "of_somebody")
    monkeypatch.setattr(connect, "lock_folder", lambda: tmp_path / "locks")
    with pytest.raises(CameraError, match="its folder belongs to somebody else"):
        CameraLock("h:1", 0).acquire()
    assert list((tmp_path / "of_somebody").iterdir()) == []


@UNIX
def test_a_folder_whose_name_is_no_text(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    toy_steps.write_frames(tmp_path / "raw", "A-10-1")
    controller = toy_steps.controller(tmp_path, output_dir=odd)
    with pytest.raises(PipelineError, match="no text in UTF-8"):
        controller.run("full")
    assert not odd.exists()
    from darkpipe.files.frames import find_frames

    odd.mkdir()
    with pytest.raises(PipelineError, match="no text in UTF-8"):
        find_frames(odd)


def test_names_of_products_print(tmp_path: Path) -> None:
    from darkpipe.files.corrections import corrected_names

    names = corrected_names(["a/b.fits", "../c\x1b[31m.fits", "../c\u202e[31m.fits", "d.fits", "D.fits"])
    assert names["a/b.fits"] == "a__b"
    assert len(set(names.values())) == 5
    assert all(name.isprintable() and os.sep not in name for name in names.values())
