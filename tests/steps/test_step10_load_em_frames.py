"""The table of EM-CCD frames: stacks, refused frames with their reasons, and settings that do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from em_folder import FRAMES, SHAPE, EmFolder
from em_frames import GRID, write_em_frame
from helpers import row, table

from darkpipe.errors import PipelineError
from darkpipe.files.em_table import read_em_table
from darkpipe.jobs.report import RunReport

IMAGE = np.ones(SHAPE, np.float32)


def survey(folder: EmFolder, **settings: Any) -> RunReport:
    """Step 10 alone."""
    return folder.run("fit_noise_maps", chosen={"until_step": 10}, load_em_frames=settings)


def fresh(tmp_path: Path, em_plain: EmFolder) -> EmFolder:
    """An empty folder of frames."""
    (tmp_path / "frames").mkdir()
    return EmFolder(tmp_path, em_plain.sensor)


def failure(report: RunReport) -> str:
    with pytest.raises(PipelineError) as caught:
        report.raise_for_failure()
    return str(caught.value)


def test_frames_are_sorted_into_stacks(em_plain: EmFolder) -> None:
    stacks = read_em_table(em_plain.out / "em_frames.ecsv").stacks
    assert [(s.em_gain, s.exposure_s, len(s.frames)) for s in stacks] == [
        (*setting, FRAMES) for setting in sorted(GRID)
    ]
    assert stacks[0].name == "g1_texp2s"
    assert {f.path for f in stacks[0].frames} == set(em_plain.stack(1, 2))
    assert all(f.with_mask and not f.with_errors and not f.divided for s in stacks for f in s.frames)


def test_what_cannot_be_used_is_a_row_with_its_reason(em_work: EmFolder) -> None:
    odd = em_work.frames / "odd"
    write_em_frame(odd / "small.fits", IMAGE[:20], 100.0, 30.0)
    write_em_frame(odd / "no_gain.fits", IMAGE, None, 30.0)
    write_em_frame(odd / "counts.fits", IMAGE, 100.0, 30.0, unit="DN")
    write_em_frame(odd / "raw.fits", IMAGE.astype(np.uint16), 100.0, 30.0, unit="")
    light = write_em_frame(odd / "light.fits", IMAGE, 100.0, 30.0)
    fits.setval(light, "IMAGETYP", value="Light Frame")
    (odd / "text.fits").write_text("no frame")
    (odd / "nowhere.fits").symlink_to(odd / "gone.fits")
    em_work.run_well("traditional_dark")
    (odd / "product.fits").write_bytes(next((em_work.out / "em_darks").iterdir()).read_bytes())
    report = survey(em_work)
    report.raise_for_failure()
    found = em_work.out / "em_frames.ecsv"
    reasons = {
        "small": "20 x 56 pixels, not 40 x 56",
        "no_gain": "no EM gain in the header",
        "counts": "the unit is dn, not electrons",
        "raw": "whole numbers without a unit",
        "light": "a light frame",
        "text": "cannot be read",
        "nowhere": "cannot be read",
        "product": "a product of this pipeline",
    }
    for name, reason in reasons.items():
        refused = row(found, file=f"odd/{name}.fits")
        assert refused["status"] == "rejected"
        assert reason in refused["reason"], name
    assert (table(found)["status"] == "accepted").sum() == FRAMES * len(GRID)
    told = dict(report.summaries[0][1])
    assert told["frames"] == f"{FRAMES * len(GRID) + 8} found, {FRAMES * len(GRID)} used, 8 rejected"


def test_whole_numbers_are_electrons_where_that_is_said(tmp_path: Path, em_plain: EmFolder) -> None:
    folder = fresh(tmp_path, em_plain)
    write_em_frame(folder.frames / "counted.fits", IMAGE.astype(np.int16), 100.0, 30.0, unit="")
    assert "whole numbers without a unit" in failure(survey(folder))
    survey(folder, assume_electrons=True).raise_for_failure()
    assert len(read_em_table(folder.out / "em_frames.ecsv").stacks) == 1


def test_the_measured_gain_comes_first_where_asked(tmp_path: Path, em_plain: EmFolder) -> None:
    folder = fresh(tmp_path, em_plain)
    for i, measured in enumerate((97.0, 97.05, 99.0)):
        path = write_em_frame(folder.frames / f"{i}.fits", IMAGE, 100.0, 30.0)
        fits.setval(path, "EMGAIN_M", value=measured, ext=1)
    survey(folder).raise_for_failure()
    found = folder.out / "em_frames.ecsv"
    assert [s.em_gain for s in read_em_table(found).stacks] == [100.0]
    synonyms = {"em_gain": ["EMGAIN_M", "EMGAIN_A"]}
    survey(folder, keyword_synonyms=synonyms).raise_for_failure()
    assert [(s.name, s.em_gain) for s in read_em_table(found).stacks] == [
        ("g97.025_texp30s", 97.025),
        ("g99_texp30s", 99.0),
    ]
    survey(folder, keyword_synonyms=synonyms, same_gain=0.03).raise_for_failure()
    assert [s.em_gain for s in read_em_table(found).stacks] == [pytest.approx(97.6833, rel=1e-5)]


@pytest.mark.parametrize(
    ("unit", "given", "expected"),
    [
        ("detected electron", "auto", True),
        ("detected EM electron", "auto", False),
        ("electron", "auto", False),
        ("detected EM electron", "yes", True),
        ("detected electron", "no", False),
    ],
)
def test_whether_the_gain_was_divided_out(
    tmp_path: Path, em_plain: EmFolder, unit: str, given: str, expected: bool
) -> None:
    folder = fresh(tmp_path, em_plain)
    write_em_frame(folder.frames / "a.fits", IMAGE, 100.0, 30.0, unit=unit)
    survey(folder, divided_by_gain=given).raise_for_failure()
    assert read_em_table(folder.out / "em_frames.ecsv").stacks[0].frames[0].divided is expected


def test_mixed_shapes(tmp_path: Path, em_plain: EmFolder) -> None:
    folder = fresh(tmp_path, em_plain)
    plain: dict[str, Any] = dict.fromkeys(("image_area", "active_area", "prescan_area", "telemetry_rows"))
    write_em_frame(folder.frames / "a.fits", IMAGE, 100.0, 30.0)
    write_em_frame(folder.frames / "b.fits", IMAGE.T.copy(), 100.0, 30.0)
    assert "as many frames of 40 x 56 and 56 x 40 pixels" in failure(survey(folder, **plain))
    write_em_frame(folder.frames / "c.fits", IMAGE, 100.0, 30.0)
    survey(folder, **plain).raise_for_failure()
    assert row(folder.out / "em_frames.ecsv", file="b.fits")["reason"] == "56 x 40 pixels, not 40 x 56"
    assert "no frame has the 1200 x 2200 pixels" in failure(survey(folder, detector="roman_coronagraph", **plain))


def test_wrong_settings(tmp_path: Path, em_work: EmFolder) -> None:
    assert "image area does not lie in a frame" in failure(survey(em_work, image_area=[2, 14, 30, 360]))
    assert "telemetry rows lie in the image area" in failure(survey(em_work, telemetry_rows=[4, 5]))
    assert "there is no such folder" in failure(survey(em_work, basepath=tmp_path / "gone"))
    (tmp_path / "empty").mkdir()
    assert "no FITS file was found" in failure(survey(em_work, basepath=tmp_path / "empty"))
    assert "this is the folder of the frames" in failure(survey(em_work, basepath=em_work.out))


def test_an_output_directory_among_the_frames_is_passed_over(em_work: EmFolder) -> None:
    report = em_work.run("traditional_dark", chosen={"until_step": 10}, load_em_frames={"basepath": em_work.root})
    report.raise_for_failure()
    files = list(table(em_work.out / "em_frames.ecsv")["file"])
    assert len(files) == FRAMES * len(GRID)
    assert all(name.startswith("frames/") for name in files)
