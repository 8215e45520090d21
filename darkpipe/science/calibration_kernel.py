"""The loop of `calibration`: bias and dark off a frame, its error and its bits, in one pass over the planes.

A compiler packs a loop only if it can prove, with a handful of comparisons, that what is written is read nowhere else
in it. So planes are worked on in blocks that stay in the cache, by loops over few arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.science.jit import inlined, kernel

F4 = NDArray[np.float32]
Bits = NDArray[np.uint16]
State = NDArray[np.uint8]

_BLOCK = 2048
_LARGEST = np.float32(3.4028234663852886e38)


@kernel
def _difference(frame: F4, bias: F4, signal: F4, above: F4, science: F4) -> None:
    for i in range(frame.size):
        above[i] = frame[i] - bias[i]
        science[i] = above[i] - signal[i]


@kernel
def _noise(above: F4, gain: np.float32, noise: F4, error: F4) -> None:
    """Variance of read noise and of the shot noise of all charge."""
    zero = np.float32(0.0)
    if noise.size == 1:
        same = noise[0]
        for i in range(above.size):
            error[i] = same + (zero if above[i] < zero else above[i]) / gain
    else:
        for i in range(above.size):
            error[i] = noise[i] + (zero if above[i] < zero else above[i]) / gain


@kernel
def _sigma(variance: F4, science: F4, error: F4) -> None:
    """The root of all variance; NaN where there is no value."""
    for i in range(error.size):
        sigma = np.sqrt(error[i] + variance[i])
        error[i] = sigma if abs(science[i]) <= _LARGEST else np.float32(np.nan)


@kernel
def _full(above: F4, top: F4, state: State, found: State) -> None:
    """1 for a pixel at the top of the converter or of its well, 2 for one at the bottom."""
    if top.size == 1:
        same = top[0]
        for i in range(above.size):
            found[i] = state[i] | np.uint8(above[i] >= same)
    else:
        for i in range(above.size):
            found[i] = state[i] | np.uint8(above[i] >= top[i])


@kernel
def _missing(science: F4, plane: F4, of_plane: int, found: State) -> None:
    """A further bit where a value is missing because it is missing in a plane."""
    for i in range(science.size):
        gone = np.uint8(not abs(science[i]) <= _LARGEST) & np.uint8(not abs(plane[i]) <= _LARGEST)
        found[i] |= gone * np.uint8(of_plane)


@kernel
def _bits(fitted: Bits, found: State, bits: tuple[int, int, int, int], dq: Bits) -> None:
    b0, b1, b2, b3 = np.uint16(bits[0]), np.uint16(bits[1]), np.uint16(bits[2]), np.uint16(bits[3])
    for i in range(dq.size):
        f = np.uint16(found[i])
        one = np.uint16(1)
        dq[i] = (
            fitted[i] | np.uint16((f & one) * b0) | np.uint16(((f >> one) & one) * b1)
            | np.uint16(((f >> np.uint16(2)) & one) * b2) | np.uint16(((f >> np.uint16(3)) & one) * b3)
        )  # fmt: skip


@kernel
def _native(raw: NDArray[Any], scale: np.float32, pedestal: np.float32, frame: F4) -> None:
    for i in range(raw.size):
        frame[i] = np.float32(raw[i]) / scale + pedestal


@kernel
def _ends(raw: NDArray[Any], top: np.float32, state: State) -> None:
    """1 for a count at the top of the converter, 2 for one at its bottom."""
    zero, one = np.float32(0.0), np.uint8(1)
    for i in range(raw.size):
        count = np.float32(raw[i])
        state[i] = np.uint8(count >= top) | np.uint8(np.uint8(count <= zero) << one)


@inlined
def _block(
    frame: F4,
    bias: F4,
    signal: F4,
    variance: F4,
    noise: F4,
    gain: np.float32,
    fitted: Bits,
    state: State,
    top: F4,
    bits: tuple[int, int, int, int],
    above: F4,
    found: State,
    science: F4,
    error: F4,
    dq: Bits,
) -> None:
    """As `take_off`, for a block of pixels that stays in the cache; above, found: room for as many."""
    _difference(frame, bias, signal, above, science)
    _noise(above, gain, noise, error)
    _sigma(variance, science, error)
    _full(above, top, state, found)
    _missing(science, signal, 4, found)
    _missing(science, bias, 8, found)
    _bits(fitted, found, bits, dq)


@kernel
def take_off(
    frame: F4,
    bias: F4,
    signal: F4,
    variance: F4,
    noise: F4,
    gain: np.float32,
    fitted: Bits,
    state: State,
    top: F4,
    bits: tuple[int, int, int, int],
    science: F4,
    error: F4,
    dq: Bits,
) -> None:
    """A frame less bias and dark signal.

    Parameters
    ----------
    frame, bias, signal : (n,) [ADU]. variance : (n,) of the dark [ADU²]. noise : (n,) or (1,) variance of the read
    noise. gain [e-/ADU]. fitted : (n,) bits of the dark. state : (n,) 1 at the top of the converter, 2 at its bottom.
    top : (n,) or (1,) level above the bias from which on a pixel is full [ADU].
    bits : of full pixels, of those at the bottom, without a dark, without a bias.
    science, error, dq : (n,) results; the error is NaN where the science is not finite.
    """  # fmt: skip
    above, found = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.uint8)
    for first in range(0, frame.size, _BLOCK):
        last = min(first + _BLOCK, frame.size)
        size = last - first
        _block(
            frame[first:last], bias[first:last], signal[first:last], variance[first:last],
            noise if noise.size == 1 else noise[first:last], gain, fitted[first:last], state[first:last],
            top if top.size == 1 else top[first:last], bits, above[:size], found[:size],
            science[first:last], error[first:last], dq[first:last],
        )  # fmt: skip


@kernel
def take_off_counts(
    raw: NDArray[Any],
    scale: np.float32,
    pedestal: np.float32,
    saturated: np.float32,
    bias: F4,
    signal: F4,
    variance: F4,
    noise: F4,
    gain: np.float32,
    fitted: Bits,
    top: F4,
    bits: tuple[int, int, int, int],
    science: F4,
    error: F4,
    dq: Bits,
) -> None:
    """As `take_off`, from raw counts that float32 holds exactly: they are read once, and no frame [ADU] is made.

    Parameters
    ----------
    raw : (n,) counts. scale : counts per ADU. pedestal [ADU] is added. saturated : counts from which on a pixel is at
    the top of the converter; 0 and less is its bottom.
    """
    above, found = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.uint8)
    frame, state = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.uint8)
    for first in range(0, raw.size, _BLOCK):
        last = min(first + _BLOCK, raw.size)
        size = last - first
        _native(raw[first:last], scale, pedestal, frame[:size])
        _ends(raw[first:last], saturated, state[:size])
        _block(
            frame[:size], bias[first:last], signal[first:last], variance[first:last],
            noise if noise.size == 1 else noise[first:last], gain, fitted[first:last], state[:size],
            top if top.size == 1 else top[first:last], bits, above[:size], found[:size],
            science[first:last], error[first:last], dq[first:last],
        )  # fmt: skip
