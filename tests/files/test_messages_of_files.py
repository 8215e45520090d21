"""Messages of what reads and writes files that no other test meets: each from a file that is as the message says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from em_folder import EmFolder
from em_frames import write_em_frame
from helpers import Campaign

from darkpipe.errors import DesignError, FrameError, ProductError, SettingsError
from darkpipe.files.campaign_plan import Outline, fitting_of, kinds_of, read_sensor
from darkpipe.files.detectors import read_units, units_of_file
from darkpipe.files.em_frames import describe_em_frame, read_em_frame
from darkpipe.files.em_table import stacks_of
from darkpipe.files.fitting import read_population
from darkpipe.files.frame_match import Window
from darkpipe.files.frames import survey_frame
from darkpipe.files.index import survey_of
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.lights import read_light
from darkpipe.files.masters import read_band, read_cells, read_reference
from darkpipe.files.model_maps import read_description
from darkpipe.files.noise_map_files import read_noise_maps, stack_rows
from darkpipe.files.probe_files import bias_file, read_probes
from darkpipe.files.reporting import Subject
from darkpipe.science.flags import DQ
from darkpipe.settings import read_yaml


@contextmanager
def little_memory(spare_bytes: int) -> Iterator[None]:
    """No more address space than what is taken, and a little."""
    resource = pytest.importorskip("resource", reason="limits of memory are those of Unix")
    try:
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        pytest.skip("how much memory is taken stands in /proc, of Linux")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + spare_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize(("spare_mb", "told"), [(60, "the file does not"), (200, "the frame does not")])
def test_a_light_that_does_not_fit_into_memory(tmp_path: Path, spare_mb: int, told: str) -> None:
    """128 MB, which are twice as many once they are pixels."""
    path, side = tmp_path / "light.fits", 8000
    header = fits.Header([("SIMPLE", True), ("BITPIX", 16), ("NAXIS", 2), ("NAXIS1", side), ("NAXIS2", side)])
    content = header.tostring().encode()
    with open(path, "wb") as stream:
        stream.write(content)
        stream.truncate(len(content) + -(-2 * side * side // 2880) * 2880)  # takes no room on the disk
    with little_memory(spare_mb << 20), pytest.raises(FrameError, match=f"{told} fit into memory"):
        read_light(path)


def test_what_a_folder_of_detectors_has_of_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="cannot be read: "):
        units_of_file(tmp_path)
    listed = tmp_path / "units.json"
    listed.write_text('{"units": ')
    with pytest.raises(ProductError, match="the list of a file's images is damaged"):
        read_units(listed)


def test_a_survey_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="the survey of a frame is missing"):
        survey_of(tmp_path / "gone.json")


@pytest.mark.parametrize("text", ["mean: [1, 2]\n", "- 1\n", "a: [\n", None])
def test_a_population_that_is_damaged(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "population.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ProductError, match="the population cannot be read"):
        read_population(path)


def test_masters_of_several_shapes(work: Campaign) -> None:
    out = OutputDir(work.out)
    cells = read_cells(out.groups)
    paths = [out.master_dark(cell.name) for cell in cells]
    with fits.open(paths[1], mode="update") as units:
        for unit in units:
            if unit.data is not None and getattr(unit.data, "ndim", 0) == 2:
                unit.data = unit.data[:, :-4]
    hangs_on = [cell.bias for cell in cells]
    with pytest.raises(ProductError, match="a master has another shape"):
        read_band(paths, cells, hangs_on, read_reference(out.reference), None, slice(0, 4))


def test_a_model_without_its_bias(work: Campaign) -> None:
    folder = ModelDir(work.model)
    description = read_description(folder.description)
    folder.bias_line.unlink()
    with pytest.raises(DesignError, match="this model holds no bias to subtract"):
        bias_file(folder, description, description.models[0])


def test_hot_pixels_that_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "probes.npz"
    with open(path, "wb") as stream:
        np.savez(stream, bias=np.zeros(3))
    with pytest.raises(ProductError, match="the hot pixels cannot be read"):
        read_probes(path, Window(0, 0, 4, 4))
    path.unlink()
    with pytest.raises(ProductError, match=r"the hot pixels cannot be read .*No such file"):
        read_probes(path, Window(0, 0, 4, 4))


def test_one_image_of_a_file_that_is_gone(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone.fits"):
        with pytest.raises(FrameError, match=r"cannot be read: (Is a directory|No such file)") as caught:
            read_light(path, hdu=1)
        assert caught.value.where == str(path)
        assert "step 1" in caught.value.do


def test_a_report_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ProductError, match="there is nothing to report: no master darks"):
        Subject.of(OutputDir(tmp_path))


def test_a_model_of_which_no_pixel_is_left(work: Campaign) -> None:
    sensor = read_sensor(work.model, "exp_2d")
    for path in ModelDir(work.model).maps("exp_2d").values():
        with fits.open(path, mode="update") as units:
            units["DQ"].data |= np.asarray(DQ.FIT_FAILED, units["DQ"].data.dtype)
    with pytest.raises(ProductError, match="no pixel of this model can be used"):
        kinds_of(sensor)


def test_a_plan_that_no_model_describes_as_a_whole() -> None:
    outline = Outline(((0.0, 30.0, 4), (0.0, 60.0, 4), (0.0, 120.0, 4), (-10.0, 300.0, 4)), 8)
    with pytest.raises(DesignError, match="no model describes the 4 cells of this plan together"):
        fitting_of(outline, "exp_t", 0.1, 1.12)


def test_frames_of_an_em_ccd_that_cannot_be_used(tmp_path: Path) -> None:
    path = write_em_frame(tmp_path / "frame.fits", np.ones((4, 5), np.float32), 100.0, 3.0)
    found = describe_em_frame(path)
    with fits.open(path, mode="update") as units:
        del units[1].header["EXPTIME"]
    with pytest.raises(FrameError, match="no exposure time in the header"):
        describe_em_frame(path)
    torn = write_em_frame(tmp_path / "torn.fits", np.ones((40, 50), np.float32), 100.0, 3.0)
    frame = describe_em_frame(torn)
    os.truncate(torn, torn.stat().st_size - 5760)
    with pytest.raises(FrameError, match="the file cannot be read"):
        read_em_frame(frame)
    near = [replace(found, em_gain=gain, path=tmp_path / str(gain)) for gain in (100.00001, 100.00002)]
    with pytest.raises(FrameError, match="two stacks come out with one EM gain and exposure"):
        stacks_of(near, same_gain=0.0)


def test_noise_maps_that_do_not_belong_together(em_work: EmFolder) -> None:
    maps = OutputDir(em_work.out).model.noise_maps
    with pytest.raises(ProductError, match="this is no noise map F"):
        stack_rows(maps["C"])
    with fits.open(maps["D"], mode="update") as units:
        for unit in units:
            if unit.data is not None and getattr(unit.data, "ndim", 0) == 2:
                unit.data = unit.data[:, :-4]
    with pytest.raises(ProductError, match="the three maps differ in shape"):
        read_noise_maps(maps)


def test_a_noise_map_that_lacks_its_numbers(em_work: EmFolder) -> None:
    maps = OutputDir(em_work.out).model.noise_maps
    with fits.open(maps["F"], mode="update") as units:
        del units[0].header["NSTACKS"]
    with pytest.raises(ProductError, match="the header lacks"):
        read_noise_maps(maps)


def test_a_tile_that_is_larger_than_any_image(tmp_path: Path) -> None:
    path = tmp_path / "packed.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(np.zeros((64, 64), np.int16))]).writeto(path)
    before, after = b"ZTILE1  =                   64", b"ZTILE1  =            999999999"
    content = path.read_bytes()
    assert before in content
    path.write_bytes(content.replace(before, after))
    assert "ZTILE1 = 999999999: larger than the image" in str(survey_frame(path).rejected)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name are those of Unix")
def test_settings_that_are_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "settings.yaml")
    with pytest.raises(SettingsError, match="the settings are no regular file"):
        read_yaml(tmp_path / "settings.yaml")


def test_a_packed_frame_of_an_em_ccd_whose_tiles_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "frame.fits"
    rng = np.random.default_rng(1)
    unit = fits.CompImageHDU(rng.integers(0, 900, (64, 64)).astype(np.int16), compression_type="GZIP_1")
    unit.header["BUNIT"], unit.header["EXPTIME"], unit.header["EMGAIN_C"] = "detected EM electron", 3.0, 100.0
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(path)
    frame = describe_em_frame(path)
    content = bytearray(path.read_bytes())
    begin = content.index(b"\x1f\x8b")
    content[begin : begin + 400] = bytes(400)
    path.write_bytes(content)
    with pytest.raises(FrameError, match="the file cannot be read"):
        read_em_frame(frame)
