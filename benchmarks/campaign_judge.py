"""Frames of a campaign with the simulated camera, judged by what the simulator itself remembers.

Nothing of the acquisition is used: files are read by astropy, and each must be, pixel for pixel, a frame that the
sensor gave, in the dark, for the exposure, temperature and settings that its header says.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from hardware.simulator.sensor import Sensor

EXPOSURE_TOLERANCE = 0.001
READING_TOLERANCE_C = 0.3  # of CCD-TEMP, a mean of three readings, against the true mean over the exposure
LEVEL_TOLERANCE_ADU = 3.0  # of a median against the truth; the pedestal drifts by 0.2
SET_POINT_TOLERANCE_C = 0.15  # cameras round what they read back
FAINT_ADU = 0.5  # light that does not count: in the shortest frames a leak leaves nothing


@dataclass(frozen=True)
class Given:
    """A frame that the sensor gave."""

    exposure_s: float
    temperature_c: float
    gain: int
    offset: int
    binning: int
    light_adu_per_s: float


class RememberingSensor(Sensor):
    """A sensor that remembers what it gave. given : by digest of the pixels."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.given: dict[str, Given] = {}

    def dark_frame(self, exposure_s: float, temperature_c: float, frame_number: int, **more: Any) -> NDArray[np.uint16]:
        """As that of `Sensor`."""
        pixels = super().dark_frame(exposure_s, temperature_c, frame_number, **more)
        light = more.get("light_adu_per_s", 0.0)
        self.given[digest_of(pixels)] = Given(
            exposure_s, temperature_c, more["gain"], more["offset"], more.get("binning", 1), light
        )
        return pixels


def digest_of(pixels: NDArray[np.uint16]) -> str:
    """Of size and counts."""
    return hashlib.sha256(repr(pixels.shape).encode() + np.ascontiguousarray(pixels, "<u2").tobytes()).hexdigest()


@dataclass
class Judgement:
    """Frames of a library: right ones by (temperature, exposure), and what is wrong with the others, by kind.

    foreign : files that are neither frames nor what a campaign keeps beside them: drafts and the like.
    """

    right: Counter[tuple[float, float]] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    foreign: int = 0

    @property
    def bad(self) -> int:
        return self.faults.total()

    def whole(self, temperatures_c: Iterable[float], exposures_s: Iterable[float], number: int) -> bool:
        """Whether exactly the frames of a plan are there, all of them right."""
        exposures = tuple(exposures_s)
        wanted = {(t_c, t_s): number for t_c in temperatures_c for t_s in exposures}
        return not self.bad and dict(self.right) == wanted


def judge(library: Path, sensor: RememberingSensor, *, bias_s: float, tolerance_c: float) -> Judgement:
    """Judge every frame below a folder.

    bias_s : exposure of bias frames; longer ones must be darks. tolerance_c : from the set point of the folder.
    """
    found, seen = Judgement(), set()
    for path in sorted(library.rglob("*")):
        if path.suffix == ".draft":
            found.foreign += 1
        if path.suffix != ".fits":
            continue
        read = _read(path)
        if isinstance(read, str):
            kind, why = "truncated", read
        else:
            header, pixels = read
            digest = digest_of(pixels)
            kind, why = _kind(header, pixels, sensor, digest in seen, bias_s, tolerance_c)
            kind, why = (kind, why) if kind else _misplaced(path, header)
            seen.add(digest)
        if kind:
            found.faults[kind] += 1
            found.told.append(f"{kind}: {path.relative_to(library)}: {why}")
        else:
            found.right[_place(path)[1:]] += 1
    return found


def _read(path: Path) -> tuple[fits.Header, NDArray[np.uint16]] | str:
    """Header and pixels, with the checksums verified; else what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(io.BytesIO(path.read_bytes()), checksum=True) as hdus:
                header, pixels = hdus[0].header, np.array(hdus[0].data)
    except Exception as error:  # whatever the reader finds
        return f"{type(error).__name__}: {error}"
    if "CHECKSUM" not in header or "DATASUM" not in header:
        return "no checksums"
    return header, pixels


def _kind(
    header: fits.Header,
    pixels: NDArray[np.uint16],
    sensor: RememberingSensor,
    again: bool,
    bias_s: float,
    tolerance_c: float,
) -> tuple[str, str]:
    """What is wrong with a frame that can be read; '' if nothing is."""
    if pixels.dtype != np.uint16 or pixels.shape != sensor.shape():
        return "wrong", f"{pixels.shape} of {pixels.dtype}"
    if again:
        return "duplicate", "the pixels of another frame"
    given = sensor.given.get(digest_of(pixels))
    if given is None:
        return "wrong", "the sensor gave no such frame"
    if given.light_adu_per_s * given.exposure_s > FAINT_ADU or given.binning != 1:
        return "wrong", f"{given}"
    off = float(np.median(pixels - sensor.bias_adu(offset=given.offset) - _dark_adu(sensor, given)))
    if abs(off) > LEVEL_TOLERANCE_ADU:
        return "wrong", f"{off:.1f} ADU from the truth"
    wrong = [
        f"{name} {said}, in truth {true}"
        for name, said, true, allowed in (
            ("EXPTIME", header["EXPTIME"], given.exposure_s, EXPOSURE_TOLERANCE * given.exposure_s + 1e-6),
            ("EXPREQ", header["EXPREQ"], given.exposure_s, EXPOSURE_TOLERANCE * given.exposure_s + 1e-6),
            ("CCD-TEMP", header["CCD-TEMP"], given.temperature_c, READING_TOLERANCE_C),
            ("SET-TEMP", header["SET-TEMP"], given.temperature_c, tolerance_c + READING_TOLERANCE_C),
            # a camera may not have these two; then nothing is said
            ("GAIN", header.get("GAIN", given.gain), given.gain, 0),
            ("OFFSET", header.get("OFFSET", given.offset), given.offset, 0),
        )
        if not abs(said - true) <= allowed
    ]
    kind = "Bias Frame" if given.exposure_s <= bias_s else "Dark Frame"
    wrong += [] if header["IMAGETYP"] == kind else [f"IMAGETYP {header['IMAGETYP']}, in truth {kind}"]
    return ("mislabelled", "; ".join(wrong)) if wrong else ("", "")


def _dark_adu(sensor: RememberingSensor, given: Given) -> NDArray[np.float64]:
    return sensor.expected_dark_adu(given.exposure_s, given.temperature_c, gain=given.gain)


def _place(path: Path) -> tuple[str, float, float]:
    """What folders and name say: kind, temperature, exposure."""
    temperature, exposure = path.parts[-3:-1]
    return path.name.partition("_")[0], float(temperature[1:-1]), float(exposure.removeprefix("exp_")[:-1])


def _misplaced(path: Path, header: fits.Header) -> tuple[str, str]:
    """Whether folder and name say the same as the header."""
    kind, temperature_c, exposure_s = _place(path)
    if (
        kind == str(header["IMAGETYP"]).split()[0].lower()
        and abs(temperature_c - header["SET-TEMP"]) <= SET_POINT_TOLERANCE_C
        and abs(exposure_s - header["EXPREQ"]) <= EXPOSURE_TOLERANCE * exposure_s
    ):
        return "", ""
    return "mislabelled", f"in the wrong place: {header['IMAGETYP']}, {header['SET-TEMP']} °C, {header['EXPREQ']} s"
