"""Names of temperatures, exposures and cells in the names of files."""

from __future__ import annotations

import numpy as np


def temperature_label(temperature_c: float) -> str:
    """'T-10.0C': tenths of a degree; no sign of a zero that rounds away."""
    return f"T{round(temperature_c, 1) + 0.0:.1f}C"


def six_digits(exposure_s: float) -> float:
    """The exposure as names of files hold it: free of the rounding of 3 × 0.1."""
    return float(f"{exposure_s:.6g}")


def exposure_label(exposure_s: float) -> str:
    """'texp300s', 'texp0.25s', 'texp0.000034s': as many digits as keep exposures apart, never an exponent."""
    text = np.format_float_positional(six_digits(exposure_s), trim="-")
    return f"texp{text}s"


def cell_name(temperature_c: float, exposure_s: float) -> str:
    """'T-10.0C_texp300s'."""
    return f"{temperature_label(temperature_c)}_{exposure_label(exposure_s)}"


def em_setting_name(em_gain: float, exposure_s: float) -> str:
    """'g100_texp30s': EM gain and exposure of a stack of darks."""
    return f"g{np.format_float_positional(six_digits(em_gain), trim='-')}_{exposure_label(exposure_s)}"
