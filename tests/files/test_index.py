"""The index: every file is in it, accepted or rejected with its reason; and what is selected from it."""

from __future__ import annotations

import os
from pathlib import Path

import bad_frames
import numpy as np
import pytest
from astropy.io import fits
from made_headers import header_of

from darkpipe.errors import FrameError, SettingsError
from darkpipe.files.frames import FrameSurvey, survey_frame
from darkpipe.files.index import (
    ACCEPTED,
    REJECTED,
    campaign_matches,
    campaign_names,
    index_rows,
    read_frames,
    read_index,
    rejection_lines,
    write_index,
)
from darkpipe.files.layout import OutputDir
from darkpipe.jobs.runner import execute
from steps import step1_load_data

RNG = np.random.default_rng(3)


def save(path: Path, level: float = 1000.0, **cards: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.rint(RNG.normal(level, 4.0, (16, 24))).astype(np.uint16)
    fits.PrimaryHDU(image, header_of(**cards)).writeto(path, overwrite=True)
    return path


def indexed(root: Path, out: Path, **settings: object) -> OutputDir:
    """Step 1 alone."""
    place = OutputDir(out)
    for batch in step1_load_data.plan(place, step1_load_data.Settings(basepath=root, **settings)):
        for job in batch:
            execute(job)
    return place


def test_constant_frames_are_rejected(tmp_path: Path) -> None:
    for name, kind in (("dark.fits", "Dark Frame"), ("bias.fits", "Bias Frame")):
        header = header_of(IMAGETYP=kind, EXPTIME=60.0 if kind == "Dark Frame" else 0.0)
        fits.PrimaryHDU(np.full((16, 24), 32, np.uint16), header).writeto(tmp_path / name)
    rows = index_rows([(name, survey_frame(tmp_path / name)) for name in ("bias.fits", "dark.fits")])
    assert [r["status"] for r in rows] == [REJECTED, REJECTED]
    assert [r["reason"] for r in rows] == ["constant: all pixels read the same value, 32"] * 2


def test_the_second_of_two_copies_is_the_duplicate(tmp_path: Path) -> None:
    survey = survey_frame(save(tmp_path / "a.fits"))
    rows = index_rows([("a.fits", survey), ("b.fits", survey)])
    assert [(r["status"], r["reason"]) for r in rows] == [
        (ACCEPTED, ""),
        (REJECTED, "duplicate: same pixels as a.fits"),
    ]


def test_configurations_stand_apart_and_can_be_selected(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    for n in range(3):
        save(raw / f"low{n}.fits", GAIN=100, OFFSET=50, XBINNING=1, YBINNING=1)
    save(raw / "high.fits", GAIN=200, OFFSET=50, XBINNING=2, YBINNING=2)
    out = indexed(raw, tmp_path / "out")
    low, high = campaign_names(out.index)
    assert "g100" in low
    assert "g200" in high
    assert [f.file for f in read_frames(out.index, high)] == ["high.fits"]
    places = [OutputDir(out.root, name) for name in (low, high)]
    for select, expected in (
        ({"gain": "100"}, [True, False]),
        ({"gain": "200.0", "offset": "50"}, [False, True]),
        ({"binning": "2x2"}, [False, True]),
        ({"binning": "1"}, [True, False]),
        ({"configuration": high.lower()}, [False, True]),
        ({"gain": "300"}, [False, False]),
        ({"em_gain": "1"}, [False, False]),
        ({}, [True, True]),
    ):
        assert [place.matches(select) for place in places] == expected, select


def test_a_camera_is_selected_whatever_the_case(tmp_path: Path) -> None:
    save(tmp_path / "raw" / "a.fits", INSTRUME="My Camera")
    out = indexed(tmp_path / "raw", tmp_path / "out")
    assert campaign_matches(out.index, "", {"camera": "my camera"})
    assert not campaign_matches(out.index, "", {"camera": "other"})


def test_an_unknown_key_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"cannot select by gian .*Known: gain, offset") as caught:
        campaign_matches(tmp_path / "index.ecsv", "", {"gian": "1"})
    assert caught.value.exit_code == 2


def test_every_bad_file_is_in_the_index(tmp_path: Path) -> None:
    cases = bad_frames.write_all(tmp_path / "raw")
    out = indexed(tmp_path / "raw", tmp_path / "out")
    rows = {str(r["file"]): r for r in read_index(out.index)}
    for name, case in cases.items():
        file = case.path.relative_to(tmp_path / "raw").as_posix()
        if case.expectation == "ignored":
            assert file not in rows, name
            continue
        row = rows.pop(file)
        assert (str(row["status"]) == REJECTED) == (case.expectation == "rejected"), name
        assert bool(str(row["reason"])) == (case.expectation == "rejected"), name
    assert all(str(r["status"]) == ACCEPTED for r in rows.values())  # the originals of the duplicates


@pytest.mark.skipif(os.name == "nt", reason="links and pipes of POSIX")
def test_what_cannot_be_opened_is_no_input_of_a_job_until_it_can(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    save(raw / "good.fits")
    (raw / "lost.fits").symlink_to("gone.fits")
    (raw / "self.fits").symlink_to("self.fits")
    os.mkfifo(raw / "pipe.fits")
    place = OutputDir(tmp_path / "out")
    jobs = next(step1_load_data.plan(place, step1_load_data.Settings(basepath=raw)))
    assert [(job.label, len(job.inputs)) for job in jobs] == [
        ("good.fits", 1),
        ("lost.fits", 0),
        ("pipe.fits", 0),
        ("self.fits", 0),
    ]
    out = indexed(raw, tmp_path / "out")
    reasons = {str(r["file"]): str(r["reason"]) for r in read_index(out.index)}
    assert reasons["good.fits"] == ""
    assert "leads nowhere" in reasons["lost.fits"]
    assert "regular" in reasons["pipe.fits"]
    save(raw / "gone.fits")
    (raw / "gone.fits").rename(raw / ".hidden.fits")
    (raw / "lost.fits").unlink()
    (raw / "lost.fits").symlink_to(".hidden.fits")
    jobs = next(step1_load_data.plan(place, step1_load_data.Settings(basepath=raw)))
    assert next(job for job in jobs if job.label == "lost.fits").inputs == (raw / "lost.fits",)


def test_the_output_directory_may_stand_among_the_frames_or_around_them(tmp_path: Path) -> None:
    raw = tmp_path / "around" / "raw"
    save(raw / "a.fits")
    save(raw / "out" / "bias" / "master.fits")
    assert len(read_index(indexed(raw, raw / "out").index)) == 1
    assert len(read_index(indexed(raw, tmp_path / "around").index)) == 2
    with pytest.raises(SettingsError, match="folder of the raw frames"):
        indexed(raw, raw)


def test_no_frames_is_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no frame")
    with pytest.raises(FrameError, match="no FITS file"):
        indexed(tmp_path, tmp_path / "out")
    with pytest.raises(SettingsError, match="no such folder"):
        indexed(tmp_path / "missing", tmp_path / "out")


def test_long_lists_of_rejections_are_cut() -> None:
    rows = [{"file": f"{n}.fits", "reason": f"bad {n}"} for n in range(100)]
    lines = rejection_lines(rows, Path("out/index.ecsv"))
    assert (len(lines), lines[0], lines[-1]) == (21, "0.fits: bad 0", "and 80 more: see index.ecsv")
    alike = [{"file": f"{n}.fits", "reason": "a bias frame" if n % 2 else f"bad {n}"} for n in range(24)]
    lines = rejection_lines(alike, Path("x"))
    assert (len(lines), lines[0], lines[-1]) == (13, "12 frames: a bias frame (the first: 1.fits)", "22.fits: bad 22")
    assert rejection_lines([{"file": "a", "reason": ""}], Path("x")) == []


def test_an_index_without_accepted_frames_holds_no_configuration(tmp_path: Path) -> None:
    rows = index_rows([("a.fits", FrameSurvey(rejected="empty file"))])
    write_index(tmp_path / "index.ecsv", rows, ".")
    assert campaign_names(tmp_path / "index.ecsv") == []
