"""The loops over whole planes are packed: a compiler that goes pixel by pixel does so without a word."""

from __future__ import annotations

import platform
import re
from typing import Any

import numpy as np
import pytest
from numba import njit

from darkpipe.science import bit_planes, block_sums, calibration_kernel, neighbours_kernel, network, order
from darkpipe.science.models import families

N = 512
ONE, TWO = np.ones(N, np.float32), np.ones((2, N), np.float32)
BITS, BYTES, KEYS = np.ones(N, np.uint16), np.ones(N, np.uint8), np.ones(N, np.int32)
F = np.float32(1.0)

PACKED: dict[str, tuple[Any, tuple[Any, ...], str]] = {
    "signal": (families._signals, (0, 1.0, 2.0, 0.0, ONE, TWO[0], TWO[1], ONE, ONE.copy()), "cvtps2pd"),
    "variances": (
        families._variances,
        (0, 1.0, 2.0, 0.0, (ONE,) * 3, (ONE,) * 6, ONE.copy(), ONE.copy()),
        "cvtpd2ps",
    ),
    "darks": (
        families._darks,
        (0, 1.0, 2.0, 0.0, (ONE,) * 3, (ONE,) * 6, ONE, 0.1, ONE.copy(), ONE.copy(), BYTES.copy()),
        "sqrtpd",
    ),
    "difference": (calibration_kernel._difference, (ONE, *TWO, *TWO.copy()), "subps"),
    "noise": (calibration_kernel._noise, (ONE, F, TWO[0], TWO[1]), "divps"),
    "errors of frames": (calibration_kernel._sigma, (ONE, *TWO), "sqrtps"),
    "counts of keys": (block_sums.count_below, (KEYS, np.int32(3)), "pcmpgtd"),
    "columns": (neighbours_kernel.sort_columns, (np.ones((2, N)), neighbours_kernel.exchanges(2)), "maxpd"),
    "counts of a frame": (calibration_kernel._native, (BITS, F, F, ONE.copy()), "divps"),
    "sum of words": (bit_planes._sum_words, (KEYS.view(np.uint32), np.uint32(0)), "paddq"),
    "pixels with a bit": (bit_planes._count, (BITS, np.uint16(1)), "psubw|paddw"),
    "pixels without a value": (bit_planes._without_value, (ONE, BITS, np.uint16(1), BYTES.copy()), "cmp[a-z]*ps"),
    "values about a median": (order._place, (ONE, BITS, np.uint16(1), F, F, BYTES.copy()), "cmp[a-z]*ps"),
    "step of a network": (network.exchange, (KEYS, KEYS.copy(), network.BOTH), "pminsd"),
    "step of a network for values": (network.exchange, (ONE, ONE.copy(), network.BOTH), "maxps"),
}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 instructions")
@pytest.mark.parametrize("name", PACKED)
def test_loops_are_packed(name: str) -> None:
    kernel, data, instruction = PACKED[name]
    # compiled afresh: what comes from the cache has no assembly to show
    compiled = njit(nogil=True, error_model="numpy")(kernel.py_func)
    compiled(*data)
    assembly = "\n".join(compiled.inspect_asm().values())
    assert re.search(instruction, assembly) or (instruction == "pcmpgtd" and "vpcmp" in assembly)
