"""Amplifier glow: found where it is, not where it is not, and known to a pixel's fit without costing it noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_masters import F8, grid, spread

from darkpipe.science.design import make_unit
from darkpipe.science.fit import Cells, Problem, fit_tile
from darkpipe.science.glow import (
    GlowBlocks,
    block_side,
    find_glow,
    find_scatter,
    reduce_blocks,
    smooth,
    with_glow,
)
from darkpipe.science.models import EXP_2D_GLOW, TWO_COMPONENT_GLOW, Model
from darkpipe.science.population import Population, prior_and_start, problem_for

SIDE = 96
SHAPE = (SIDE, SIDE)
CELLS = grid([-20, -10, 0], [30, 100, 300])
FRAMES, READ_NOISE, GAIN = 8, 3.0, 1.0
MODELS = (TWO_COMPONENT_GLOW, EXP_2D_GLOW)


def truth_of(model: Model, glow: F8, seed: int) -> F8:
    """(3, P) parameters of a sensor: G, D, E or A, E, B."""
    rng = np.random.default_rng(seed)
    bulk = 0.2 * np.exp(rng.normal(0, 0.25, glow.size))
    hot = np.where(rng.random(glow.size) < 0.01, 10 ** rng.uniform(0, 2, glow.size), 0.0)
    if model is TWO_COMPONENT_GLOW:
        return np.stack([0.5 * bulk + 0.2 * hot, 0.5 * bulk, glow])
    return np.stack([bulk + 0.2 * hot, glow, np.where(hot > 0, 0.1, 0.125)])


def corner(peak: float) -> F8:
    """Glow of a corner, falling off to 1/e within 15 pixels, (P,)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    return np.asarray(peak * np.exp(-np.hypot(y, x - SIDE + 1) / 15.0)).ravel()


def made(model: Model, glow: F8, seed: int = 1, **noise: float) -> tuple[Problem, Cells, F8]:
    """Problem, masters and true parameters of a sensor; `drift` a cell [ADU], `jitter` a cell [relative]."""
    temperature, exposure = CELLS
    rng = np.random.default_rng([seed, 1])
    unit = make_unit(model, "", tuple(range(temperature.size)), temperature, exposure, -10.0, 1.12)
    problem = problem_for(model, temperature, exposure, unit.fit_reference)
    truth = truth_of(model, glow, seed)
    x = problem.design
    if model is TWO_COMPONENT_GLOW:
        dark = np.einsum("in,ip->np", x[:2], truth[:2])
        signal = dark + x[2][:, None] * truth[2]
    else:
        dark = x[0][:, None] * truth[0] * np.exp(x[1][:, None] * truth[2])
        signal = dark + x[0][:, None] * truth[1]
    signal = signal + noise.get("jitter", 0.0) * rng.normal(size=(temperature.size, 1)) * dark
    values = rng.poisson(signal * GAIN * FRAMES) / (GAIN * FRAMES)
    values = values + rng.normal(size=signal.shape) * READ_NOISE / np.sqrt(FRAMES)
    values += noise.get("drift", 0.0) * rng.normal(size=(temperature.size, 1))
    group = np.unique(temperature, return_inverse=True)[1].astype(np.int64)
    pixels = glow.size
    cells = Cells(
        values.astype(np.float32), np.full(signal.shape, FRAMES, np.uint16), np.full(pixels, READ_NOISE**2, np.float32),
        GAIN, np.zeros(temperature.size), np.zeros(temperature.size), group, np.zeros((3, pixels), np.float32),
    )  # fmt: skip
    return problem, cells, truth


def searched(model: Model, problem: Problem, cells: Cells) -> GlowBlocks:
    side = block_side(SHAPE)
    assert model.glow_slot is not None
    blocks = reduce_blocks(cells, np.ones(SIDE**2, np.bool_), SHAPE, side, FRAMES)
    return find_glow(problem, model.glow_slot, blocks, (-(-SIDE // side),) * 2)


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_glow_is_found_and_is_what_it_is(model: Model) -> None:
    glow = corner(0.2)
    problem, cells, _ = made(model, glow)
    found = searched(model, problem, cells)
    assert found.found
    assert found.glowing[0, -1]
    assert not found.glowing[-3:, :3].any()
    side = block_side(SHAPE)
    truth = glow.reshape(SIDE // side, side, SIDE // side, side).mean(axis=(1, 3))
    pull = (found.value_adu_s - truth) / found.error_adu_s
    assert spread(pull) == pytest.approx(1.0, abs=0.25)
    assert abs(np.median(pull)) < 0.6  # the common level is known to a part of a block's error


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_none_is_found_where_there_is_none(model: Model, seed: int) -> None:
    problem, cells, _ = made(model, np.zeros(SIDE**2), seed, drift=0.3, jitter=0.01)
    found = searched(model, problem, cells)
    assert not found.found
    assert not found.glowing.any()
    assert found.largest_sigma < found.threshold_sigma


def test_what_is_the_same_everywhere_is_not_glow() -> None:
    problem, cells, _ = made(TWO_COMPONENT_GLOW, np.full(SIDE**2, 0.1))
    found = searched(TWO_COMPONENT_GLOW, problem, cells)
    assert not found.found
    assert found.level_adu_s == pytest.approx(0.1, abs=5 * found.level_error_adu_s)


def test_a_level_that_drifts_from_cell_to_cell_hides_no_glow() -> None:
    glow = corner(0.1)
    problem, cells, _ = made(TWO_COMPONENT_GLOW, glow, drift=2.0, jitter=0.02)
    found = searched(TWO_COMPONENT_GLOW, problem, cells)
    assert found.found
    assert found.glowing[0, -1]


def test_a_block_of_hot_pixels_is_no_glow() -> None:
    problem, cells, _ = made(TWO_COMPONENT_GLOW, np.zeros(SIDE**2))
    signal = cells.signal_adu.reshape(-1, SIDE, SIDE).copy()
    signal[:, 40:44, 40:44] += 30.0 * problem.design[0][:, None, None].astype(np.float32)
    found = searched(TWO_COMPONENT_GLOW, problem, replace(cells, signal_adu=signal.reshape(cells.signal_adu.shape)))
    assert not found.found


def test_a_sensor_of_few_blocks_is_not_searched() -> None:
    problem, cells, _ = made(TWO_COMPONENT_GLOW, corner(1.0))
    few = cells.at(np.arange(SIDE * 16))
    blocks = reduce_blocks(few, np.ones(SIDE * 16, np.bool_), (16, SIDE), 16, FRAMES)
    found = find_glow(problem, 2, blocks, (1, 6))
    assert not found.found
    assert np.isinf(found.threshold_sigma)


def test_a_mean_over_a_block_is_that_of_its_pixels() -> None:
    _, cells, _ = made(TWO_COMPONENT_GLOW, np.zeros(SIDE**2))
    usable = np.ones(SIDE**2, np.bool_)
    usable[: 8 * SIDE] = False  # the first row of blocks
    signal = cells.signal_adu.copy()
    signal[3, 20 * SIDE + 20] = np.nan  # absent in one cell: absent in all
    blocks = reduce_blocks(replace(cells, signal_adu=signal), usable, SHAPE, 8, FRAMES)
    assert (blocks.count[:, :12] == 0).all()
    assert (blocks.count[:, 12:] > 0).all()
    # variance of a mean of N pixels: the N-th part, whatever is held in count, read noise and gain
    number = blocks.count[0] * (GAIN / blocks.gain_e_per_adu) ** -1 / FRAMES
    assert np.median(number[12:]) == pytest.approx(64, abs=2)
    variance = blocks.read_variance_adu2[12:] / blocks.count[0, 12:]
    np.testing.assert_allclose(variance, READ_NOISE**2 / FRAMES / number[12:], rtol=0.02)


def test_large_cells_do_not_overflow_their_count() -> None:
    _, cells, _ = made(TWO_COMPONENT_GLOW, np.zeros(SIDE**2))
    many = replace(cells, count=np.full(cells.count.shape, 900, np.uint16))
    blocks = reduce_blocks(many, np.ones(SIDE**2, np.bool_), SHAPE, 32, 900)
    shot = 1.0 / (blocks.gain_e_per_adu * blocks.count[0])
    np.testing.assert_allclose(shot, 1.0 / (GAIN * 900 * 1024), rtol=0.03)  # a few pixels of each are hot


def test_the_smooth_map_follows_the_glow_between_blocks_and_at_the_edge() -> None:
    glow = corner(0.4)
    problem, cells, _ = made(TWO_COMPONENT_GLOW, glow)
    found = searched(TWO_COMPONENT_GLOW, problem, cells)
    side = block_side(SHAPE)
    field = smooth(found, SHAPE, side)
    value, error = field.at(slice(0, SIDE), SHAPE)
    bright = glow > 0.04
    assert np.median(np.abs(value[bright] / glow[bright] - 1.0)) < 0.03
    assert value.reshape(SHAPE)[0, -1] == pytest.approx(0.4, rel=0.15)
    far = glow < 0.001
    assert np.sqrt(np.mean(((value - glow) / error)[far] ** 2)) < 1.5
    assert np.median(error[far]) < 0.7 * np.nanmedian(found.error_adu_s)
    rows = [field.at(slice(r, r + 7), SHAPE)[0] for r in range(0, 91, 7)]
    np.testing.assert_allclose(np.concatenate(rows), value[: 91 * SIDE])  # bands make the same map


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_a_fit_that_knows_the_glow_is_right_and_costs_no_noise(model: Model) -> None:
    glow = corner(0.2)
    problem, cells, truth = made(model, glow)
    found = searched(model, problem, cells)
    side, slot = block_side(SHAPE), model.glow_slot
    assert slot is not None
    field = smooth(found, SHAPE, side, 0.0)
    field = replace(field, scatter=find_scatter(problem, slot, cells, found, *field.at(slice(0, SIDE), SHAPE)))
    assert field.scatter < 0.1
    prior, start = prior_and_start(problem, Population(), cells.free_level)
    informed, first = with_glow(prior, start, slot, *field.at(slice(0, SIDE), SHAPE))
    fitted, alone = fit_tile(problem, cells, informed, first), fit_tile(problem, cells, prior, start)
    diagonal = (0, 3, 5)
    for parameter in set(range(3)) - {slot}:
        pull = (fitted.parameters[parameter] - truth[parameter]) / np.sqrt(fitted.covariance[diagonal[parameter]])
        assert spread(pull) == pytest.approx(1.0, abs=0.05)
    off = (fitted.parameters[slot] - glow) / np.sqrt(fitted.covariance[diagonal[slot]])
    assert np.sqrt(np.median(off**2)) < 1.2
    ratio = np.sqrt(alone.covariance[0] / fitted.covariance[0])
    assert np.median(ratio) > 1.2  # a free glow in every pixel would cost so much
    assert np.abs(fitted.parameters[slot] - glow).mean() < 0.01


def test_pixels_that_scatter_about_the_map_are_seen() -> None:
    rng = np.random.default_rng(5)
    glow = corner(3.0)
    problem, cells, _ = made(TWO_COMPONENT_GLOW, glow * (1 + 0.1 * rng.normal(size=glow.size)))
    found = searched(TWO_COMPONENT_GLOW, problem, cells)
    field = smooth(found, SHAPE, block_side(SHAPE), 0.0)
    value, error = field.at(slice(0, SIDE), SHAPE)
    bright = np.flatnonzero(glow > 0.5)
    scatter = find_scatter(problem, 2, cells.at(bright), found, value[bright], error[bright])
    assert scatter == pytest.approx(0.1, abs=0.02)
