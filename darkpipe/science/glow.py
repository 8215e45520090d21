"""Amplifier glow: whether a sensor has it, where, how bright, and what a pixel's fit may know of it beforehand.

Glow E [ADU/s] does not move with temperature, so the coldest and longest darks show it best. One pixel's masters tell
it badly, since dark current that does not quite follow its law looks the same. But glow comes from one place and falls
off from there, while whatever all pixels share (the law, temperatures, the pedestal) is the same everywhere. So it is
looked for in blocks of the sensor, as what exceeds the part of the sensor that glows least; that part tells how much
blocks differ for other reasons. A part that is the same everywhere cannot be told from dark current, and is not called
glow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.block_sums import sum_blocks
from darkpipe.science.fit import Cells, Fitted, Prior, Problem, fit_tile
from darkpipe.science.models.families import UNLIMITED, make_signal
from darkpipe.science.noise import robust_sigma
from darkpipe.science.population import Population, prior_and_start
from darkpipe.science.special import gammaincinv, gaussian_filter, ndtri

F4 = NDArray[np.float32]
F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

SMALLEST_SIDE, LARGEST_SIDE, BLOCKS_A_SIDE = 8, 32, 16
FEWEST_BLOCKS = 16  # to tell the blocks that glow from those that do not
FEWEST_PIXELS = 8  # of a block
CLIP = 5.0  # robust sigma of its block beyond which a pixel (hot, hit) is none of it, in any cell
LARGEST_COUNT = 60_000
FALSE_ALARM = 1e-5  # chance that noise alone is called glow, over all blocks of a sensor and their sizes
QUIET = 0.2  # of the sensor, where it glows least, tells the common level and the scatter of blocks
WIDE_BLOCKS = 3.0  # sigma of the smoothing that finds this part
QUIETEST = 0.06  # the same where glow reaches even there
FEWEST_QUIET = 4
LEVEL_ERROR = 0.1  # of the common level, by which blocks may differ
SIZES = (1, 2, 4)  # blocks a side that are looked at together: faint glow is wide
FOLLOWS = 2.0  # sigma of a block that is part of a larger one that glows
MEDIAN_OVER_MEAN = 1.2533  # error of a median over that of a mean
LARGEST_MISFIT = 0.1
KERNEL_RADIUS = 3  # blocks
LEAST_LOG_ERROR = 0.02  # of a block in the smoothing: no shape is truer than that in the logarithm
RIDGE = 1e-3  # of the weight of a neighbourhood
SCATTER = (0.005, 0.5)  # limits of the relative scatter of pixels about the smooth map
USUAL_SCATTER = 0.1
FEWEST_FOR_SCATTER = 200
SLOT_OF_DIAGONAL = (0, 3, 5)


def block_side(shape: tuple[int, int]) -> int:
    """Pixels a side of the blocks of a sensor (rows, cols)."""
    return min(max(min(shape) // BLOCKS_A_SIDE, SMALLEST_SIDE), LARGEST_SIDE)


def reduce_blocks(cells: Cells, usable: Bools, shape: tuple[int, int], side: int, most_frames: int) -> Cells:
    """Means over blocks, as masters of pixels that are read with less noise.

    A block is the mean over the same pixels in every cell, so that a law that is linear in its parameters holds for the
    mean as it does for each pixel; a median would not do.

    Parameters
    ----------
    cells : of all pixels of `shape` (rows, cols), flattened: whole rows of blocks. usable : (rows · cols,).
    most_frames : of any cell of the campaign; it settles a common factor of counts and gain.

    Returns
    -------
    Cells of ceil(rows/side) · ceil(cols/side) blocks; count 0 where a block has too few pixels.
    """
    grid = [-(-length // side) for length in shape]
    blocks, (n, groups) = grid[0] * grid[1], (len(cells.signal_adu), len(cells.group_variance_adu2))
    signal, count, bias = np.empty((n, blocks)), np.empty((n, blocks)), np.empty((groups, blocks))
    read, pixels = np.empty(blocks), np.empty(blocks, np.int64)
    run: Any = sum_blocks
    run(
        cells.signal_adu, cells.count, cells.group_variance_adu2, cells.read_variance_adu2, usable, *shape, side,
        np.float32(CLIP), signal, count, bias, read, pixels,
    )  # fmt: skip
    enough = pixels >= FEWEST_PIXELS
    factor = min(1.0, LARGEST_COUNT / (most_frames * side**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        return replace(
            cells,
            signal_adu=(signal / pixels).astype(np.float32),
            count=np.where(enough, np.maximum(np.rint(count / pixels * pixels * factor), 1), 0).astype(np.uint16),
            read_variance_adu2=(read / pixels * factor).astype(np.float32),
            gain_e_per_adu=cells.gain_e_per_adu / factor,
            group_variance_adu2=np.where(enough, bias / pixels / pixels, np.inf).astype(np.float32),
        )


def _blocked(plane: NDArray[np.generic], shape: tuple[int, int], side: int) -> F4:
    """(blocks, side²), NaN beyond the sensor's edge."""
    rows, cols = (-(-length // side) for length in shape)
    padded = np.full((rows * side, cols * side), np.nan, np.float32)
    padded[: shape[0], : shape[1]] = plane.reshape(shape)
    return padded.reshape(rows, side, cols, side).swapaxes(1, 2).reshape(rows * cols, side * side)


@dataclass(frozen=True)
class GlowBlocks:
    """Glow of the blocks of a sensor, as grids (rows, cols).

    value_adu_s, error_adu_s : excess over the common level and its 1 sigma, NaN where a block could not be fitted.
    glowing : blocks that glow. largest_sigma, threshold_sigma : of the clearest block, and from where on it counts.
    level_adu_s, level_error_adu_s : the common level that was subtracted. misfit : relative error of a block's cell
    that its residuals ask for. common_adu : (n,) residual that all blocks of a cell have in common.
    """

    value_adu_s: F8
    error_adu_s: F8
    glowing: Bools
    largest_sigma: float
    threshold_sigma: float
    level_adu_s: float
    level_error_adu_s: float
    misfit: float
    common_adu: F8

    @property
    def found(self) -> bool:
        """Whether the sensor glows."""
        return self.largest_sigma > self.threshold_sigma


def find_glow(problem: Problem, slot: int, cells: Cells, grid: tuple[int, int]) -> GlowBlocks:
    """Fit a model with glow to the blocks and look for those that exceed the rest.

    What remains, on the median over blocks, in a cell is common to all (its temperature, the pedestal, a law that is
    not quite true) and is taken out before the final fit.

    Parameters
    ----------
    problem : of a model with glow; slot : of its E. cells : means of blocks (`reduce_blocks`). grid : their rows, cols.
    """
    flat = replace(cells, extra_variance_adu2=np.zeros_like(cells.extra_variance_adu2))
    fitted, _ = _fit_with_misfit(problem, flat)
    common = _common_residual(problem, flat, fitted)
    flat = replace(flat, signal_adu=(flat.signal_adu - common[:, None]).astype(np.float32))
    fitted, misfit = _fit_with_misfit(problem, flat)
    value = fitted.parameters[slot].reshape(grid)
    error = np.sqrt(fitted.covariance[SLOT_OF_DIAGONAL[slot]]).reshape(grid)
    known = np.isfinite(value) & np.isfinite(error) & (error > 0)
    value, error = np.where(known, value, np.nan), np.where(known, error, np.nan)
    if known.sum() < FEWEST_BLOCKS:
        return GlowBlocks(value, error, np.zeros(grid, np.bool_), 0.0, math.inf, 0.0, math.inf, misfit, common)
    quiet = _quiet(value, error, QUIET)
    scale = max(float(robust_sigma((value[quiet] - np.median(value[quiet])) / error[quiet])), 1.0)
    level, level_error = _level(value, error * scale, quiet)
    # a law that is not quite true errs in proportion to the dark current
    dark = np.where(known, (fitted.parameters[0] + (fitted.parameters[1] if slot == 2 else 0.0)).reshape(grid), np.nan)
    value = value - level * dark / float(np.median(dark[quiet]))
    error = np.hypot(error * scale, LEVEL_ERROR * level)
    glowing, largest, threshold = _significant(value, error, quiet)
    return GlowBlocks(value, error, glowing, largest, threshold, level, level_error, misfit, common)


def _fit(problem: Problem, cells: Cells) -> Fitted:
    prior, start = prior_and_start(problem, Population(), cells.free_level)
    return fit_tile(problem, cells, prior, start)


def _fit_with_misfit(problem: Problem, cells: Cells) -> tuple[Fitted, float]:
    """The fit with the relative error of each cell that brings the median of chi² where it belongs."""

    def excess(relative: float) -> float:
        fitted = _fit(problem, cells.with_relative_error(relative))
        told = np.isfinite(fitted.chi2) & (fitted.dof > 0)
        if not told.any():
            return 0.0
        dof = fitted.dof[told].astype(float)
        return float(np.median(fitted.chi2[told] / (2.0 * gammaincinv(0.5 * dof, 0.5)))) - 1.0

    low, high = 1e-5, LARGEST_MISFIT
    if not excess(0.0) > 0:
        return _fit(problem, cells), 0.0
    for _ in range(10):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return _fit(problem, cells.with_relative_error(high)), high


def _common_residual(problem: Problem, cells: Cells, fitted: Fitted) -> F8:
    """(n,) median over blocks of master - model [ADU]."""
    p = tuple(fitted.parameters.astype(np.float32))
    common = np.zeros(cells.signal_adu.shape[0])
    for k, group in enumerate(cells.group):
        value = np.empty(cells.signal_adu.shape[1], np.float32)
        make_signal(problem.family, np.ascontiguousarray(problem.design[:, k : k + 1]), p, UNLIMITED, value)
        left = cells.signal_adu[k] - value - fitted.offset_adu[group]
        left = left[np.isfinite(left) & (cells.count[k] > 0)]
        common[k] = np.median(left) if left.size else 0.0
    return common


def _level(value: F8, error: F8, quiet: Bools) -> tuple[float, float]:
    """The common level and its 1 sigma: that of the quiet part, or of its quietest corner if the rest is raised."""

    def middle(where: Bools) -> tuple[float, float]:
        sigma = MEDIAN_OVER_MEAN * float(np.median(error[where])) / math.sqrt(where.sum())
        return float(np.median(value[where])), sigma

    broad, corner = middle(quiet), middle(_quiet(value, error, QUIETEST))
    return corner if broad[0] - corner[0] > 2.0 * corner[1] else broad


def _quiet(value: F8, error: F8, part: float) -> Bools:
    """The part of the sensor that glows least: the lowest blocks of a map that is smoothed so far that noise hardly
    chooses."""
    known = np.isfinite(value)
    weight = np.where(known, 1.0 / error**2, 0.0)
    total = gaussian_filter(weight, WIDE_BLOCKS, mode="constant")
    wide = gaussian_filter(weight * np.where(known, value, 0.0), WIDE_BLOCKS, mode="constant")
    with np.errstate(invalid="ignore", divide="ignore"):
        wide = np.where(known, wide / total, np.inf)
    return np.asarray(known & (wide <= np.quantile(wide[known], part)), np.bool_)


def _significant(value: F8, error: F8, quiet: Bools) -> tuple[Bools, float, float]:
    """Which blocks glow, alone or together with their neighbours; the largest excess and its threshold, in sigma."""
    tests = []
    for size in SIZES:
        together, sigma = _joined(value, error, size)
        still = _joined(quiet.astype(float), np.ones(quiet.shape), size)[0] > 0.5
        known = np.isfinite(together)
        if known.sum() < FEWEST_BLOCKS or (known & still).sum() < FEWEST_QUIET:
            break
        z = np.where(known, together / sigma, -np.inf)
        # neighbours may have errors in common
        tests.append((size, z / max(float(robust_sigma(z[known & still])), 1.0)))
    trials = sum(int(np.isfinite(z).sum()) for _, z in tests)
    if not trials:
        return np.zeros(value.shape, np.bool_), 0.0, math.inf
    threshold = float(-ndtri(FALSE_ALARM / trials))
    alone = np.where(np.isfinite(value), value / error, -np.inf)
    glowing = alone > threshold
    for size, z in tests[1:]:
        wide = np.kron(z > threshold, np.ones((size, size), np.bool_))[: alone.shape[0], : alone.shape[1]]
        glowing |= wide & (alone > FOLLOWS)
    return glowing, max(float(z.max()) for _, z in tests), threshold


def _joined(value: F8, error: F8, size: int) -> tuple[F8, F8]:
    """Weighted mean and 1 sigma of squares of size x size blocks."""
    weight = np.where(np.isfinite(value), 1.0 / error**2, 0.0)
    parts = []
    for plane in (weight, weight * np.where(np.isfinite(value), value, 0.0)):
        rows, cols = (-(-length // size) * size for length in plane.shape)
        padded = np.zeros((rows, cols))
        padded[: plane.shape[0], : plane.shape[1]] = plane
        parts.append(padded.reshape(rows // size, size, cols // size, size).sum(axis=(1, 3)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return parts[1] / parts[0], 1.0 / np.sqrt(parts[0])


@dataclass(frozen=True)
class GlowField:
    """Smooth glow of a sensor: around the centre of each block a parabola in u = asinh(E/2h), which is linear in E
    where it is faint and in its logarithm where it is bright, where glow falls off about exponentially.

    parabolas : (6, rows, cols) of blocks, coefficients of 1, y, x, y², xy, x² with y, x in blocks from the centre.
    error : (rows, cols) 1 sigma of u there. half_adu_s : h. scatter : relative scatter of pixels about the smooth map.
    floor_adu_s : error of the common level. side : pixels of a block.
    """

    parabolas: F8
    error: F8
    half_adu_s: float
    scatter: float
    floor_adu_s: float
    side: int

    def at(self, rows: slice, shape: tuple[int, int]) -> tuple[F8, F8]:
        """Glow and its 1 sigma [ADU/s] of the pixels of some rows of a sensor of this shape, flattened."""
        down = _around(np.arange(rows.start, rows.stop), shape[0], self.side)
        across = _around(np.arange(shape[1]), shape[1], self.side)
        u, sigma = np.zeros((down[0][0].size, shape[1])), np.zeros((down[0][0].size, shape[1]))
        for i, y, share_y in down:
            for j, x, share_x in across:
                share = share_y[:, None] * share_x
                for c, basis in zip(self.parabolas, _basis(y[:, None], x[None, :]), strict=True):
                    u += share * c[np.ix_(i, j)] * basis
                sigma += share * self.error[np.ix_(i, j)]
        value = 2.0 * self.half_adu_s * np.sinh(u)
        error = 2.0 * self.half_adu_s * np.cosh(u) * sigma
        total = np.sqrt(error**2 + (self.scatter * value) ** 2 + self.floor_adu_s**2)
        return value.ravel(), total.ravel()


def _basis(y: F8, x: F8) -> tuple[F8, ...]:
    return (np.ones_like(y + x), y + 0 * x, x + 0 * y, y * y + 0 * x, y * x, x * x + 0 * y)


def smooth(blocks: GlowBlocks, shape: tuple[int, int], side: int, scatter: float = USUAL_SCATTER) -> GlowField:
    """The blocks as a smooth field over a sensor of this shape (rows, cols).

    The mean over a block is not the value in its middle where glow is steep; what the field makes of this difference is
    taken out, and the field made again.
    """
    known = np.isfinite(blocks.value_adu_s)
    typical = float(np.median(blocks.error_adu_s[known]))
    value = np.where(known, blocks.value_adu_s, 0.0)
    field = _field(
        value,
        blocks.error_adu_s,
        known,
        typical,
        GlowField(_NONE, _NONE, typical, scatter, blocks.level_error_adu_s, side),
    )
    middle = 2.0 * field.half_adu_s * np.sinh(field.parabolas[0])
    means = np.empty(value.shape)
    for row in range(value.shape[0]):
        rows = slice(row * side, min((row + 1) * side, shape[0]))
        pixels = field.at(rows, shape)[0]
        means[row] = np.nanmean(_blocked(pixels, (rows.stop - rows.start, shape[1]), side), axis=1)
    return _field(value - (means - middle), blocks.error_adu_s, known, typical, field)


_NONE = np.zeros((0, 0))


def _field(value: F8, error: F8, known: Bools, typical: float, like: GlowField) -> GlowField:
    """A field like another through these values of blocks."""
    half = 2.0 * typical
    u = np.arcsinh(value / (2.0 * half))
    sigma = np.where(known, error, 1.0) / (2.0 * half * np.cosh(u))
    weight = np.where(known, 1.0 / (sigma**2 + LEAST_LOG_ERROR**2), 0.0)
    parabolas, sigma = _local_parabolas(u, weight)
    return replace(like, parabolas=parabolas, error=sigma, half_adu_s=half)


def _local_parabolas(u: F8, weight: F8) -> tuple[F8, F8]:
    """(6, rows, cols) parabolas fitted to the neighbourhood of each place with Gaussian weights of one block, and the
    1 sigma of their value in the middle (Loader 1999, *Local Regression and Likelihood*).

    u : (rows, cols), weight : inverse variances.
    """
    r = KERNEL_RADIUS
    padded, inverse = np.pad(u, r), np.pad(weight, r)
    rows, cols = u.shape
    normal, spread, right = np.zeros((rows, cols, 6, 6)), np.zeros((rows, cols, 6, 6)), np.zeros((rows, cols, 6))
    for i in range(-r, r + 1):
        for j in range(-r, r + 1):
            kernel = math.exp(-0.5 * (i * i + j * j))
            w = inverse[r + i : r + i + rows, r + j : r + j + cols]
            basis = np.array(_basis(np.float64(i), np.float64(j)))  # type: ignore[arg-type]
            product = np.outer(basis, basis)
            normal += kernel * w[..., None, None] * product
            spread += kernel**2 * w[..., None, None] * product
            right += kernel * (w * padded[r + i : r + i + rows, r + j : r + j + cols])[..., None] * basis
    # few neighbours tell no curvature, nor a slope; the value in the middle is held by nothing else
    normal += RIDGE * normal[..., :1, :1] * np.diag([0.0, 1.0, 1.0, 1.0, 1.0, 1.0]) + 1e-30 * np.eye(6)
    inverse_normal = np.linalg.inv(normal)
    value = (inverse_normal @ right[..., None])[..., 0]
    variance = (inverse_normal @ spread @ inverse_normal)[..., 0, 0]
    return np.moveaxis(value, -1, 0), np.sqrt(np.maximum(variance, 0.0))


def _around(position: NDArray[np.int64], length: int, side: int) -> list[tuple[NDArray[np.int64], F8, F8]]:
    """Of pixels along an axis, for the block before and the one after: its number, how far the pixel lies from its
    centre [blocks], and its share in the pixel."""
    starts = np.arange(0, length, side)
    centres = 0.5 * (starts + np.minimum(starts + side, length) - 1)
    before = np.clip(np.searchsorted(centres, position) - 1, 0, centres.size - 1)
    after = np.minimum(before + 1, centres.size - 1)
    gap = np.maximum(centres[after] - centres[before], 1.0)
    share = np.clip((position - centres[before]) / gap, 0.0, 1.0)
    return [
        (block, (position - centres[block]) / side, part) for block, part in ((before, 1.0 - share), (after, share))
    ]


def find_scatter(problem: Problem, slot: int, cells: Cells, blocks: GlowBlocks, expected: F8, error: F8) -> float:
    """Relative scatter of glowing pixels about the smooth map, beyond the errors of both.

    Parameters
    ----------
    cells : masters of pixels that glow, (n, P). expected, error : (P,) of the smooth map, its scatter left out.
    """
    shifted = replace(cells, signal_adu=(cells.signal_adu - blocks.common_adu[:, None]).astype(np.float32))
    fitted = _fit(problem, shifted.with_relative_error(blocks.misfit))
    off = fitted.parameters[slot] - blocks.level_adu_s - expected
    variance = fitted.covariance[SLOT_OF_DIAGONAL[slot]] + error**2
    good = np.isfinite(off) & np.isfinite(variance)
    if good.sum() < FEWEST_FOR_SCATTER:
        return USUAL_SCATTER
    off, variance, expected = off[good], variance[good], expected[good]
    low, high = SCATTER
    for _ in range(12):
        middle = math.sqrt(low * high)
        wide = robust_sigma(off / np.sqrt(variance + (middle * expected) ** 2)) > 1.0
        low, high = (middle, high) if wide else (low, middle)
    return float(f"{high:.4g}")


def with_glow(prior: Prior, start: F8, slot: int, expected: F8, error: F8) -> tuple[Prior, F8]:
    """Prior and start values (3, P) that know of the smooth glow of each pixel and its 1 sigma [ADU/s], (P,)."""
    mean, precision, first = prior.mean.copy(), prior.precision.copy(), start.copy()
    mean[slot] = first[slot] = expected
    precision[SLOT_OF_DIAGONAL[slot]] = 1.0 / error**2
    return replace(prior, mean=mean, precision=precision), first
