"""Noise maps of an EM-CCD, from frames in memory or from a directory of the pipeline."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import DesignError
from darkpipe.files import noise_map_files
from darkpipe.files.layout import ModelDir
from darkpipe.library.quantities import Number, seconds_of
from darkpipe.science.noise_maps import NoiseMapCalibration, NoiseMapOptions, NoiseMaps
from darkpipe.science.regions import DetectorRegions


def read_noise_maps(path: str | PathLike[str]) -> NoiseMaps:
    """The maps F, C and D that the pipeline fitted.

    Parameters
    ----------
    path : an output directory of `--mode fit_noise_maps`, its `dark_model` or `noise_maps` folder.

    Raises
    ------
    ProductError
        when there are none, or they are damaged.
    """
    return noise_map_files.read_noise_maps(ModelDir.with_noise_maps(Path(path)).noise_maps)


def fit_noise_maps(
    frames: Any,
    em_gains: Any,
    exposures_s: Number,
    *,
    masks: NDArray[Any] | None = None,
    regions: DetectorRegions | None = None,
    options: NoiseMapOptions | None = None,
) -> NoiseMaps:
    """Fixed pattern F, clock-induced charge C and dark current D of every pixel of an EM-CCD.

    A dark of EM gain g and exposure t reads F + g C + g t D electrons; the maps are a weighted fit to the means of
    stacks of different gain and exposure (docs/science.md, EM-CCD noise maps; after `corgidrp.darks`). Frames that do
    not fit into memory go one by one into a `NoiseMapCalibration`, which does the same.

    Parameters
    ----------
    frames : (n, rows, cols) full frames [e-], bias-subtracted, not divided by the EM gain, cosmic rays masked or NaN.
    em_gains, exposures_s : (n,), 1 or more; [s] or a quantity.
    masks : (n, rows, cols) bool, or integer bits of which any masks a pixel.
    regions : what is what in the frame; None: all of it is image.
    options : choices of the calibration.

    Returns
    -------
    NoiseMaps
        `synthesised_dark` makes a dark of any gain and exposure from it.

    Raises
    ------
    DesignError
        for fewer than four stacks, or gains and exposures that cannot tell the three maps apart.

    Examples
    --------
    >>> import numpy as np, darkpipe
    >>> rng = np.random.default_rng(1)
    >>> setting = [(g, t) for g in (1.0, 100.0, 500.0) for t in (5.0, 100.0) for _ in range(8)]
    >>> gains, times = np.array(setting).T
    >>> frames = 20.0 + gains[:, None, None] * rng.poisson(0.02 + 0.001 * times[:, None, None], (48, 32, 40))
    >>> maps = darkpipe.fit_noise_maps(frames + rng.normal(0.0, 10.0, frames.shape), gains, times)
    >>> bool(abs(np.median(maps.fixed_e) - 20.0) < 2.0)
    True
    """
    images, gains = np.asarray(frames), np.asarray(em_gains, np.float64)
    exposures = seconds_of(exposures_s)
    if images.ndim != 3 or not images.shape[0] == gains.size == exposures.size:
        raise DesignError(
            f"frames of shape {images.shape}, {gains.size} gains and {exposures.size} exposures",
            do="give (n, rows, cols) frames, and a gain and an exposure for each",
        )
    calibration = NoiseMapCalibration(regions or DetectorRegions.whole(*images.shape[1:]), options)
    for i, image in enumerate(images):
        calibration.add(image, float(gains[i]), float(exposures[i]), None if masks is None else masks[i])
    return calibration.fit()
