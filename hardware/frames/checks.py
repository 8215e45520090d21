"""Whether a frame that came is one for the library.

What is normal in darks must pass: hot pixels, cosmic rays, fixed pattern, glow of an amplifier in a corner, a pedestal
that drifts or jumps. The limits below were set with real darks and biases of eight cameras. There the level of frames
of one setting moved by up to 1.1 sigma of the pixel noise (jumps of a pedestal), their gradient by up to 0.45 sigma.
The gradient of darks above their bias was below 0.6 of their level, or below 0.4 sigma in faint ones; in one series it
was 1.5 of the level, over the whole frame but not in a plane, which is a case for a warning.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hardware.camera import CameraInfo
from hardware.frames.frame_file import read_pixels
from hardware.frames.frame_measure import FrameMeasure, Gradient
from hardware.planning.slots import Setting, Slot, exposure_text

SATURATED = 0.05  # of all pixels: hot ones alone are fewer
TOO_HIGH = 0.5  # of the highest count: a dark of such a level is full of light, or hopelessly warm
ZEROS = 0.02  # of all pixels: the noise is cut off at the bottom
EMPTY = 0.1  # pixels at 0 in a frame whose level is so many sigma above: no noise puts them there
MORE_EMPTY = 0.01  # than in the frames that were accepted, where a sensor has dead corners
EMPTY_SIGMA = 20.0
FLAT_ROWS = 0.1  # of all rows, in the first frame
MORE_FLAT_ROWS = 0.01  # of all rows, beyond those of accepted frames

LEVEL_ADU = 20.0  # change of level that is looked at: pedestals drift
LEVEL_SIGMA = 3.0  # change of level, in sigma of the pixel noise
LEVEL_OF_DARK = 0.35  # change of level, as a part of the dark signal: two degrees of temperature
FEW = 3  # accepted frames; below that the change of level may be twice as large
GRADIENT_ADU = 10.0  # gradient that is looked at
GRADIENT_SIGMA = 1.0  # gradient, in sigma of the pixel noise
GRADIENT_OF_DARK = 0.35  # change of the gradient, as a part of the dark signal
CHANGE_IN_PLANE = 3.0  # change of the gradient against the scatter of the blocks around it

LEAK_OF_DARK = 0.8  # gradient above the bias, as a part of the dark signal: light falls on one side
LEAK_MOST_OF_DARK = 2.5  # a plane that is nowhere below the bias has a range of twice its median at most
LEAK_IN_PLANE = 10.0  # the same against the scatter of the blocks: glow does not lie in a plane
LEAK_EVEN = 0.55  # as steep in one half of the frame as in the other: glow falls off from its source
LEAK_DOUBTFUL = 4.0  # against the scatter of the blocks: a warning from here on


class FrameChecks:
    """Checks of the frames of one session, which learn from those that are accepted.

    info : of the camera: size of its frames, highest count.
    warnings : what the last frame that was checked showed that does not reject it.
    """

    def __init__(self, info: CameraInfo) -> None:
        self._info = info
        self.warnings: list[str] = []
        self._digests: dict[str, str] = {}
        self._accepted: defaultdict[Setting, list[FrameMeasure]] = defaultdict(list)
        self._flat: dict[str, int] = {}
        self._last: tuple[NDArray[np.uint16], FrameMeasure] | None = None

    def check(self, slot: Slot, pixels: NDArray[np.uint16]) -> list[str]:
        """Reasons to reject a frame (rows, cols), in words; [] for a good one. `warnings` are those of this frame."""
        self.warnings = []
        if pixels.shape != self._info.shape or pixels.dtype != np.uint16:
            rows, cols = self._info.shape
            found = " x ".join(str(side) for side in pixels.shape)
            return [f"dimensions: {found} of {pixels.dtype}, not {rows} x {cols} of uint16"]
        if not pixels.size:
            return ["dimensions: there is no pixel in it"]
        measure = FrameMeasure.of(pixels)
        self._last = pixels, measure
        reasons = self._alone(pixels, measure) or [*self._level(slot, measure), *self._gradient(slot, measure)]
        if reasons:
            self._digests.setdefault(measure.digest, f"a rejected frame of {slot.key}")
        return reasons

    def accept(self, slot: Slot, pixels: NDArray[np.uint16]) -> None:
        """Learn from a frame that is kept."""
        measure = self._last[1] if self._last is not None and self._last[0] is pixels else FrameMeasure.of(pixels)
        self._last = None
        self._digests[measure.digest] = slot.key
        self._accepted[slot.setting].append(measure)
        for axis, flat in (("rows", measure.flat_rows), ("columns", measure.flat_cols)):
            self._flat[axis] = max(self._flat.get(axis, 0), flat)

    def learn_file(self, slot: Slot, path: Path) -> None:
        """`accept` for a frame that is on the disk; one of another size than the camera's is passed over.

        Raises
        ------
        CaptureError
            if it cannot be read.
        """
        pixels = read_pixels(path)
        if pixels.shape == self._info.shape and pixels.size:
            self.accept(slot, pixels)

    # one frame by itself
    def _alone(self, pixels: NDArray[np.uint16], measure: FrameMeasure) -> list[str]:
        if measure.lowest == measure.highest:
            return [f"constant image: all pixels are {measure.lowest}"]
        twin = self._digests.get(measure.digest)
        if twin is not None:
            return [f"duplicate image: pixel for pixel the same as {twin}"]
        return [
            *self._saturation(pixels, measure),
            *self._lost("rows", measure.flat_rows, 0, measure),
            *self._lost("columns", measure.flat_cols, 1, measure),
            *self._empty(measure),
        ]

    def _saturation(self, pixels: NDArray[np.uint16], measure: FrameMeasure) -> list[str]:
        top = self._info.max_adu if 0 < self._info.max_adu <= 65535 else 65535
        if measure.highest > top:
            self.warnings.append(f"counts up to {measure.highest}: more than the {top} that the driver calls possible")
            top = 65535
        if measure.zeros > ZEROS:
            self.warnings.append(f"{measure.zeros:.0%} of the pixels are 0: the offset setting is too low")
        if measure.level_adu > TOO_HIGH * top:
            return [f"saturated: a level of {measure.level_adu:.0f} ADU, of {top} that are possible"]
        if measure.highest < top:
            return []
        part = np.count_nonzero(pixels >= top) / pixels.size
        return [f"saturated: {part:.0%} of the pixels are at {top} ADU"] if part > SATURATED else []

    def _lost(self, axis: str, flat: int, side: int, measure: FrameMeasure) -> list[str]:
        """Rows or columns that a transfer has lost hold one value (Alpaca sends columns); dead ones do so always."""
        of = self._info.shape[side]
        usual = FLAT_ROWS * of if axis not in self._flat else self._flat[axis] + MORE_FLAT_ROWS * of
        cut_off = measure.zeros - flat / of > ZEROS
        if flat <= usual or cut_off:
            return []
        return [f"part of the image is missing: {flat} of {of} {axis} hold one value only"]

    def _empty(self, measure: FrameMeasure) -> list[str]:
        """A part of the frame at 0, far below the rest: a hole in its middle has neither whole rows nor columns."""
        known = [measures[-1].zeros for measures in self._accepted.values() if measures]
        usual = max(known) + MORE_EMPTY if known else EMPTY
        if measure.zeros <= usual or measure.level_adu < EMPTY_SIGMA * measure.sigma_adu:
            return []
        return [f"part of the image is missing: {measure.zeros:.1%} of the pixels are 0"]

    # against other frames
    def _level(self, slot: Slot, measure: FrameMeasure) -> list[str]:
        accepted = self._accepted.get(slot.setting)
        if not accepted:
            return []
        usual_adu = float(np.median([other.level_adu for other in accepted]))
        allowed_adu = max(LEVEL_ADU, LEVEL_SIGMA * measure.sigma_adu, LEVEL_OF_DARK * self._dark_adu(slot, usual_adu))
        if len(accepted) < FEW:
            allowed_adu *= 2
        away_adu = measure.level_adu - usual_adu
        if abs(away_adu) <= allowed_adu:
            return []
        told = (
            f"level: {measure.level_adu:.1f} ADU, {abs(away_adu):.1f} ADU {'above' if away_adu > 0 else 'below'} the"
            f" {usual_adu:.1f} ADU of the other frames of {_told(slot)}"
        )
        return self._unless_uncooled(slot, told)

    def _gradient(self, slot: Slot, measure: FrameMeasure) -> list[str]:
        """Light that leaks in lies over the frame like a plane, steeper than dark current does."""
        accepted = self._accepted.get(slot.setting)
        least_adu = max(GRADIENT_ADU, GRADIENT_SIGMA * measure.sigma_adu)
        if accepted:
            usual = np.median([other.blocks for other in accepted], axis=0)
            change = Gradient.of(measure.blocks - usual)
            dark_adu = self._dark_adu(slot, float(np.median(usual)))
            allowed_adu = max(least_adu, GRADIENT_OF_DARK * dark_adu)
            if change and change.range_adu > max(allowed_adu, CHANGE_IN_PLANE * change.scatter_adu):
                told = (
                    f"light leak: a gradient of {change.range_adu:.0f} ADU that the other frames of {_told(slot)} do"
                    " not have"
                )
                return self._unless_uncooled(slot, told)
        zero = self._zero(slot)
        signal = measure.blocks if zero is None else measure.blocks - zero  # with its bias, where none is known
        above = Gradient.of(signal)
        dark_adu = float(np.median(signal))
        if not above or above.range_adu <= max(least_adu, LEAK_OF_DARK * dark_adu, LEAK_DOUBTFUL * above.scatter_adu):
            return []
        told = f"a gradient of {above.range_adu:.0f} ADU over a signal of {dark_adu:.0f} ADU"
        # less signal than noise: a black clamp may have taken away what the gradient belongs to
        plane = above.range_adu > LEAK_IN_PLANE * above.scatter_adu and above.evenness > LEAK_EVEN
        if plane and above.range_adu <= LEAK_MOST_OF_DARK * dark_adu and dark_adu > measure.sigma_adu:
            return [f"light leak: {told}"]
        self.warnings.append(f"{told}: a light leak, or the glow of an amplifier")
        return []

    def _zero(self, slot: Slot) -> NDArray[np.float64] | None:
        """Blocks of the shortest exposure of this temperature, bias if there is one; None where that is this slot's."""
        exposures = [s for s in self._accepted if s[2] == slot.temperature_c and s[1] < slot.exposure_s]
        if not exposures:
            return None
        shortest = min(exposures, key=lambda setting: setting[1])
        blocks: NDArray[np.float64] = np.median([other.blocks for other in self._accepted[shortest]], axis=0)
        return blocks

    def _dark_adu(self, slot: Slot, level_adu: float) -> float:
        """How far a level stands above that of the shortest exposure of its temperature."""
        zero = self._zero(slot)
        return 0.0 if zero is None else max(level_adu - float(np.median(zero)), 0.0)

    def _unless_uncooled(self, slot: Slot, told: str) -> list[str]:
        """Without a set point the temperature may have changed, and the dark current with it: a bias cannot tell."""
        if slot.temperature_c is None and slot.kind == "dark":
            self.warnings.append(told)
            return []
        return [told]


def _told(slot: Slot) -> str:
    return f"{exposure_text(slot.exposure_s)} s"
