"""Messages that no other test meets: each is raised by what a user could bring about, as far as that can be done."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raised_messages
import toy_steps
from astropy.io import fits
from astropy.table import Table
from helpers import Campaign

from darkpipe.errors import DesignError, FrameError, PipelineError, ProductError, SettingsError
from darkpipe.files.bias_files import adopt_bias_model
from darkpipe.files.em_table import common_shape, read_em_table
from darkpipe.files.fitting import plan_units
from darkpipe.files.frames import FrameStack, survey_frame
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_check import read_verdict
from darkpipe.files.tables import write_table
from darkpipe.jobs import dask_engine, stamps
from darkpipe.jobs.engine import open_engine
from darkpipe.jobs.journal import Journal
from darkpipe.library.quantities import seconds
from darkpipe.science.em_darks import synthesised_dark, traditional_dark
from darkpipe.science.masked_mean import MOST_FRAMES, MeanAccumulator, masked_mean
from darkpipe.science.noise_maps import NoiseMapCalibration
from darkpipe.science.regions import Area, DetectorRegions
from darkpipe.science.stretch import Stretch

PLANE = np.ones((4, 5), np.float32)
WHOLE = DetectorRegions.whole(4, 5)


def write(path: Path, *units: Any) -> Path:
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path)
    return path


# files
def test_a_bias_model_without_image(tmp_path: Path) -> None:
    empty = write(tmp_path / "b0.fits")
    with pytest.raises(ProductError, match="the file holds no image"):
        adopt_bias_model([empty, empty], tmp_path / "out.fits")


def test_a_bias_model_that_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "b.fits"
    path.write_text("no FITS")
    with pytest.raises(ProductError, match=r"the bias model cannot be read"):
        adopt_bias_model([path], tmp_path / "out.fits")
    good = write(tmp_path / "c.fits", fits.ImageHDU(PLANE, name="B0"), fits.ImageHDU(PLANE, name="B1"))
    with fits.open(good, mode="update") as units:
        units[0].header["T_REF"] = "warm"
    with pytest.raises(ProductError, match=r"the bias model cannot be read .*warm"):
        adopt_bias_model([good], tmp_path / "out.fits")


def test_a_bias_model_whose_maps_are_no_images(tmp_path: Path) -> None:
    names = fits.Column("NAME", "8A", array=["one", "two"])
    words = write(
        tmp_path / "b.fits", fits.BinTableHDU.from_columns([names], name="B0"), fits.ImageHDU(PLANE, name="B1")
    )
    with pytest.raises(ProductError, match=r"the bias model cannot be read"):
        adopt_bias_model([words], tmp_path / "out.fits")
    assert not (tmp_path / "out.fits").exists()


def test_em_frames_of_no_common_shape(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="no frame can be used"):
        common_shape([])


def test_a_table_of_em_frames_that_lacks_something(tmp_path: Path) -> None:
    path = tmp_path / "em_frames.ecsv"
    write_table(path, Table({"a": [1]}))
    with pytest.raises(ProductError, match="the table of frames lacks"):
        read_em_table(path)


def header_with(tmp_path: Path, change: dict[bytes, bytes], *, compressed: bool = False) -> Path:
    """A frame in whose header some bytes are others, of the same length."""
    path = tmp_path / "frame.fits"
    image = np.arange(64 * 64, dtype=np.int16).reshape(64, 64)
    unit = fits.CompImageHDU(image) if compressed else fits.ImageHDU(image)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    content = path.read_bytes()
    for before, after in change.items():
        assert before in content
        assert len(before) == len(after)
        content = content.replace(before, after)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("change", "compressed", "told"),
    [
        ({b"ZTILE1  =                   64": b"ZTILE1  =                   -4"}, True, "ZTILE1 is no tile size"),
        (
            {b"NAXIS   =                    2": b"NAXIS   =                   -1"},
            False,
            "NAXIS is missing or",
        ),
        ({b"PCOUNT  =                    0": b"PCOUNT  =                   -9"}, False, "PCOUNT is no number of bytes"),
        (
            {b"BITPIX  =                   16": b"BITPIX  =                    T"},
            False,
            "BITPIX is missing or",
        ),
    ],
)
def test_headers_that_make_no_sense(tmp_path: Path, change: dict[bytes, bytes], compressed: bool, told: str) -> None:
    assert told in survey_frame(header_with(tmp_path, change, compressed=compressed)).rejected


def test_a_compressed_image_of_another_size(tmp_path: Path) -> None:
    path = header_with(tmp_path, {}, compressed=True)
    with fits.open(path, disable_image_compression=True) as units:
        begin, end = units[1].fileinfo()["datLoc"], path.stat().st_size
    content = bytearray(path.read_bytes())
    content[begin + 64 * 8 :] = bytes(end - begin - 64 * 8)  # the tiles, not their table
    path.write_bytes(content)
    with FrameStack([path], [1], 64, 64) as stack, pytest.raises(FrameError, match="compressed image is damaged"):
        stack.read_rows(0, 64)


def test_a_frame_that_is_cut_while_it_is_in_use(tmp_path: Path) -> None:
    path = header_with(tmp_path, {}, compressed=True)
    with FrameStack([path], [1], 64, 64) as stack:
        with open(path, "ab") as stream:
            stream.write(bytes(2880))
        with pytest.raises(FrameError, match="changed its size"):
            stack.read_rows(0, 64)


@pytest.mark.skipif(os.name == "nt", reason="a sparse file is made as Unix does")
def test_a_file_larger_than_any_frame(tmp_path: Path) -> None:
    path = tmp_path / "huge.fits"
    with open(path, "wb") as stream:
        stream.truncate((8 << 30) + 1)  # takes no room on the disk
    assert "larger than any frame" in survey_frame(path).rejected


def test_no_cell_to_fit() -> None:
    with pytest.raises(DesignError, match="no cell is left to be fitted"):
        plan_units([], None, "auto", 1.12, False)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["verdict: ''\ncriteria: {}\nhot_pixels: {}\n", "verdict: x\n", "[1]", "a: [", ""])
def test_a_verdict_that_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "verdict.yaml"
    path.write_text(text)
    with pytest.raises(ProductError, match=r"the verdict (is empty|cannot be read)"):
        read_verdict(path)


# jobs
def test_no_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(SettingsError, match="needs a package that is not installed"):
        open_engine("dask", 1, None)


def test_no_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="pip install distributed")
    monkeypatch.setattr(dask_engine, "CONNECT_S", 0.5)
    with contextlib.closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(PipelineError, match="no Dask scheduler answers"):
            open_engine("dask", 1, address)


def test_a_journal_in_a_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(ProductError, match="cannot read the journal"):
        Journal(tmp_path)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A folder in which nothing can be made; for root, by an attribute that holds for it as well, if there is one."""
    mode = folder.stat().st_mode
    folder.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        yield
    finally:
        folder.chmod(mode)


def test_a_journal_that_cannot_be_written(tmp_path: Path) -> None:
    controller = toy_steps.controller(tmp_path)
    toy_steps.write_frames(tmp_path / "raw", "A-10-1")
    controller.run("full").raise_for_failure()
    toy_steps.write_frames(tmp_path / "raw", "A-10-2")
    journal = Journal(tmp_path / "out")
    path = tmp_path / "out" / "journal.jsonl"
    path.unlink()
    path.mkdir()
    journal._unwritten.append(b"{}\n")
    with pytest.raises(ProductError, match="cannot write the journal"):
        journal.commit()


def test_a_journal_that_cannot_be_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkpipe.jobs import journal_file

    path = tmp_path / "journal.jsonl"
    lines = [{"journal": journal_file.FORMAT}, {"file": [1, "a", 1, 1, "x"]}]
    job = {"job": "s", "campaign": "", "recipe": "r", "inputs": [], "outputs": [1]}
    job |= {"requested": False, "label": "", "time": ""}
    path.write_bytes(b"".join(map(journal_file.encode, [*lines, *[job] * 5])))
    monkeypatch.setattr(journal_file, "HISTORY_LINES", 0)

    def full(*names: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(journal_file.os, "replace", full)
    with pytest.raises(ProductError, match="cannot rewrite the journal: No space left"):
        journal_file.compacted(path, journal_file.load(path))
    assert path.is_file()
    assert [p.name for p in tmp_path.iterdir()] == ["journal.jsonl"]


def test_a_file_that_cannot_be_read_or_looked_at(tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="cannot read this file"):
        stamps.digest(tmp_path)
    with pytest.raises(PipelineError, match="cannot look at this file"):
        stamps.stamp(tmp_path / ("x" * 300))


# the library and the science below it
def test_exposures_that_are_none() -> None:
    with pytest.raises(SettingsError, match="an exposure must be above 0 s, not 0"):
        seconds(0)
    with pytest.raises(SettingsError, match="nan is not a finite number"):
        seconds(float("nan"))


def test_stacks_that_do_not_fit() -> None:
    mean = MeanAccumulator((4, 5))
    with pytest.raises(DesignError, match="a stack without frames has no mean"):
        mean.result()
    for frames, masks, errors, told in [
        (np.ones((3, 3)), None, None, r"frames of shape \(3, 3\)"),
        (PLANE.astype(complex), None, None, "no real numbers"),
        (PLANE, PLANE, None, "masks hold float32, no bits"),
        (PLANE, np.zeros((2, 4, 5), bool), None, r"1 frame\(s\) and 2 mask\(s\)"),
        (PLANE, None, np.ones((2, 4, 5)), r"1 frame\(s\) and 2 error plane\(s\)"),
    ]:
        with pytest.raises(DesignError, match=told):
            mean.add(frames, masks, errors)
    mean.frames = MOST_FRAMES
    with pytest.raises(DesignError, match="a stack holds at most"):
        MeanAccumulator.add(mean, PLANE, None, PLANE) if mean._error2 is not None else mean.add(PLANE)
    with pytest.raises(DesignError, match="a stack is"):
        masked_mean(np.ones(5))


def test_settings_of_an_em_ccd_that_are_none() -> None:
    stack = masked_mean(np.ones((3, 4, 5)))
    with pytest.raises(DesignError, match="but the detector has"):
        traditional_dark(stack, DetectorRegions.whole(7, 7), em_gain=10.0, exposure_s=1.0)
    calibration = NoiseMapCalibration(WHOLE)
    for gain, exposure, told in [(0.5, 1.0, "an EM gain is 1 or more"), (10.0, -1.0, "an exposure is 0 s or more")]:
        with pytest.raises(DesignError, match=told):
            traditional_dark(stack, WHOLE, em_gain=gain, exposure_s=exposure)
        with pytest.raises(DesignError, match=told):
            synthesised_dark(None, gain, exposure)  # type: ignore[arg-type]
        with pytest.raises(DesignError, match=told):
            calibration.add(PLANE, gain, exposure)


def test_areas_that_do_not_lie_in_the_frame() -> None:
    with pytest.raises(DesignError, match="the image area does not lie in a frame"):
        DetectorRegions(4, 5, Area(0, 0, 5, 5))
    with pytest.raises(DesignError, match="telemetry rows lie in the image area"):
        DetectorRegions(4, 5, Area(0, 0, 4, 5), telemetry_rows=(3, None))


# the command line
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--stretch", "log", "--black_point", "nan"], "no finite number"),
        (["--temps", "cold"], "is no number"),
        (["--temps", ","], "there are no numbers"),
        (["--select", "gain"], "is not KEY=VALUE"),
    ],
)
def test_values_of_flags(flags: list[str], told: str) -> None:
    from run_pipeline import build_parser

    with pytest.raises(SettingsError, match=told):
        build_parser().parse_args(["--mode", "characterize", *flags])


def test_stretches_that_are_none() -> None:
    for given, told in [
        ((0.0, 1.0, "cube"), "a stretch is 'log' or 'linear'"),
        ((0.0, float("nan"), "log"), "must be finite"),
        ((2.0, 1.0, "linear"), "must lie below the white point"),
        ((0.0, 0.5, "log"), "more than one unit"),
    ]:
        with pytest.raises(ValueError, match=told) as caught:
            Stretch(*given)  # type: ignore[arg-type]
        raised_messages.note(caught.value)


def test_a_model_of_another_shape_in_the_archive(work: Campaign, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(work.model, other)
    for path in other.rglob("*.fits"):
        with fits.open(path, mode="update") as units:
            for unit in units:
                if unit.data is not None and getattr(unit.data, "ndim", 0) >= 2:
                    unit.data = unit.data[..., :-8, :]
    with contextlib.suppress(PipelineError):
        from darkpipe.files.history import _changes

        with pytest.raises(ProductError, match="of different shapes"):
            _changes(ModelDir(work.model), ModelDir(other))


def test_a_frame_that_does_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkpipe.files import survey

    def full(*given: object) -> None:
        raise MemoryError

    path = header_with(tmp_path, {})
    monkeypatch.setattr(survey.stat, "S_ISREG", full)
    assert "does not fit into memory" in (survey_frame(path).rejected or "")


def test_a_file_of_the_report_that_is_damaged(tmp_path: Path) -> None:
    from darkpipe.files.reporting import _yaml

    path = tmp_path / "reference.yaml"
    path.write_text("a: [")
    with pytest.raises(ProductError, match="a product cannot be read"):
        _yaml(path)


def test_a_frame_that_is_cut_after_its_size_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from darkpipe.files import stack as reading

    path = header_with(tmp_path, {})
    with FrameStack([path], [1], 64, 64) as stack:
        size = path.stat().st_size
        with open(path, "r+b") as stream:
            stream.truncate(size - 4000)
        monkeypatch.setattr(reading.os, "fstat", lambda handle: os.stat_result((0, 0, 0, 0, 0, 0, size, 0, 0, 0)))
        with pytest.raises(FrameError, match="changed its size"):
            stack.read_rows(0, 64)


def test_a_table_of_tiles_of_another_image(tmp_path: Path) -> None:
    from darkpipe.files import pixels
    from darkpipe.files.fits_bytes import locate_image
    from darkpipe.files.sources import BytesSource

    path = header_with(tmp_path, {}, compressed=True)
    source = BytesSource(path.read_bytes())
    layout = locate_image(source)
    import dataclasses

    with pytest.raises(FrameError, match="the compressed image is damaged"):
        pixels._decompress(source, dataclasses.replace(layout, rows=layout.rows + 1))
