"""Errors in quadrature, bit for bit as numpy has them, with packed instructions."""

from __future__ import annotations

import platform

import numpy as np
import pytest
from numba import njit

from darkpipe.science import quadrature as module
from darkpipe.science.quadrature import quadrature

F4 = np.float32


def test_it_is_the_hypotenuse_of_numpy() -> None:
    rng = np.random.default_rng(1)
    a, b = (rng.lognormal(0.0, 20.0, (301, 97)).astype(F4) * rng.choice([-1, 1], (301, 97)).astype(F4) for _ in "ab")
    special = np.array([0.0, -0.0, np.nan, np.inf, -np.inf, 1e-45, 3.4e38, 1.0], F4)
    a[0, :64], b[0, :64] = np.repeat(special, 8), np.tile(special, 8)
    with np.errstate(over="ignore"):
        expected = np.hypot(a, b)
    found = quadrature(a, b)
    assert found.dtype == F4
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected))
    np.testing.assert_array_max_ulp(found[np.isfinite(expected)], expected[np.isfinite(expected)], maxulp=1)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


def test_planes_of_two_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 4\) and \(4, 3\)"):
        quadrature(np.ones((3, 4), F4), np.ones((4, 3), F4))


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 instructions")
def test_its_loop_is_vectorised() -> None:
    # compiled afresh: what comes from the cache has no assembly to show
    compiled = njit(nogil=True, error_model="numpy")(module._quadrature.py_func)  # type: ignore[attr-defined]
    compiled(np.ones(64, F4), np.ones(64, F4), np.ones(64, F4))
    assembly = "\n".join(compiled.inspect_asm().values())
    assert "sqrtpd" in assembly
