"""Many detectors as one run: what each gets is what a run of it alone would make."""

from __future__ import annotations

import dataclasses
import os
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import simulated
from astropy.io import fits
from helpers import CAMPAIGN, PLAIN, call, differing, planes, products, table, write_yaml

from darkpipe.errors import SettingsError
from darkpipe.jobs import stamps
from darkpipe.jobs.lock import hold
from darkpipe.jobs.report import RunReport
from master_controller import MasterController
from run_pipeline import main

RECIPE = dataclasses.replace(CAMPAIGN, rows=32, cols=24, n_darks=3, n_biases=4)
NAMES = ("CCD1", "NORTH-3")
UNTIL = 5  # what comes after the fit costs time here and tells no more


class Plane(NamedTuple):
    """A focal plane in `folders` (one a detector) and in `files` (an image a detector)."""

    root: Path

    @property
    def folders(self) -> Path:
        return self.root / "folders"

    @property
    def files(self) -> Path:
        return self.root / "files"


def settings(output: Path, frames: Path, **sections: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"output_dir": output, "workers": 2, "load_data": {"basepath": frames}, **PLAIN}
    for name, section in sections.items():
        given[name] = {**given[name], **section} if isinstance(given.get(name), dict) else section
    return given


def run(output: Path, frames: Path, by: str | None, mode: str = "full", *, dry: bool = False, **more: Any) -> RunReport:
    detectors = {"detectors": {"by": by}} if by else {}
    until = UNTIL if mode == "full" else None
    return MasterController(settings(output, frames, **detectors, **more)).run(mode, until_step=until, dry_run=dry)


def made_in(folder: Path) -> dict[str, bytes]:
    """Products of a detector, or of all."""
    found = products(folder)
    return {name: found[name] for name in found if Path(name).name not in ("journal.jsonl", ".pipeline.lock")}


def together(frames: list[Path], target: Path) -> None:
    """One file of many images: what they have in common in the primary header, the rest with each."""
    target.parent.mkdir(parents=True, exist_ok=True)
    units: list[Any] = [fits.PrimaryHDU()]
    for name, path in zip(NAMES, frames, strict=True):
        with fits.open(path) as hdus:
            image = fits.ImageHDU(hdus[0].data, hdus[0].header, name=name)
        for key in ("EXPTIME", "IMAGETYP", "INSTRUME", "DATE-OBS"):
            units[0].header[key] = image.header.pop(key)
        units.append(image)
    units.insert(2, fits.BinTableHDU.from_columns([fits.Column("X", "J", array=[1])], name="TELEMETRY"))
    fits.HDUList(units).writeto(target)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Plane:
    made = Plane(tmp_path_factory.mktemp("plane"))
    for number, name in enumerate(NAMES):
        simulated.write_campaign(made.folders / name, RECIPE, seed=100 + number)
    for path in sorted((made.folders / NAMES[0]).glob("*.fits")):
        together([made.folders / name / path.name for name in NAMES], made.files / path.name)
    return made


@pytest.fixture(scope="module")
def by_folders(plane: Plane) -> Path:
    report = run(plane.root / "out", plane.folders, "folders")
    assert report.exit_code == 0
    assert [name for name, _ in report.parts] == sorted(NAMES)
    return plane.root / "out"


@pytest.fixture(scope="module")
def by_images(plane: Plane) -> Path:
    report = run(plane.root / "imaged", plane.files, "hdus")
    assert report.exit_code == 0
    assert [name for name, _ in report.parts] == list(NAMES)
    return plane.root / "imaged"


@pytest.fixture
def work(plane: Plane, by_folders: Path, tmp_path: Path) -> Plane:
    """A copy that a test may change, with the products of its folders; nothing in it is stale."""
    shutil.copytree(plane.folders, tmp_path / "folders")
    shutil.copytree(by_folders, tmp_path / "out")
    return Plane(tmp_path)


def test_each_folder_gets_what_a_run_of_it_alone_makes(plane: Plane, by_folders: Path, tmp_path: Path) -> None:
    shutil.copytree(plane.folders, tmp_path / "folders")
    for name in NAMES:
        alone = run(tmp_path / "out" / name, tmp_path / "folders" / name, None)
        assert alone.exit_code == 0
        made = made_in(by_folders / name)
        assert len(made) > 40
        assert differing(made, made_in(tmp_path / "out" / name)) == []
    assert differing(made_in(by_folders / NAMES[0]), made_in(by_folders / NAMES[1])) != []


def test_each_image_gets_what_a_run_of_it_alone_makes(plane: Plane, by_images: Path, tmp_path: Path) -> None:
    shutil.copytree(plane.files, tmp_path / "files")
    name = NAMES[1]
    alone = run(tmp_path / "imaged" / name, tmp_path / "files", None, load_data={"detector": name})
    assert alone.exit_code == 0
    assert differing(made_in(by_images / name), made_in(tmp_path / "imaged" / name)) == []


def test_images_of_common_files_give_the_maps_of_single_frames(by_folders: Path, by_images: Path) -> None:
    for name in NAMES:
        for product in ("dark_model/dark_A_map.fits", "dark_model/dark_gamma_map.fits"):
            one, other = planes(by_folders / name / product), planes(by_images / name / product)
            assert one.keys() == other.keys()
            for key in one:
                np.testing.assert_array_equal(one[key], other[key])
    accepted = table(by_images / NAMES[1] / "index.ecsv")
    assert set(accepted["status"]) == {"accepted"}
    assert set(accepted["hdu"]) == {3}  # behind the table of telemetry
    assert list(table(by_images / "detectors.ecsv")["name"]) == list(NAMES)


def test_a_detector_can_be_gone_on_with_alone(plane: Plane, by_folders: Path, by_images: Path) -> None:
    assert run(by_folders / NAMES[0], plane.folders / NAMES[0], None, dry=True).up_to_date
    assert run(by_images / NAMES[1], plane.files, None, dry=True, load_data={"detector": NAMES[1]}).up_to_date


def test_a_second_run_makes_nothing_and_reads_no_common_file(
    plane: Plane, by_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(by_images, plane.files, "hdus").up_to_date
    files = sorted(plane.files.glob("*.fits"))
    before = [path.stat() for path in files]
    read: list[str] = []
    whole = stamps.digest
    monkeypatch.setattr(stamps, "digest", lambda path: (read.append(str(path)), whole(path))[1])
    for path in files:
        path.touch()
    try:
        assert run(by_images, plane.files, "hdus").up_to_date
        assert sorted(read) == [str(path) for path in files]  # once, not once a detector
    finally:
        for path, then in zip(files, before, strict=True):
            os.utime(path, ns=(then.st_atime_ns, then.st_mtime_ns))


def test_a_detector_that_fails_stops_no_other(work: Plane, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (work.folders / NAMES[0]).glob("*.fits"):
        path.write_bytes(b"no frame")
    shutil.rmtree(work.root / "out")
    config = write_yaml(work.root / "plain.yaml", PLAIN)
    line = ["--mode", "full", "--detectors", "folders", "--basepath", str(work.folders), "--config", str(config)]
    line += ["--output_dir", str(work.root / "out"), "--until_step", str(UNTIL)]
    assert main(line) == 1
    said = capsys.readouterr()
    lines = {words[0]: text for text in said.out.splitlines() if (words := text.split())}
    assert "FAILED: " in lines["CCD1"]
    assert "no frame was accepted" in lines["CCD1"]
    assert lines["NORTH-3"].split()[-1] == "ok"
    assert "2 detectors, 1 failed" in said.out
    assert "error: CCD1: " in said.err
    assert "Traceback" not in said.err
    assert (work.root / "out" / NAMES[1] / "dark_model" / "dark_A_map.fits").exists()

    # mended: only that one is run
    shutil.rmtree(work.folders / NAMES[0])
    simulated.write_campaign(work.folders / NAMES[0], RECIPE, seed=100)
    report = run(work.root / "out", work.folders, "folders")
    assert report.exit_code == 0
    assert [name for name, part in report.parts if not part.up_to_date] == [NAMES[0]]
    assert main([*line, "--dry_run"]) == 0
    assert capsys.readouterr().out == "everything is up to date\n"


def test_dry_runs_say_what_each_detector_lacks(work: Plane, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["--mode", "full", "--detectors", "folders", "--basepath", str(work.folders)]
    line += ["--config", str(write_yaml(work.root / "plain.yaml", PLAIN)), "--dry_run", "--until_step", str(UNTIL)]
    line += ["--output_dir"]
    (work.root / "out" / NAMES[1] / "reference.yaml").unlink()
    assert main([*line, str(work.root / "out")]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0].startswith(f"{NAMES[1]}: subtract_bias: ")
    assert "output gone: reference.yaml" in said
    assert said.splitlines()[-1] == "1 of 2 detectors: everything is up to date"
    assert main([*line, str(tmp_path / "new")]) == 0
    said = capsys.readouterr().out
    assert said.splitlines()[0] == "detectors: table of detectors: never made"
    assert "each detector: steps: not yet known" in said
    assert not (tmp_path / "new").exists()


def test_only_the_named_detectors_run(plane: Plane, tmp_path: Path) -> None:
    report = run(tmp_path / "out", plane.files, None, detectors={"by": "hdus", "names": ["NORTH-3"]})
    assert [name for name, _ in report.parts] == ["NORTH-3"]
    assert report.exit_code == 0
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"NORTH-3", "survey"}
    report = run(tmp_path / "out", plane.files, None, detectors={"by": "hdus", "names": ["CCD9"]})
    assert report.exit_code == 2
    assert "there is no detector 'CCD9'" in str(report.failures[0])
    assert "Found: CCD1, NORTH-3" in str(report.failures[0])


def test_a_detector_that_some_files_lack(plane: Plane, tmp_path: Path) -> None:
    shutil.copytree(plane.files, tmp_path / "files")
    short = sorted((tmp_path / "files").glob("*.fits"))[-1]
    with fits.open(short) as hdus:
        shortened = fits.HDUList([unit.copy() for unit in hdus[:-1]])
    shortened.writeto(short, overwrite=True)
    (tmp_path / "files" / "rubbish.fits").write_bytes(b"rubbish")
    report = run(tmp_path / "out", tmp_path / "files", "hdus")
    assert report.exit_code == 0
    rows = table(tmp_path / "out" / NAMES[1] / "index.ecsv")
    reasons = {str(row["file"]): str(row["reason"]) for row in rows if row["status"] == "rejected"}
    assert set(reasons) == {short.name, "rubbish.fits"}
    assert "no image of this file is called NORTH-3 (there are: CCD1)" in reasons[short.name]
    assert "not a FITS file" in reasons["rubbish.fits"]
    whole = table(tmp_path / "out" / NAMES[0] / "index.ecsv")
    assert [str(row["file"]) for row in whole if row["status"] == "rejected"] == ["rubbish.fits"]
    counts = {str(row["name"]): int(row["files"]) for row in table(tmp_path / "out" / "detectors.ecsv")}
    assert counts["CCD1"] == counts["NORTH-3"] + 1


def test_other_modes_take_the_models_of_all(plane: Plane, by_folders: Path, tmp_path: Path) -> None:
    given = {"output_dir": tmp_path, "detectors": {"by": "folders"}}
    wanted = {"model_dir": by_folders, "temp_single_c": -6.5, "exptime_single_s": 45.0}
    report = MasterController({**given, "generate_synthetic_darks": wanted}).run("synthetic_2d_single")
    assert report.exit_code == 0
    made = [tmp_path / name / "synthetic" / "synthetic_dark_T-6.5C_texp45s.fits" for name in NAMES]
    assert all(path.exists() for path in made)
    assert made[0].read_bytes() != made[1].read_bytes()


def test_light_frames_of_all_are_calibrated_by_their_own_models(plane: Plane, by_folders: Path, tmp_path: Path) -> None:
    single = []
    for name in NAMES:
        light = tmp_path / "folders" / name / "m31.fits"
        light.parent.mkdir(parents=True)
        shutil.copy(max((plane.folders / name).glob("*.fits")), light)
        fits.setval(light, "IMAGETYP", value="Light Frame")
        single.append(light)
    together(single, tmp_path / "files" / "m31.fits")
    made: dict[str, list[Path]] = {}
    for by in ("folders", "hdus"):
        frames = tmp_path / ("files" if by == "hdus" else "folders")
        report = run(tmp_path / "made" / by, frames, by, "calibrate", calibrate={"model_dir": by_folders})
        assert report.exit_code == 0
        made[by] = [next((tmp_path / "made" / by / name).rglob("m31*.fits")) for name in NAMES]
    for one, other in zip(made["folders"], made["hdus"], strict=True):
        np.testing.assert_array_equal(planes(one)["SCI"], planes(other)["SCI"])
    assert (planes(made["hdus"][0])["SCI"] != planes(made["hdus"][1])["SCI"]).any()


def test_every_engine_makes_the_same(plane: Plane, by_images: Path, tmp_path: Path) -> None:
    shutil.copytree(plane.files, tmp_path / "files")
    report = run(tmp_path / "imaged", tmp_path / "files", "hdus", engine="processes")
    assert report.exit_code == 0
    assert differing(made_in(tmp_path / "imaged"), made_in(by_images)) == []


def test_a_cluster_makes_the_same(plane: Plane, by_images: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="pip install distributed")
    shutil.copytree(plane.files, tmp_path / "files")
    report = run(tmp_path / "imaged", tmp_path / "files", "hdus", engine="dask")
    assert report.exit_code == 0
    assert differing(made_in(tmp_path / "imaged"), made_in(by_images)) == []


def test_where_a_product_of_a_detector_comes_from(plane: Plane, by_folders: Path) -> None:
    made = MasterController(settings(by_folders, plane.folders))
    text = made.explain(Path(NAMES[0]) / "dark_model" / "dark_A_map.fits")
    assert text.splitlines()[0] == "dark_model/dark_A_map.fits"
    assert "../../folders/CCD1/frame_0" in text


# what is refused
@pytest.fixture
def refused(plane: Plane, tmp_path: Path) -> Iterator[Any]:
    def message(mode: str, **sections: Any) -> str:
        with pytest.raises(SettingsError) as caught:
            run(tmp_path / "out", plane.folders, "folders", mode, **sections)
        return str(caught.value)

    yield message
    assert not (tmp_path / "out").exists()


def test_what_makes_no_sense_for_many(refused: Any) -> None:
    assert "takes one detector" in refused("characterize")
    target = {"output": "dark.fits", "temp_single_c": 1.0, "exptime_single_s": 1.0}
    assert "cannot be that of many detectors" in refused("synthetic_2d_single", generate_synthetic_darks=target)
    assert "cannot be taken here" in refused("full", camera={"address": "127.0.0.1:1"})


def test_the_folder_of_many_models_is_not_run_as_one(plane: Plane, by_folders: Path) -> None:
    with pytest.raises(SettingsError, match="holds a model a detector"):
        run(by_folders, plane.folders, None)


def test_a_detector_that_another_run_is_at_is_left_to_it(work: Plane) -> None:
    with hold(work.root / "out" / NAMES[0]):
        report = run(work.root / "out", work.folders, "folders")
    assert report.exit_code == 75
    assert [name for name, part in report.parts if part.failures] == [NAMES[0]]


def test_a_folder_without_detectors(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    report = run(tmp_path / "out", tmp_path / "frames", "folders")
    assert "no detector was found" in str(report.failures[0])
    assert report.exit_code == 2
    (tmp_path / "frames" / "logs").mkdir()
    with warnings.catch_warnings():
        fits.PrimaryHDU(np.zeros((4, 4), np.uint16)).writeto(tmp_path / "frames" / "logs" / "a.fits")
    report = run(tmp_path / "out", tmp_path / "frames", "folders")
    assert "'logs' cannot be the name of a detector" in str(report.failures[0])


def test_the_flag_is_refused_where_nothing_hears_it() -> None:
    done = call("--mode", "acquire", "--detectors", "folders")
    assert done.returncode == 2
    assert "--detectors has no effect in mode 'acquire'" in done.stderr
