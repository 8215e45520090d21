"""What the residuals of a fit that failed look like: smooth in temperature and exposure, or scattered.

A pixel that is not linear leaves residuals that follow exposure and temperature; one whose current switches between two
values leaves masters high and low without order, since each master caught it in its own share of both.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
Bools = NDArray[np.bool_]

CELLS_A_TERM = 2  # cells that each term of the smooth surface needs, for its remainder to say anything
SCATTERED = 0.5  # share of the mean square that is left beside the surface, from which on residuals have no order


def smooth_terms(temperature_c: F8, exposure_s: F8) -> F8 | None:
    """(n, m) terms of a quadratic in temperature and the logarithm of the exposure, as far as n cells carry it; None
    where they are too few to tell smooth from scattered."""
    columns, slopes = [np.ones(np.shape(temperature_c))], []
    for values in (np.asarray(temperature_c, float), np.log(np.maximum(np.asarray(exposure_s, float), 1e-9))):
        different = np.unique(values.round(3)).size
        if different > 1:
            centred = (values - values.mean()) / np.ptp(values)
            slopes.append(centred)
            columns += [centred**power for power in range(1, min(different, 3))]
    if len(slopes) == 2:
        columns.append(slopes[0] * slopes[1])
    terms = np.stack(columns, axis=1)
    return terms if slopes and terms.shape[0] >= CELLS_A_TERM * terms.shape[1] else None


def scattered(pull: F8, strength: F8, temperature_c: F8, exposure_s: F8) -> Bools:
    """(P,) whether the residuals of a pixel are without order: what a smooth surface leaves of their mean square, per
    degree of freedom, is more than `SCATTERED`. The surface is one of the relative residuals.

    Parameters
    ----------
    pull, strength : (n, P) residuals and signal, both over the error of the residual; NaN takes no part.
    temperature_c, exposure_s : (n,).
    """
    out = np.zeros(pull.shape[1], np.bool_)
    terms = smooth_terms(temperature_c, exposure_s)
    if terms is None:
        return out
    known = np.isfinite(pull) & np.isfinite(strength)
    n, m = known.sum(axis=0), terms.shape[1]
    enough = n >= CELLS_A_TERM * m
    values = np.where(known, pull, 0.0).T[enough]
    weight = np.where(known, strength, 0.0).T[enough]
    basis = np.linalg.qr(terms[None] * weight[:, :, None]).Q
    smooth = np.einsum("pkm,pk->pm", basis, values)
    whole = (values**2).sum(axis=1)
    rest = np.maximum(whole - (smooth**2).sum(axis=1), 0.0)
    out[enough] = rest / (n[enough] - m) > SCATTERED * whole / n[enough]
    return out
