"""Campaigns that the pipeline is judged on, as changes of the tests' default recipe, and what may be asked of each.

A drift of the temperature moves all pixels of a cell together; the Cramér–Rao bound knows nothing of it, and a spread
over pixels does not show it. Such campaigns are shown, not judged by these two figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

COARSE = {"adc_bits": 12, "left_aligned": True, "bias_level_adu": 200.0}


@dataclass(frozen=True)
class Scenario:
    """changes : fields of Recipe. shown : figures that are printed but not judged ('mae', 'faint', 'hot', 'auto')."""

    changes: Mapping[str, object] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()


def _scenario(*shown: str, **changes: object) -> Scenario:
    return Scenario(changes, frozenset(shown))


SCENARIOS: dict[str, Scenario] = {
    "default": _scenario(),
    "seed 2": _scenario(seed=2),
    "faint sensor": _scenario("auto", bulk_rate_adu_s=0.06),
    "bright sensor": _scenario(bulk_rate_adu_s=6.0, hot_decades=(0.3, 2.3)),
    "cold": _scenario("auto", temperatures_c=(-45.0, -40.0, -35.0, -30.0, -25.0)),
    "warm": _scenario(temperatures_c=(0.0, 5.0, 10.0, 15.0, 20.0), exposures_s=(1.0, 5.0, 20.0, 60.0)),
    # one frame: cosmic rays stay in the masters; few frames do not tell the laws apart
    "1 frame": _scenario("auto", n_darks=1),
    "3 frames": _scenario("auto", n_darks=3),
    "20 frames": _scenario(n_darks=20, exposures_s=(10.0, 60.0, 300.0), temperatures_c=(-20.0, -10.0, 0.0)),
    "2 and 40 frames": _scenario(n_darks=2, frames_of=((-20.0, 300.0, 40), (0.0, 10.0, 40), (-10.0, 60.0, 40))),
    "2 x 2 cells": _scenario("auto", temperatures_c=(-10.0, 0.0), exposures_s=(60.0, 300.0)),
    "one far": _scenario(temperatures_c=(-40.0, -10.0, -5.0, 0.0)),
    "no bias": _scenario("auto", n_biases=0),
    "1 bias": _scenario(n_biases=1),
    "3 biases": _scenario(n_biases=3),
    "biases of 1 ms": _scenario(bias_exposure_s=0.001),
    "drift 1 ADU": _scenario("mae", "faint", pedestal_drift_adu=1.0),
    "jitter 0.1 K": _scenario("mae", "faint", "hot", temperature_jitter_k=0.1),
    "jitter 0.3 K": _scenario("mae", "faint", "hot", temperature_jitter_k=0.3),
    "jitter, coarse": _scenario("mae", "faint", "hot", temperature_jitter_k=0.3, thermometer_step_k=0.4),
    "step 0.4 K": _scenario(thermometer_step_k=0.4),
    "telegraph 1 %": _scenario(telegraph_fraction=0.01),
    "noisy pixels": _scenario(read_noise_spread=0.3),
    "cosmic x 10": _scenario(cosmic_rate_cm2_s=0.3),
    "12 bit": _scenario(**COARSE, gain_e_per_adu=3.0, read_noise_e=6.0),
    "12 bit, quiet": _scenario(**COARSE, gain_e_per_adu=4.0, read_noise_e=1.5),
}
