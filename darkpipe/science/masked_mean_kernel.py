"""Compiled loops of `masked_mean`: blocks of pixels that stay in cache, pixels innermost so that they vectorise."""

from __future__ import annotations

from typing import Any

import numpy as np

from darkpipe.science.jit import kernel

_WIDTH = 512


@kernel
def _finite(x: Any, valid: Any) -> None:
    for k in range(x.size):
        valid[k] = np.isfinite(x[k])


@kernel
def _and_finite(x: Any, valid: Any) -> None:
    for k in range(x.size):
        valid[k] = valid[k] & np.isfinite(x[k])


@kernel
def _and_unmasked(mask: Any, valid: Any) -> None:
    for k in range(mask.size):
        valid[k] = valid[k] & (mask[k] == 0)


@kernel
def _or_bits(mask: Any, bits: Any) -> None:
    for k in range(mask.size):
        bits[k] |= mask[k]


@kernel
def _gather(x: Any, valid: Any, reference: Any, count: Any, s1: Any, s2: Any) -> None:
    for k in range(x.size):
        d = np.float64(x[k]) - reference[k]
        d = d if valid[k] else 0.0
        count[k] += 1.0 if valid[k] else 0.0
        s1[k] += d
        s2[k] += d * d


@kernel
def _gather_errors(error: Any, valid: Any, error2: Any) -> None:
    for k in range(error.size):
        e = error[k]
        error2[k] += e * e if valid[k] else np.float32(0)


@kernel
def _start(x: Any, valid: Any, reference: Any) -> None:
    """A sample of each pixel to count from; 0 where the first frame has none."""
    for k in range(x.size):
        reference[k] = np.float64(x[k]) if valid[k] else 0.0


@kernel
def _merge(reference: Any, count: Any, s1: Any, s2: Any, mean: Any, squares: Any, total: Any) -> None:
    """Join the sums of a batch with what was there (Chan, Golub, LeVeque 1983)."""
    for k in range(reference.size):
        n = count[k]
        shift = s1[k] / n if n > 0.0 else 0.0
        before = np.float64(total[k])
        both = before + n
        delta = reference[k] + shift - mean[k]
        part = n / both if both > 0.0 else 0.0
        mean[k] += delta * part
        squares[k] += np.float32(max(s2[k] - s1[k] * shift, 0.0) + delta * delta * before * part)
        total[k] = np.uint16(both)


@kernel
def accumulate(
    frames: Any, masks: Any, errors: Any, mean: Any, squares: Any, total: Any, error2: Any, bits: Any
) -> None:
    """Add frames (n, p) to mean, sum of squares about it, counts, squared errors and mask bits, each (p,).

    masks and errors are (n, p), or empty; bits is empty where the masks have none worth keeping.
    """
    n, pixels = frames.shape
    masked, with_errors, with_bits = masks.shape[0] > 0, errors.shape[0] > 0, bits.size > 0
    valid = np.empty(_WIDTH, np.bool_)
    reference, count, s1, s2 = np.empty(_WIDTH), np.empty(_WIDTH), np.empty(_WIDTH), np.empty(_WIDTH)
    for s in range(0, pixels, _WIDTH):
        e = min(pixels, s + _WIDTH)
        w = e - s
        count[:] = 0.0
        s1[:] = 0.0
        s2[:] = 0.0
        for i in range(n):
            x = frames[i, s:e]
            v = valid[:w]
            _finite(x, v)
            if masked:
                _and_unmasked(masks[i, s:e], v)
                if with_bits:
                    _or_bits(masks[i, s:e], bits[s:e])
            if with_errors:
                _and_finite(errors[i, s:e], v)
            if i == 0:
                _start(x, v, reference[:w])
            _gather(x, v, reference[:w], count[:w], s1[:w], s2[:w])
            if with_errors:
                _gather_errors(errors[i, s:e], v, error2[s:e])
        _merge(reference[:w], count[:w], s1[:w], s2[:w], mean[s:e], squares[s:e], total[s:e])
