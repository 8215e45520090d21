"""What a simulated sensor is: plain numbers."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from hardware.errors import CameraValueError


@dataclass(frozen=True)
class SensorSpec:
    """Everything that decides a sensor. The defaults resemble a cooled camera of today.

    rows, cols : pixels; pixel_size_um; color : it has a colour filter array (dark signal is the same).
    seed : of all that is drawn, from the currents of the pixels to the noise of the frames.
    electrons_per_adu : at the setting `gain_setting`; the setting counts tenths of a decibel within `gain_range`.
    bias_level_adu : at the setting `offset_setting`; `adu_per_offset` for one step within `offset_range`.
    generation_e_s, diffusion_e_s : medians at `reference_c` [e-/s]; *_scatter : sigma of the logarithm between pixels;
    *_energy_ev, *_energy_scatter_ev : mean and sigma of the activation energies.
    hot_fraction, hot_decades : excess generation of hot pixels, powers of ten of the median, uniform between the two.
    telegraph_fraction, telegraph_e_s, telegraph_dwell_frames : pixels that jump between two currents, the typical step
    at `reference_c` [e-/s], and for how many frames they stay before they draw anew.
    bias_column_adu, bias_pixel_adu : sigma of the fixed pattern; bias_row_ramp_adu : from the first to the last row.
    pedestal_drift_adu : sigma of one number a frame.
    cosmic_rays_per_cm2_min : cosmic rays; cosmic_ray_e : mean charge in a pixel of a track.
    glow_e_s : amplifier glow in the corner `glow_corner` (top, left), whatever the temperature; glow_reach : where it
    has fallen to 1/e, in parts of the longer side.
    black_clamp : the camera subtracts the typical dark signal itself.
    readout_s : from the end of an exposure to the frame; exposure_min_s, exposure_max_s, exposure_resolution_s : what
    exposures can be.

    Raises
    ------
    CameraValueError
        for numbers that no sensor has.
    """

    rows: int = 512
    cols: int = 512
    seed: int = 1
    pixel_size_um: float = 3.76
    color: bool = False
    # read-out
    electrons_per_adu: float = 1.0
    gain_setting: int = 100
    gain_range: tuple[int, int] = (0, 300)
    offset_setting: int = 50
    offset_range: tuple[int, int] = (0, 100)
    adu_per_offset: float = 10.0
    read_noise_e: float = 3.5
    full_well_e: float = 50_000.0
    adc_bits: int = 16
    bias_level_adu: float = 500.0
    bias_column_adu: float = 1.5
    bias_pixel_adu: float = 1.0
    bias_row_ramp_adu: float = 2.0
    pedestal_drift_adu: float = 0.2
    black_clamp: bool = False
    readout_s: float = 0.5
    exposure_min_s: float = 0.00005
    exposure_max_s: float = 3600.0
    exposure_resolution_s: float = 0.000001
    # dark current
    reference_c: float = -10.0
    generation_e_s: float = 0.10
    generation_scatter: float = 0.30
    generation_energy_ev: float = 0.60
    generation_energy_scatter_ev: float = 0.01
    diffusion_e_s: float = 0.05
    diffusion_scatter: float = 0.15
    diffusion_energy_ev: float = 1.15
    diffusion_energy_scatter_ev: float = 0.01
    hot_fraction: float = 0.005
    hot_decades: tuple[float, float] = (1.0, 3.0)
    hot_energy_scatter_ev: float = 0.04
    telegraph_fraction: float = 0.001
    telegraph_e_s: float = 0.5
    telegraph_dwell_frames: int = 8
    # what else gathers charge
    cosmic_rays_per_cm2_min: float = 1.5
    cosmic_ray_e: float = 600.0
    glow_e_s: float = 0.0
    glow_corner: tuple[bool, bool] = (True, False)
    glow_reach: float = 0.1

    def __post_init__(self) -> None:
        wrong = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            numbers = value if isinstance(value, tuple) else (value,)
            signed = field.name in ("reference_c", "hot_decades", "bias_row_ramp_adu", "gain_setting", "gain_range")
            if not all(math.isfinite(number) and (signed or number >= 0) for number in numbers):
                wrong.append(field.name)
        positive = ("rows", "cols", "pixel_size_um", "electrons_per_adu", "full_well_e", "telegraph_dwell_frames")
        wrong += [name for name in (*positive, "glow_reach") if not getattr(self, name) > 0]
        wrong += [name for name in ("hot_fraction", "telegraph_fraction") if not getattr(self, name) <= 1]
        wrong += [] if 1 <= self.adc_bits <= 16 else ["adc_bits"]
        if wrong:
            told = ", ".join(f"{name} = {getattr(self, name)}" for name in dict.fromkeys(wrong))
            raise CameraValueError(f"no sensor has {told}", where="sensor of the simulator")

    @property
    def max_adu(self) -> int:
        """The highest count of the converter."""
        return (1 << self.adc_bits) - 1

    def gain_or_default(self, gain: int | None) -> int:
        """The gain setting, the default for None; raises `CameraValueError` outside `gain_range`."""
        return _within(gain, self.gain_setting, self.gain_range, "gain")

    def offset_or_default(self, offset: int | None) -> int:
        """The offset setting, the default for None; raises `CameraValueError` outside `offset_range`."""
        return _within(offset, self.offset_setting, self.offset_range, "offset")


def _within(setting: int | None, default: int, limits: tuple[int, int], name: str) -> int:
    if setting is None:
        return default
    if not limits[0] <= setting <= limits[1]:
        raise CameraValueError(f"the {name} {setting} is outside {limits[0]} to {limits[1]}", where="simulated camera")
    return int(setting)
