"""A dark together with the bias that it is added to: the error of that bias is in both."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from darkpipe.files.bias_files import T_REF
from darkpipe.files.layout import ModelDir
from darkpipe.files.model_maps import BY_BIAS, Description, FittedModel, ModelMaps
from darkpipe.files.products import read_header, read_planes
from darkpipe.science.bias import covariance_with
from darkpipe.science.models import MODELS
from darkpipe.science.quadrature import quadrature

F4 = NDArray[np.float32]


def shared_variance(
    folder: ModelDir,
    description: Description,
    maps: ModelMaps,
    temperature_c: float,
    exposure_s: float,
    rows: slice = slice(None),
) -> F4 | None:
    """Twice the covariance [ADU²] of a dark with the bias at its temperature, (rows, cols); None where none is known.

    The bias went out of the masters, so the dark came out low where the bias came out high: it is mostly negative.

    Parameters
    ----------
    maps : of these rows. exposure_s : as the camera states it.
    """
    planes = folder.product(folder.covariance(maps.model.name, maps.model.cell))
    number = _shared_parameters(folder, description, maps.model)
    if number == 0:
        return None
    by_bias = read_planes(planes, [BY_BIAS], rows)[0].reshape(2, number, *maps.dq.shape)
    line = folder.product(folder.bias_line)
    (covariance,) = read_planes(line, ["COVAR"], rows)
    t_ref = float(read_header(line)[T_REF])
    shared = covariance_with(covariance, t_ref, temperature_c, maps.model.reference.temperature_c)
    step = np.zeros((3, *maps.dq.shape), np.float32)
    for k, parameter in enumerate(MODELS[maps.model.name].parameters):
        step[parameter.slot] = by_bias[0, k] * shared[0] + by_bias[1, k] * shared[1]
    change = maps.change(temperature_c, description.accumulated(exposure_s), step)
    if description.bias_exposure_s > 0:
        # the bias frames were short darks and hold that much of the signal already
        change = change - maps.change(temperature_c, description.bias_exposure_s, step)
    return np.asarray(2.0 * change, np.float32)


def knows_shared(folder: ModelDir, description: Description, model: FittedModel) -> bool:
    """Whether `shared_variance` of a model is known."""
    return _shared_parameters(folder, description, model) > 0


def _shared_parameters(folder: ModelDir, description: Description, model: FittedModel) -> int:
    """Of how many parameters it is known how they move with the bias."""
    if not (description.has_bias and folder.has(folder.bias_line)):
        return 0  # the level was fitted: its line says nothing of the parameters
    # a model of an earlier version has no such planes
    return int(read_header(folder.product(folder.covariance(model.name, model.cell))).get(BY_BIAS, 0))


def error_of_sum(error: F4, bias_error: F4, shared_adu2: F4 | None) -> F4:
    """1 sigma of dark and bias together [ADU]; no less than the difference of theirs, which no covariance exceeds.
    Without `shared_adu2` it is an upper limit."""
    apart = quadrature(error, bias_error)
    if shared_adu2 is None:
        return np.asarray(apart, np.float32)
    least = (error - bias_error) ** 2
    return np.asarray(np.sqrt(np.maximum(apart**2 + shared_adu2, least)), np.float32)
