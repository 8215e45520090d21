"""Frames in memory as the pipeline's index would describe them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from darkpipe.errors import FrameError
from darkpipe.files.frames import RawSource
from darkpipe.files.index import NAN, RawFrame
from darkpipe.files.survey import measure_pixels

RAW_TOP = 65535


@dataclass(frozen=True)
class HeldFrame(RawFrame):
    """A raw frame whose pixels are in memory."""

    pixels: NDArray[Any] = field(default_factory=lambda: np.empty((0, 0)), repr=False, compare=False)

    @property
    def source(self) -> RawSource:
        """Its pixels."""
        return self.pixels


@dataclass(frozen=True)
class Camera:
    """What a header would say of the camera: gain [e-/ADU] (NaN: nothing), saturation [raw counts], pedestal [ADU]."""

    name: str = ""
    gain_e_per_adu: float = NAN
    saturation_raw: float = NAN
    pedestal_adu: float = 0.0


def images_of(frames: Any, name: str) -> list[NDArray[Any]]:
    """Images (rows, cols) of a cube (n, rows, cols), or of a sequence of arrays or CCDData; of the latter masked pixels
    are missing.

    Whole numbers from 0 to 65535 come out as uint16, as cameras give them; others as float32.

    Raises
    ------
    FrameError
        for frames that are no images of one shape.
    """
    many: Iterable[Any] = frames if not isinstance(frames, np.ndarray) or frames.ndim == 3 else [frames]
    images = [_image(frame, f"{name} {number}") for number, frame in enumerate(many)]
    if not images:
        raise FrameError("there are no frames", where=name)
    for number, image in enumerate(images):
        if image.shape != images[0].shape:
            raise FrameError(
                f"the frames have different shapes: {images[0].shape}, {image.shape}", where=f"{name} {number}"
            )
    return images


def _image(frame: Any, where: str) -> NDArray[Any]:
    mask = getattr(frame, "mask", None)
    image = np.asarray(getattr(frame, "data", frame) if hasattr(frame, "uncertainty") else frame)
    if image.ndim != 2 or image.dtype.kind not in "uif":
        raise FrameError(
            f"a frame is an image of numbers, (rows, cols), not {image.shape} of {image.dtype}", where=where
        )
    if isinstance(mask, np.ndarray) and mask.any():
        image = np.where(mask, np.nan, image)
    if image.dtype == np.uint16:
        return np.ascontiguousarray(image)
    known = np.isfinite(image)
    whole = known.all() and image.size and image.min() >= 0 and image.max() <= RAW_TOP
    if whole and (image.dtype.kind != "f" or np.array_equal(image, np.rint(image))):
        return image.astype(np.uint16)
    return np.ascontiguousarray(image, np.float32)


def held_frames(
    images: Iterable[NDArray[Any]],
    kind: str,
    temperature_c: NDArray[np.float64],
    set_point_c: NDArray[np.float64],
    exposure_s: NDArray[np.float64],
    camera: Camera,
) -> list[HeldFrame]:
    """Frames with what their pixels tell; `kind`: 'dark' or 'bias'.

    Raises
    ------
    FrameError
        for frames that no camera gives: constant ones, and such with fractions in their pixels.
    """
    return [
        _held(image, kind, i, float(temperature_c[i]), float(set_point_c[i]), float(exposure_s[i]), camera)
        for i, image in enumerate(images)
    ]


def _held(
    image: NDArray[Any], kind: str, number: int, temperature: float, set_point: float, exposure_s: float, camera: Camera
) -> HeldFrame:
    name = f"{kind} {number}"
    found = measure_pixels(image)
    if found.get("constant", True):
        raise FrameError("all pixels read the same value, or none", where=name)
    if image.dtype.kind == "f" and not found["divisor"]:
        raise FrameError(
            "fractions in its pixels: a calibrated frame, not a raw one", where=name, do="give frames as the camera did"
        )
    rows, cols = image.shape
    return HeldFrame(
        file=name,
        path=Path(name),
        hdu=0,
        kind=kind,
        configuration=f"{rows}x{cols}",
        camera=camera.name,
        exposure_s=exposure_s,
        temperature_c=temperature,
        set_point_c=set_point,
        rows=rows,
        cols=cols,
        pedestal_adu=camera.pedestal_adu,
        egain=camera.gain_e_per_adu,
        saturation=camera.saturation_raw,
        maximum=found["maximum"],
        n_low=found["n_low"],
        n_high=found["n_high"],
        divisor=found["divisor"],
        median=found["median_adu"],
        sigma=found["sigma_adu"],
        corners=found["corner_medians_adu"],
        date_obs="",
        pixels=image,
    )
