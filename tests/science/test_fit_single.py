"""The first steps, in single precision: they are those of double precision, and leave alone what they cannot do."""

import numpy as np
import pytest

from darkpipe.science.fit import _pixels
from darkpipe.science.fit_packed import order_of
from darkpipe.science.fit_single import first_steps, load_sixteen, new_rough
from darkpipe.science.jit import kernel
from darkpipe.science.models import EXP_2D, TWO_COMPONENT
from darkpipe.science.models.families import evaluate
from darkpipe.science.packed import SINGLES, load_single
from tests.made_masters import scene


@kernel
def go(law, tile, order, start, out, about):
    rough = new_rough(tile.signal_adu.shape[0], tile.group_variance_adu2.shape[0], order)
    for i in range(0, start.shape[1], SINGLES):
        load_sixteen(law, tile, i, order, rough)
        own = load_single(tile.pixel_relative_variance, 0, i)
        first_steps(law, order, rough, tile.relative_variance, own, tile.prior_mean, tile.prior_precision, start, i)
        out[:, i : i + SINGLES] = rough.p
        about[:, i : i + SINGLES] = rough.about


def steps_of(made, prior, start):
    tile = _pixels(made.cells, prior)
    order = order_of(made.cells.group, made.cells.group_variance_adu2.shape[0], tile.station, made.problem.design)
    out, about = np.empty_like(start), np.empty(start.shape, np.float32)
    go(made.problem.law, tile, order, np.ascontiguousarray(start), out, about)
    return out, about


def two_steps(made, prior, start, i):
    """The same of one pixel in double precision, by the covariance of its cells."""
    cells, law, p = made.cells, made.problem.law, start[:, i].copy()
    rows, columns = np.triu_indices(3)
    precision, jacobian = np.zeros((3, 3)), np.empty((3, cells.signal_adu.shape[0]))
    precision[rows, columns] = precision[columns, rows] = prior.precision[:, i]
    shared = np.equal.outer(cells.group, cells.group) * cells.group_variance_adu2[cells.group, i]
    for _ in range(2):
        s = np.array([evaluate.py_func(law.family, law.x, k, p, jacobian) for k in range(jacobian.shape[1])])
        noise = cells.read_variance_adu2[i] + np.maximum(s, 0.0) / cells.gain_e_per_adu
        weight = np.linalg.inv(np.diag(noise / cells.count[:, i]) + shared)
        matrix = (jacobian @ weight @ jacobian.T + precision)[np.ix_(law.free, law.free)]
        pull = jacobian @ weight @ (cells.signal_adu[:, i] - s) + precision @ (prior.mean[:, i] - p)
        p[law.free] += np.linalg.solve(matrix, pull[law.free])
    return p


@pytest.mark.parametrize("model", [EXP_2D, TWO_COMPONENT])
def test_two_steps_are_those_of_double_precision(model):
    made = scene(np.geomspace(100.0, 30_000.0, 64), model=model, bias_sigma_adu=0.5)
    prior, fitted = made.prior(), made.fit()
    error = np.sqrt(fitted.covariance[[0, 3, 5]])
    free = error[:, 0] > 0
    start = fitted.parameters + error * np.resize([1.0, -1.0, 1.0], 64)
    found, about = steps_of(made, prior, start)
    right = np.stack([two_steps(made, prior, start, i) for i in range(64)], axis=1)
    assert np.median(np.abs(start - right)[free] / error[free]) > 0.9
    assert (np.abs(found - right)[free] < 2e-3 * error[free]).all()
    assert (about == [[made.cells.count.shape[0]], [free.sum()], [1.0]]).all()
    np.testing.assert_array_equal(found[~free], start[~free].astype(np.float32))


def test_what_single_precision_cannot_say_is_left_where_it_was():
    made = scene(np.full(32, 500.0))
    prior = made.prior()
    start = prior.mean.copy()
    start[0, ::2] = 1e30  # its square is beyond single precision
    prior.precision[:, ::2] = 0.0
    found, _ = steps_of(made, prior, start)
    np.testing.assert_array_equal(found[:, ::2], start[:, ::2].astype(np.float32))
    assert (found[:, 1::2] != start[:, 1::2]).any()
