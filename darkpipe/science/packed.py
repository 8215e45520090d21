"""Eight pixels at a time: a number for compiled loops that is a whole machine vector.

A compiler packs pixels into vectors where it can prove that arrays do not overlap, and goes on with one pixel at a time
where it cannot, without a word. In a fit it never can: dozens of sums are kept for a few thousand instructions. Here
the vector is a type: what is written like arithmetic of one number is eight at once, each lane by itself, with sums in
registers. Machines without vectors of this length take two or four instructions for one.

Lanes never mix, and every lane goes through the same instructions: what comes out for a pixel does not depend on
its neighbours, to the last bit. Comparisons choose (`where_above`), they do not branch.

`where_above`, `larger` and `smaller` follow the machine: a comparison with NaN is false.
"""

from __future__ import annotations

from typing import Any

from darkpipe.science.jit import Intrinsic, inlined

LANES = 8
SINGLES = 16

Packed = Any
"""Eight float64; exists in compiled code alone. What is written with operators, and with functions of vectors that say
nothing else, does for sixteen float32 (`load_single`, `row`) as well; the two do not mix."""


def _of_numba(name: str) -> Any:
    return Intrinsic("darkpipe.science.packed_lowering", name)


splat: Any = _of_numba("splat")
is_single: Any = _of_numba("is_single")
"""Whether lanes are of single precision; the compiler drops what is for the others."""
like: Any = _of_numba("like")
"""like(x, a): a, in all lanes if it is one number; a vector of the kind of x."""
square_root: Any = _of_numba("square_root")
rounded: Any = _of_numba("rounded")
floored: Any = _of_numba("floored")
times: Any = _of_numba("times")
"""a·b, rounded by itself: as if a sum that it goes into did not know of it."""
as_in: Any = _of_numba("as_in")
"""as_in(x, array): x with the digits that an element of the array has."""
top_bits: Any = _of_numba("top_bits")
"""Sign, exponent and the first ten bits of the mantissa of a number of 0 or more, as a whole number."""
magnitude: Any = _of_numba("magnitude")
larger: Any = _of_numba("larger")
smaller: Any = _of_numba("smaller")
where_above: Any = _of_numba("where_above")
"""where_above(a, b, x, y): x where a > b, else y."""
any_above: Any = _of_numba("any_above")
"""Whether a > b in some lane."""
_exponent_of: Any = _of_numba("_exponent_of")
_fraction_of: Any = _of_numba("_fraction_of")
_by_power_of_two: Any = _of_numba("_by_power_of_two")
load: Any = _of_numba("load")
"""Elements i to i + 7 of a row of a contiguous array of float64, float32, or whole numbers up to 16 bits; of an array
of one axis the row counts for nothing."""
store: Any = _of_numba("store")
"""Write elements i to i + 7 of a row of a contiguous array of float64, float32 or whole numbers."""

load_single: Any = _of_numba("load_single")
"""As `load`, sixteen numbers in single precision."""
store_single: Any = _of_numba("store_single")
row: Any = _of_numba("row")
"""row(array, r): row r of a matrix of float64 whose rows are of eight, or of float32 of sixteen. Its place in memory
takes no multiplication to find, and of a matrix with other rows it is wrong."""
set_row: Any = _of_numba("set_row")
"""set_row(array, r, value): write such a row."""
fetch: Any = _of_numba("fetch")
"""Ask for the memory of element i of a row, which need not exist, before it is needed."""


_TO_POWERS = 1.4426950408889634
_SHIFT, _SINGLE_SHIFT = 6755399441055744.0, 12582912.0  # 1.5·2^52, 1.5·2^23: a sum with it is rounded to a whole number
_LN2_HIGH, _LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
_SINGLE_HIGH, _SINGLE_LOW = 0.693145751953125, 1.4286068202862268e-06


@inlined
def exponential(x: Packed) -> Packed:
    """exp(x) of each lane to a few units of the last place, x limited to ±700, in single precision to ±87: 2^k exp(r)
    with |r| < ln 2 / 2, by the Taylor series."""
    single = is_single(x)  # known when it is compiled, as is what hangs on it
    limit, shift = (87.0, _SINGLE_SHIFT) if single else (700.0, _SHIFT)
    high, low = (_SINGLE_HIGH, _SINGLE_LOW) if single else (_LN2_HIGH, _LN2_LOW)
    x = larger(smaller(x, limit), -limit)
    shifted = x * _TO_POWERS + shift
    k = shifted - shift
    r = (x - k * high) - k * low
    if single:
        p = like(x, 0.0001984126984126984)
    else:
        p = r * 2.08767569878681e-09 + 2.505210838544172e-08
        p = p * r + 2.755731922398589e-07
        p = p * r + 2.7557319223985893e-06
        p = p * r + 2.48015873015873e-05
        p = p * r + 0.0001984126984126984
    p = p * r + 0.001388888888888889
    p = p * r + 0.008333333333333333
    p = p * r + 0.041666666666666664
    p = p * r + 0.16666666666666666
    p = p * r + 0.5
    p = p * r + 1.0
    p = p * r + 1.0
    return _by_power_of_two(p, shifted)


@inlined
def logarithm(x: Packed) -> Packed:
    """ln(x) of each lane, x > 0 and no subnormal, to a few units of the last place: k ln 2 + ln m with m from 0.71 to
    1.41, by the series of the inverse hyperbolic tangent of (m - 1)/(m + 1)."""
    m, k = _fraction_of(x), _exponent_of(x) - (4503599627370496.0 + 1023.0)
    high = where_above(m, 1.4142135623730951, 1.0, splat(0.0))
    m = m * (1.0 - 0.5 * high)
    k = k + high
    s = (m - 1.0) / (m + 1.0)
    q = s * s
    p = q * (1.0 / 19.0) + 1.0 / 17.0
    p = p * q + 1.0 / 15.0
    p = p * q + 1.0 / 13.0
    p = p * q + 1.0 / 11.0
    p = p * q + 1.0 / 9.0
    p = p * q + 1.0 / 7.0
    p = p * q + 1.0 / 5.0
    p = p * q + 1.0 / 3.0
    return k * 0.6931471805599453 + (s + s) * (p * q + 1.0)
