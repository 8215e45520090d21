"""Masters, masks and noise from frames in memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import FrameError
from darkpipe.files.products import Card
from darkpipe.library.frame import Frame
from darkpipe.library.held_frames import images_of
from darkpipe.science.combine import clipped_mean, median
from darkpipe.science.hot_pixels import classify
from darkpipe.science.noise import read_noise_from_pairs
from darkpipe.science.quadrature import quadrature

SATURATION_RAW = 0.95 * 65535.0


class ReadNoiseFound(NamedTuple):
    """Read noise in the unit of the frames, quantisation included: of the common pixel, and (rows, cols) of each, drawn
    to the population as far as a few frames cannot tell it."""

    sigma_adu: float
    map_adu: NDArray[np.float32]


def combine_frames(
    frames: Any,
    *,
    read_noise_adu: float | NDArray[Any],
    gain_e_per_adu: float,
    bias: NDArray[Any] | Frame | None = None,
    relative_error: float = 0.01,
    kappa: float = 4.5,
    saturation_raw: float = SATURATION_RAW,
    scale_factor: float = 1.0,
    align_levels: bool = True,
) -> Frame:
    """Mean of like frames without cosmic rays and other outliers, minus a bias.

    Outliers are judged by the noise model sqrt(R² + max(S, 0)/g + (relative_error S)²), never by the sample: of ten
    samples or fewer none can lie 3 sigma of the sample from its mean (docs/science.md, Combining frames).

    Parameters
    ----------
    frames : a cube (n, rows, cols) or a sequence of n images or CCDData [raw counts].
    read_noise_adu : rms of one frame [native ADU], one number or (rows, cols).
    gain_e_per_adu : electrons per native ADU.
    bias : (rows, cols) [native ADU]; its error counts where it is a Frame. None: nothing is subtracted, and only what
        stands above the first percentile of the frames counts as charge.
    relative_error : multiplicative error of one frame, such as that of its temperature.
    kappa : clipping threshold in sigma.
    saturation_raw : raw counts from which on a sample does not count.
    scale_factor : raw counts per native ADU.
    align_levels : bring the frames to one level first (drift of the pedestal).

    Returns
    -------
    Frame
        native ADU; NaN where no sample was valid. The card NCOMBINE says how many frames went in.

    Raises
    ------
    FrameError : frames, bias or noise that do not fit together. ValueError : numbers outside their range.

    Examples
    --------
    >>> import numpy as np, darkpipe
    >>> rng = np.random.default_rng(1)
    >>> frames = rng.normal(1000.0, 5.0, (9, 20, 30)).round().astype(np.uint16)
    >>> frames[4, 7, 7] = 40_000  # a cosmic ray
    >>> master = darkpipe.combine_frames(frames, read_noise_adu=5.0, gain_e_per_adu=np.inf)
    >>> bool(abs(master.science[7, 7] - 1000.0) < 10.0), round(float(np.median(master.error)), 2)
    (True, 1.67)
    """
    images = images_of(frames, "frames")
    shape, n = images[0].shape, len(images)
    samples = np.stack([image.ravel() for image in images])
    noise = np.asarray(read_noise_adu, np.float32)
    given = bias.science if isinstance(bias, Frame) else bias
    for name, plane in (("bias", given), ("read_noise_adu", noise if noise.ndim else None)):
        if plane is not None and np.asarray(plane).shape != shape:
            raise FrameError(f"its shape is {np.asarray(plane).shape}, that of the frames {shape}", where=name)
    levels = np.array([np.nanmedian(image) for image in images], np.float64) / scale_factor
    base: Any = np.float32(np.nanpercentile(samples[0], 1.0) / scale_factor)
    if given is not None:
        base = np.asarray(given, np.float32).ravel()
    made = clipped_mean(
        samples, level_adu=levels - np.median(levels) if align_levels else None,
        read_noise_adu=noise.ravel() if noise.ndim else float(noise), gain_e_per_adu=gain_e_per_adu,
        relative_error=relative_error, bias_adu=base, kappa=kappa, valid_high=saturation_raw, scale_factor=scale_factor,
    )  # fmt: skip
    science, error = made.mean, made.error
    if given is not None:
        science = science - base
    if isinstance(bias, Frame) and bias.error is not None:
        error = quadrature(error, bias.error.ravel())
    cards: tuple[Card, ...] = (("NCOMBINE", n, "frames in the mean"), ("SCALE", scale_factor, "raw counts per adu"))
    return Frame(
        np.asarray(science, np.float32).reshape(shape), np.asarray(error, np.float32).reshape(shape),
        made.dq.reshape(shape), cards=cards,
    )  # fmt: skip


def median_frame(frames: Any) -> NDArray[np.float32]:
    """Median of like frames, (rows, cols), missing samples left out; NaN where there is none.

    frames : as in `combine_frames`, any unit.

    >>> import numpy as np, darkpipe
    >>> darkpipe.median_frame(np.array([[[1, 5]], [[2, 6]], [[9, 7]]], np.uint16)).tolist()
    [[2.0, 6.0]]
    """
    images = images_of(frames, "frames")
    return median(np.stack([image.ravel() for image in images])).reshape(images[0].shape)


def find_hot_pixels(
    dark: NDArray[Any] | Frame,
    error: NDArray[Any] | float | None = None,
    *,
    hot_sigma: float = 5.0,
    warm_sigma: float = 3.0,
    dead_sigma: float = 5.0,
) -> NDArray[np.uint16]:
    """Hot, warm and dead pixels of a master dark, as bits of `darkpipe.DQ`, (rows, cols).

    Hot stands above median + k s, with s the larger of 1.4826 MAD of the population and the pixel's own error.

    Parameters
    ----------
    dark : (rows, cols), bias-subtracted; of a Frame its error and bits count as well.
    error : 1 sigma, one number or (rows, cols), of an array without.

    Raises
    ------
    ValueError : shapes differ, or hot_sigma is below warm_sigma.

    Examples
    --------
    >>> import numpy as np, darkpipe
    >>> dark = np.random.default_rng(1).normal(20.0, 2.0, (40, 40))
    >>> dark[3, 5] = 400.0
    >>> bits = darkpipe.find_hot_pixels(dark, 2.0)
    >>> bool(bits[3, 5] & darkpipe.DQ.HOT)
    True
    """
    image, bits = (dark.science, dark.dq) if isinstance(dark, Frame) else (np.asarray(dark), None)
    own = error if error is not None else dark.error if isinstance(dark, Frame) else None
    sigma = np.broadcast_to(np.asarray(0.0 if own is None else own, np.float32), image.shape)
    found, _ = classify(image, sigma, bits, hot_sigma=hot_sigma, warm_sigma=warm_sigma, dead_sigma=dead_sigma)
    return found


def measure_read_noise(frames: Any) -> ReadNoiseFound:
    """Read noise from two or more bias frames of one temperature, from their differences.

    frames : a cube (n, rows, cols) or a sequence of images.

    Raises
    ------
    FrameError : fewer than two frames, or frames of different shapes.

    Examples
    --------
    >>> import numpy as np, darkpipe
    >>> frames = np.random.default_rng(1).normal(1000.0, 5.0, (12, 40, 50)).round().astype(np.uint16)
    >>> found = darkpipe.measure_read_noise(frames)
    >>> bool(abs(found.sigma_adu - 5.0) < 0.1), found.map_adu.shape
    (True, (40, 50))
    """
    images = images_of(frames, "frames")
    found = read_noise_from_pairs(np.stack([image.ravel() for image in images]))
    if found is None:
        raise FrameError("one frame cannot tell its read noise", do="give two or more of one temperature")
    return ReadNoiseFound(found.sigma_adu, found.map_adu.reshape(images[0].shape))
