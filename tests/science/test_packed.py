"""Vectors of eight against numpy, and what the machine is told to do."""

import platform
import re

import numpy as np
import pytest
from numba import njit

from darkpipe.science import error_sums, fit_loops, metrics_kernel, signal_level
from darkpipe.science.fit import Cells, Prior, fit_tile
from darkpipe.science.jit import kernel
from darkpipe.science.packed import (
    LANES,
    SINGLES,
    any_above,
    as_in,
    exponential,
    fetch,
    floored,
    larger,
    like,
    load,
    load_single,
    logarithm,
    magnitude,
    rounded,
    row,
    set_row,
    smaller,
    splat,
    square_root,
    store,
    store_single,
    times,
    top_bits,
    where_above,
)
from darkpipe.science.signal_level import measure, shape_at
from tests.made_masters import GRID_12, scene

X86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 instructions")


@kernel
def exponentials(x, out):
    for i in range(0, x.size, LANES):
        store(out, 0, i, exponential(load(x, 0, i)))


@kernel
def logarithms(x, out):
    for i in range(0, x.size, LANES):
        store(out, 0, i, logarithm(load(x, 0, i)))


@kernel
def arithmetic(a, b, out):
    for i in range(0, a.shape[1], LANES):
        x, y = load(a, 0, i), load(b, 0, i)
        store(out, 0, i, x + 2 * y)
        store(out, 1, i, 1.0 - x * y)
        store(out, 2, i, -x / y)
        store(out, 3, i, larger(x, y))
        store(out, 4, i, smaller(x, 0.5))
        store(out, 5, i, square_root(magnitude(x)))
        store(out, 6, i, where_above(x, y, x - y, 7))
        store(out, 7, i, rounded(10 * x))
        store(out, 8, i, splat(1.0 if any_above(x, splat(1e30)) else 0.0))


@kernel
def rounding(a, b, small, out, whole):
    for i in range(0, a.shape[1], LANES):
        x, y = load(a, 0, i), load(b, 0, i)
        store(out, 0, i, floored(x))
        store(out, 1, i, times(x, y) - y)
        store(out, 2, i, as_in(x, small))
        store(out, 3, i, as_in(x, a))
        store(out, 4, i, top_bits(magnitude(x)))
        store(whole, 0, i, 1e6 * magnitude(x))


def test_rounding_follows_numpy():
    rng = np.random.default_rng(4)
    a, b = (rng.normal(0, 30, (1, 4096)) for _ in range(2))
    out, whole = np.empty((5, 4096)), np.empty((1, 4096), np.uint32)
    rounding(a, b, np.empty(8, np.float32), out, whole)
    x, y = a[0], b[0]
    expected = [np.floor(x), x * y - y, x.astype(np.float32).astype(float), x, np.abs(x).view(np.int64) >> 42]
    for one, wanted in zip(out, expected, strict=True):
        np.testing.assert_array_equal(one, wanted)
    np.testing.assert_array_equal(whole[0], (1e6 * np.abs(x)).astype(np.uint32))


def test_exponentials_are_those_of_numpy():
    x = np.concatenate([np.random.default_rng(1).uniform(-690, 690, 4000), np.linspace(-1e-3, 1e-3, 96)])
    out = np.empty_like(x)
    exponentials(x, out)
    np.testing.assert_allclose(out, np.exp(x), rtol=1e-15)


def test_logarithms_are_those_of_numpy():
    rng = np.random.default_rng(3)
    x = np.concatenate(
        [np.exp(rng.uniform(-600, 600, 2000)), rng.uniform(0.5, 2.0, 2000), 1 + np.arange(-48, 48) * 1e-9]
    )
    out = np.empty_like(x)
    logarithms(x, out)
    np.testing.assert_allclose(out, np.log(x), rtol=2e-15, atol=1e-24)


def test_exponentials_of_what_is_no_number_are_none_or_huge():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 1e9, -1e9, 1.0, -0.0])
    out = np.empty_like(x)
    exponentials(x, out)
    np.testing.assert_allclose(out[3:], np.exp(np.clip(x[3:], -700, 700)), rtol=1e-15)
    np.testing.assert_allclose(out[1:3], np.exp([700.0, -700.0]), rtol=1e-15)


def expected(x, y):
    return [x + 2 * y, 1 - x * y, -x / y, np.maximum(x, y), np.minimum(x, 0.5), np.sqrt(np.abs(x)),
            np.where(x > y, x - y, 7), np.rint(10 * x), 0 * x]  # fmt: skip


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_lanes_follow_numpy(kind):
    rng = np.random.default_rng(2)
    a, b = (rng.normal(0, 1, (1, 64)).astype(kind) for _ in range(2))
    out = np.empty((9, 64))
    arithmetic(a, b, out)
    for one, wanted in zip(out, expected(a[0].astype(float), b[0].astype(float)), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-14, atol=1e-15)


@kernel
def in_single(a, whole, out, wide):
    for i in range(0, a.shape[1], SINGLES):
        x, y = load_single(a, 0, i), load_single(a, 1, i)
        fetch(a, 1, i + 4096)
        store_single(out, 0, i, x + 2 * y)
        store_single(out, 1, i, -x / y)
        store_single(out, 2, i, larger(x, smaller(y, 0.5)))
        store_single(out, 3, i, square_root(magnitude(x)))
        store_single(out, 4, i, where_above(x, y, x - y, 7))
        store_single(out, 5, i, like(x, 1.0 if any_above(x, y) else 0.0))
        store_single(out, 6, i, load_single(whole, 0, i))
        store_single(out, 7, i, exponential(20 * x))
        store_single(wide, 0, i, x)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
def test_sixteen_lanes_follow_numpy_in_single_precision(kind):
    rng = np.random.default_rng(5)
    a = rng.normal(0, 1, (2, 64)).astype(kind)
    whole = rng.integers(0, 65536, (1, 64)).astype(np.uint16)
    out, wide = np.full((8, 64), np.nan, np.float32), np.empty((1, 64))
    in_single(a, whole, out, wide)
    x, y = a.astype(np.float32)
    some = np.repeat((x > y).reshape(-1, SINGLES).any(axis=1), SINGLES)
    wanted = [x + 2 * y, -x / y, np.maximum(x, np.minimum(y, np.float32(0.5))), np.sqrt(np.abs(x)),
              np.where(x > y, x - y, 7), some, whole[0], np.exp(20 * x.astype(float))]  # fmt: skip
    assert 0 < (x > y).sum() < 64
    for one, right in zip(out, wanted, strict=True):
        np.testing.assert_allclose(one, right, rtol=3e-6)  # an argument of 60 has an error of 2e-6
    np.testing.assert_array_equal(wide[0], x)


@kernel
def turned(a, out):
    for k in range(a.shape[0]):
        set_row(out, a.shape[0] - 1 - k, 2.0 * row(a, k))


@pytest.mark.parametrize(("kind", "lanes"), [(np.float64, 8), (np.float32, SINGLES)])
def test_rows_are_read_and_written(kind, lanes):
    a = np.arange(5 * lanes, dtype=kind).reshape(5, lanes)
    out = np.empty_like(a)
    turned(a, out)
    np.testing.assert_array_equal(out, 2 * a[::-1])


def test_exponentials_in_single_precision_end_at_its_range():
    a = np.array([np.repeat([-1e9, -4.4, 0.0, 4.4, 1e9, 1e-8, -1e-8, 2.0], 2), np.zeros(16)], np.float32)
    out = np.empty((8, 16), np.float32)
    in_single(a, np.zeros((1, 16), np.uint16), out, np.empty((1, 16)))
    right = np.exp(np.clip((20 * a[0]).astype(float), -87, 87))
    np.testing.assert_allclose(out[7], right, rtol=8e-6)


def test_whole_numbers_are_read_and_written():
    a, b = np.arange(64, dtype=np.uint16)[None] * 1000, np.full((1, 64), 3, np.uint8)
    out = np.empty((9, 64), np.int16)
    arithmetic(a % 3000, b, out)
    np.testing.assert_array_equal(out[0], (a[0] % 3000) + 6)
    np.testing.assert_array_equal(out[3], np.maximum(a[0] % 3000, 3))


def assembly_of(function, *arguments):
    """Machine code of a kernel that is compiled afresh: what comes from the cache has none to show."""
    compiled = njit(nogil=True, error_model="numpy")(function.py_func)
    compiled(*arguments)
    return "\n".join(compiled.inspect_asm().values())


def recorded(monkeypatch, module, name, run):
    """The arguments that a kernel is called with."""
    seen = []
    monkeypatch.setattr(module, name, lambda *arguments: seen.append(arguments))
    run()
    monkeypatch.undo()
    return seen[0]


def packed_and_alone(assembly, division=True):
    """Vectors of float64 are multiplied, divided and added; and no library is asked for an exponential."""
    for operation in ("(mul|fn?m(add|sub)[0-9]*)", "(add|fn?m(add|sub)[0-9]*)", *(("div",) if division else ())):
        assert re.search(rf"\bv?{operation}pd\b", assembly), operation
    called = set(re.findall(r"(?:call\w*|movabsq)\s+\$?\*?([A-Za-z_]\w*)", assembly))
    return not {
        name for name in called if re.fullmatch(r"_?(exp|expf|exp2|pow|log|sqrt|rint|floor|fma|fmax|fmin)", name)
    }


@X86
def test_the_fit_is_packed(monkeypatch):
    from darkpipe.science import fit

    made = scene(np.full(16, 500.0))
    seen = recorded(monkeypatch, fit, "fit_packed", lambda: fit_tile_of(made))
    assembly = assembly_of(fit_loops.fit_packed, *seen)
    assert packed_and_alone(assembly)
    for operation in ("div", "sqrt", "mul", "fn?m(add|sub)[0-9]*"):  # the first steps
        assert re.search(rf"\bv?{operation}ps\b", assembly), operation
    assert re.search(r"\bprefetch", assembly)


def fit_tile_of(made):
    prior: Prior = made.prior()
    return fit_tile(made.problem, made.cells, prior, prior.mean.copy(), np.ones(GRID_12[0].size, bool))


@X86
def test_measuring_levels_is_packed(monkeypatch):
    made = scene(np.full(16, 500.0))
    shape = shape_at(made.problem, np.array([1.0, 0.12]))
    seen = recorded(monkeypatch, signal_level, "_measure", lambda: measure(shape, made.cells))
    assert packed_and_alone(assembly_of(signal_level._measure, *seen))


@X86
def test_errors_in_sample_are_packed(monkeypatch):
    made = scene(np.full(16, 500.0))
    cells: Cells = made.cells
    none = np.zeros(cells.group_variance_adu2.shape, np.float32)

    def run():
        return error_sums.in_sample_errors(
            made.problem.law, made.truth, cells.group, none, cells.signal_adu, np.full(16, np.float32(1e9)),
            np.zeros(16, bool),
        )  # fmt: skip

    seen = recorded(monkeypatch, error_sums, "_in_sample", run)
    assert packed_and_alone(assembly_of(error_sums._in_sample, *seen), division=False)


@X86
def test_errors_of_cells_are_counted_in_vectors():
    plane = np.ones(16, np.float32)
    planes = metrics_kernel.Planes(plane, plane, plane, plane, np.zeros(16, np.uint8), plane, np.empty(0, np.float32))
    arguments = planes, np.array([300.0]), metrics_kernel.new_tally(4)
    assert packed_and_alone(assembly_of(metrics_kernel.count_pixels, *arguments))
