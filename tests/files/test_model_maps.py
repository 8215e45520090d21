"""Dark models on disk: the description, the maps, and darks made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numba import typeof

from darkpipe.errors import DesignError, ProductError
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import (
    Description,
    FittedModel,
    read_description,
    read_maps,
    saturation_frame,
    write_description,
)
from darkpipe.files.products import Frame, write_frame
from darkpipe.files.synthetic import model_for
from darkpipe.files.thread_memory import ThreadMemory
from darkpipe.science.flags import DQ
from darkpipe.science.models import MODELS, Reference
from darkpipe.science.saturation import Saturation

SHAPE = (3, 4)
GRID = FittedModel("exp_2d", "", (-10.0, 0.0), (10.0, 300.0), Reference(-10.0), 0.01, 1.05, 9)


def described(*models: FittedModel, chosen: str = "exp_2d") -> Description:
    return Description(chosen, "why", SHAPE, "cam_b1", 2.0, 5.0, 1.0, 0.0, True, models, {"exp_t": "not asked"}, "Cam")


@pytest.fixture
def folder(tmp_path: Path) -> ModelDir:
    """exp_2d maps of a sensor with S = 2 t exp(0.1 (T + 10)), one failed pixel, one that fills up at 1000 ADU."""
    place = ModelDir(tmp_path)
    values = {"A": 2.0, "gamma": 1.0, "B": 0.1}
    for name, path in place.maps("exp_2d").items():
        value = np.full(SHAPE, values[name], np.float32)
        bits = np.zeros(SHAPE, np.uint16)
        value[0, 0], bits[0, 0] = np.nan, int(DQ.FIT_FAILED)
        write_frame(path, Frame(value, np.zeros(SHAPE, np.float32), bits))
    covariance = np.zeros((6, *SHAPE), np.float32)
    covariance[0] = 0.01
    covariance[:, 0, 0] = np.nan
    write_frame(place.covariance("exp_2d"), Frame(covariance))
    level = np.full(12, np.nan, np.float32)
    level[5] = 1000.0
    write_frame(place.saturation_map, saturation_frame(Saturation(level, np.zeros(12, np.uint8), 60_000.0), SHAPE))
    return place


def test_description_round_trip(tmp_path: Path) -> None:
    one_axis = FittedModel("exp_1d", "texp10s", (-10.0, 0.0), (10.0, 10.0), Reference(-10.0), 0.0, None, 3)
    written = described(GRID, one_axis)
    write_description(tmp_path / "model.yaml", written)
    assert read_description(tmp_path / "model.yaml") == written


@pytest.mark.parametrize("text", ["", "chosen: exp_2d\n", "- a list\n", "{broken", "chosen: !!python/object:os.x {}"])
def test_a_damaged_description_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.yaml").write_text(text)
    with pytest.raises(ProductError, match="description"):
        read_description(tmp_path / "model.yaml")


def test_a_model_that_is_not_there_is_said_with_its_reason() -> None:
    with pytest.raises(DesignError, match="not asked"):
        described(GRID).find("exp_t")


def test_a_one_axis_model_serves_its_own_exposure_alone() -> None:
    short = FittedModel("exp_1d", "texp10s", (-10.0, 0.0), (10.0, 10.0), Reference(-10.0))
    long = FittedModel("exp_1d", "texp60s", (-10.0, 0.0), (60.0, 60.0), Reference(-10.0))
    both = described(short, long, chosen="exp_1d/texp10s")
    assert model_for(both, "auto", -5.0, 60.0) == "exp_1d/texp60s"
    assert model_for(both, "exp_1d", 20.0, 10.0) == "exp_1d/texp10s"
    with pytest.raises(DesignError, match="cannot make a dark"):
        model_for(both, "auto", -5.0, 30.0)


def test_a_dark_is_the_formula_with_its_error(folder: ModelDir) -> None:
    signal, error, dq = read_maps(folder, GRID).synthesize(-5.0, 100.0)
    truth = 2.0 * 100.0 * np.exp(0.5)
    assert signal[2, 2] == pytest.approx(truth, rel=1e-6)
    assert error[2, 2] == pytest.approx(0.1 * truth / 2.0, rel=1e-5)
    assert np.isnan(signal[0, 0])
    assert dq[0, 0] == int(DQ.FIT_FAILED)
    assert not dq[2, 2]


def test_no_pixel_exceeds_its_level(folder: ModelDir) -> None:
    signal, _, dq = read_maps(folder, GRID).synthesize(0.0, 300.0)
    assert signal[1, 1] == 1000.0
    assert dq[1, 1] & DQ.SATURATED
    assert signal[1, 2] == pytest.approx(600 * np.e, rel=1e-6)


def test_kernels_are_compiled_once_whether_pixels_share_their_level_or_not(folder: ModelDir) -> None:
    own, shared = read_maps(folder, GRID, slice(1, 2))._level, read_maps(folder, GRID, slice(2, 3))._level
    assert (own.size, shared.size) == (4, 1)
    assert typeof(own) == typeof(shared)  # of one that cannot be written to, numba makes another kernel


@pytest.mark.parametrize(
    ("temperature", "exposure", "outside"),
    [(-10.4, 10.0, False), (-10.6, 10.0, True), (0.0, 302.0, False), (0.0, 310.0, True), (12.0, 100.0, True)],
)
def test_extrapolation_is_flagged(folder: ModelDir, temperature: float, exposure: float, outside: bool) -> None:
    _, _, dq = read_maps(folder, GRID).synthesize(temperature, exposure)
    assert bool(dq[2, 2] & DQ.EXTRAPOLATED) is outside


def test_rows_of_maps_are_those_of_the_whole(folder: ModelDir) -> None:
    whole = read_maps(folder, GRID).synthesize(-5.0, 100.0)[0]
    part = read_maps(folder, GRID, slice(1, 3)).synthesize(-5.0, 100.0)[0]
    np.testing.assert_array_equal(part, whole[1:3])


def test_maps_in_memory_that_is_used_again_make_the_same_dark(folder: ModelDir) -> None:
    memory, whole = ThreadMemory(), read_maps(folder, GRID).synthesize(-5.0, 100.0)
    room = np.empty(SHAPE, np.float32), np.empty(SHAPE, np.float32), np.empty(SHAPE, np.uint16)
    for rows in (slice(0, 2), slice(2, 3)):
        signal, error, dq = room
        into = signal[rows], error[rows], dq[rows]
        made = read_maps(folder, GRID, rows, memory).synthesize(-5.0, 100.0, into)
        assert all(a is b for a, b in zip(made, into, strict=True))
    for a, b in zip(room, whole, strict=True):
        np.testing.assert_array_equal(a, b)


def test_every_model_has_a_file_for_each_parameter(tmp_path: Path) -> None:
    files = [p for name in MODELS for p in ModelDir(tmp_path).maps(name, "x").values()]
    assert len(files) == len(set(files)) == sum(len(m.parameters) for m in MODELS.values())
