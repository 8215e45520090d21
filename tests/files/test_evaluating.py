"""A master held against a model: in bands of every height, with maps shared and not, nothing comes out otherwise."""

import shutil
import tracemalloc

import numpy as np
import pytest
from helpers import CELL_NAMES, Campaign, planes

from darkpipe.files import bands, shared_maps
from darkpipe.files.evaluating import Held, held_out_plane
from darkpipe.files.layout import ModelDir, OutputDir
from darkpipe.files.masters import read_cells, read_reference
from darkpipe.files.model_maps import read_description, read_maps, saturation_frame
from darkpipe.files.products import read_shape, write_frame
from darkpipe.files.shared_maps import maps_of, maps_shared
from darkpipe.science.reduced import Reduced
from darkpipe.science.saturation import Saturation

MODEL = "two_component"


def held(campaign: Campaign, number: int = 4) -> Held:
    out = OutputDir(campaign.out)
    folder = ModelDir.at(campaign.model)
    cell = read_cells(out.groups)[number]
    description = read_description(folder.description)
    return Held(folder, description, MODEL, cell, read_reference(out.reference), out.master_dark(cell.name))


def same(a, b) -> bool:
    return (
        a.errors == b.errors
        and a.median_adu == b.median_adu
        and all(
            np.array_equal(getattr(a, name), getattr(b, name), equal_nan=True)
            for name in ("absolute", "bright", "signal")
        )
    )


def test_the_maps_are_those_of_the_planes(finished: Campaign) -> None:
    it = held(finished)
    master = planes(it.master)
    made = planes(finished.out / "synthetic" / f"synthetic_dark_{it.cell.name}.fits")
    found = it.compare(10_000)
    with np.errstate(invalid="ignore"):
        bright = np.where(master["SCI"] > 5 * master["ERR"], master["SCI"], np.nan)
    assert np.array_equal(found.absolute, np.abs(made["SCI"] - master["SCI"]), equal_nan=True)
    assert np.array_equal(found.bright, bright, equal_nan=True)
    assert np.array_equal(found.signal, made["SCI"], equal_nan=True)
    assert found.median_adu == np.median(master["SCI"][np.isfinite(master["SCI"])])
    left = it.residual(10_000)
    whole = Reduced.of(master["SCI"] - made["SCI"], 10_000)
    assert np.array_equal(left.small, whole.small, equal_nan=True)
    assert np.array_equal(left.sample, whole.sample)


def test_bands_and_shared_maps_change_nothing(finished: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    it = held(finished)
    expected, residual = it.compare(16), it.residual(16)
    with maps_shared():
        assert same(it.compare(16), expected)
        monkeypatch.setattr(bands, "BAND_BYTES", 1)
        assert same(it.compare(16), expected)
    assert same(it.compare(16), expected)
    found = it.residual(16)
    assert np.array_equal(found.small, residual.small, equal_nan=True)
    assert np.array_equal(found.sample, residual.sample)


def test_shared_maps_are_read_once_and_let_go(finished: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, model = ModelDir.at(finished.model), read_description(finished.model / "model.yaml").find(MODEL)
    asked = []

    def reading(folder, model, rows=slice(None), memory=None):
        asked.append(rows)
        return read_maps(folder, model, rows, memory)

    monkeypatch.setattr(shared_maps, "read_maps", reading)
    with maps_shared():
        with maps_shared():
            first = maps_of(folder, model, slice(0, 5))
        second = maps_of(folder, model, slice(3, 5))
    assert asked == [slice(0, read_shape(folder.hot_pixel_mask)[0])]  # all rows, once
    assert np.array_equal(first.parameters[:, 3:], second.parameters, equal_nan=True)
    maps_of(folder, model, slice(3, 5))
    assert asked[1:] == [slice(3, 5)]  # nobody shares any more
    monkeypatch.setattr(shared_maps, "MOST_BYTES", 1000)
    with maps_shared():
        maps_of(folder, model, slice(0, 2))
    assert asked[2:] == [slice(0, 2)]  # too large to hold


@pytest.mark.parametrize("own", [[], [(0, 0)], [(r, 1) for r in range(0, 200, 2)]])
def test_levels_of_saturation_are_shared_whoever_has_one(
    work: Campaign, monkeypatch: pytest.MonkeyPatch, own: list[tuple[int, int]]
) -> None:
    """Of all rows or some, or of none: what bands say is put together."""
    folder, model = ModelDir.at(work.model), read_description(work.model / "model.yaml").find(MODEL)
    shape = read_shape(folder.hot_pixel_mask)
    level = np.full(shape, np.nan, np.float32)
    for row, col in own:
        level[row % shape[0], col] = 1000.0 + row
    found = Saturation(level.ravel(), np.zeros(level.size, np.uint8), 60_000.0)
    write_frame(folder.saturation_map, saturation_frame(found, shape))
    expected = read_maps(folder, model)
    monkeypatch.setattr(bands, "BAND_BYTES", 1)
    with maps_shared():
        shared = maps_of(folder, model, slice(None))
    for name in ("parameters", "covariance", "dq", "saturation_adu"):
        assert np.array_equal(getattr(shared, name), getattr(expected, name), equal_nan=True)
    assert any(shared.saturation_adu.strides) == bool(own)


def test_a_map_that_was_replaced_is_read_anew(work: Campaign) -> None:
    folder, model = ModelDir.at(work.model), read_description(work.model / "model.yaml").find(MODEL)
    files = [*folder.maps(model.name, model.cell).values()]
    with maps_shared():
        before = maps_of(folder, model, slice(None)).parameters
        shutil.copyfile(files[1], files[0])
        after = maps_of(folder, model, slice(None)).parameters
    assert not np.array_equal(before, after, equal_nan=True)


def test_the_held_out_map_of_a_cell_is_its_own(finished: Campaign) -> None:
    path = ModelDir.at(finished.model).held_out_maps(MODEL, "")
    cube = planes(path)["SCI"]
    for number, name in enumerate(CELL_NAMES):
        plane = held_out_plane(path, name)
        assert plane is not None
        assert np.array_equal(plane, cube[number], equal_nan=True)
    assert held_out_plane(path, "none") is None


def test_no_plane_is_in_memory(finished: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bands of a few rows: what is held of a master does not grow with its rows."""
    it = held(finished)
    it.compare(4)
    peaks = []
    for height in (1 << 13, 1 << 30):
        monkeypatch.setattr(bands, "BAND_BYTES", height)
        tracemalloc.start()
        it.residual(4)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] < peaks[1] / 2
