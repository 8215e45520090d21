"""Dark frames for any temperature and exposure, with errors, from a campaign of darks.

`import darkpipe` loads nothing else: what stands in `__all__` is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from darkpipe.version import __version__

if TYPE_CHECKING:  # for type checkers and editors; the same names as below
    from darkpipe.errors import PipelineError as PipelineError
    from darkpipe.library.combining import combine_frames as combine_frames
    from darkpipe.library.combining import find_hot_pixels as find_hot_pixels
    from darkpipe.library.combining import measure_read_noise as measure_read_noise
    from darkpipe.library.combining import median_frame as median_frame
    from darkpipe.library.fitting import FitOptions as FitOptions
    from darkpipe.library.fitting import fit_dark_model as fit_dark_model
    from darkpipe.library.frame import Frame as Frame
    from darkpipe.library.model import DarkModel as DarkModel
    from darkpipe.library.noise_maps import fit_noise_maps as fit_noise_maps
    from darkpipe.library.noise_maps import read_noise_maps as read_noise_maps
    from darkpipe.library.origin import FitsRange as FitsRange
    from darkpipe.library.simulated import SimulatedCampaign as SimulatedCampaign
    from darkpipe.library.simulated import example_model as example_model
    from darkpipe.library.simulated import simulate_campaign as simulate_campaign
    from darkpipe.science.em_darks import synthesised_dark as synthesised_dark
    from darkpipe.science.em_darks import traditional_dark as traditional_dark
    from darkpipe.science.flags import DQ as DQ
    from darkpipe.science.masked_mean import MeanAccumulator as MeanAccumulator
    from darkpipe.science.noise_maps import NoiseMapCalibration as NoiseMapCalibration
    from darkpipe.science.noise_maps import NoiseMapOptions as NoiseMapOptions
    from darkpipe.science.noise_maps import NoiseMaps as NoiseMaps
    from darkpipe.science.regions import DetectorRegions as DetectorRegions
    from darkpipe.science.thermometer import Reading as Reading

_HOMES = {
    "darkpipe.errors": ("PipelineError",),
    "darkpipe.library.combining": ("combine_frames", "find_hot_pixels", "measure_read_noise", "median_frame"),
    "darkpipe.library.fitting": ("FitOptions", "fit_dark_model"),
    "darkpipe.library.frame": ("Frame",),
    "darkpipe.library.model": ("DarkModel",),
    "darkpipe.library.noise_maps": ("fit_noise_maps", "read_noise_maps"),
    "darkpipe.library.origin": ("FitsRange",),
    "darkpipe.library.simulated": ("SimulatedCampaign", "example_model", "simulate_campaign"),
    "darkpipe.science.em_darks": ("synthesised_dark", "traditional_dark"),
    "darkpipe.science.flags": ("DQ",),
    "darkpipe.science.masked_mean": ("MeanAccumulator",),
    "darkpipe.science.noise_maps": ("NoiseMapCalibration", "NoiseMapOptions", "NoiseMaps"),
    "darkpipe.science.regions": ("DetectorRegions",),
    "darkpipe.science.thermometer": ("Reading",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "DQ",
    "DarkModel",
    "DetectorRegions",
    "FitOptions",
    "FitsRange",
    "Frame",
    "MeanAccumulator",
    "NoiseMapCalibration",
    "NoiseMapOptions",
    "NoiseMaps",
    "PipelineError",
    "Reading",
    "SimulatedCampaign",
    "__version__",
    "combine_frames",
    "example_model",
    "find_hot_pixels",
    "fit_dark_model",
    "fit_noise_maps",
    "measure_read_noise",
    "median_frame",
    "read_noise_maps",
    "simulate_campaign",
    "synthesised_dark",
    "traditional_dark",
]


if not TYPE_CHECKING:  # which would take any name for one of ours

    def __getattr__(name: str) -> Any:
        """Import a name of the library when it is first used (PEP 562)."""
        if name not in _HOME_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = getattr(import_module(_HOME_OF[name]), name)
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
