"""The sections `dark_capture` and `camera` of the settings: what is to be taken, with which camera, how cold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from darkpipe.bounds import Celsius, Exposure, ExposureOrZero, PositiveFloat

ADDRESS = re.compile(r"^(?:https?://)?(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}/?$")


class CoolingSettings(BaseModel):
    """How the cooler is driven, and when a temperature counts as reached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enable_cooling: bool = Field(False, description="Use the cooler; temperatures_c stand for true.")
    target_temperature: Celsius | None = Field(
        -10.0, description="Set point [°C], where one temperature is wanted; null beside temperatures_c."
    )
    temperatures_c: list[Celsius] | None = Field(
        None, min_length=1, description="Set points [°C], one after the other; the same as dark_capture.temperatures_c."
    )
    auto_cooling: bool = Field(
        True, description="Write set point and switch; false: leave both alone and wait for what is set."
    )
    cooling_timeout: PositiveFloat = Field(
        300.0, description="Longest wait for a stable temperature, after the ramp [s]."
    )
    temperature_tolerance: PositiveFloat = Field(1.0, description="Allowed distance from the set point [°C].")
    wait_for_cooling: bool = Field(
        True, description="Wait for the set point; false: start at once, no temperature gate; headers say so."
    )
    stable_seconds: float = Field(
        60.0, ge=0, allow_inf_nan=False, description="The temperature must have held for so long [s]."
    )
    max_slope_c_per_min: PositiveFloat = Field(0.3, description="Steepest drift that counts as stable [°C/min].")
    ramp_c_per_min: PositiveFloat | None = Field(
        None, description="Fastest change of the set point [°C/min]; null: in one step."
    )
    warmup: bool = Field(True, description="Warm up slowly at the end, then switch the cooler off; false: hold it.")
    warmup_c_per_min: PositiveFloat = Field(5.0, description="Speed of the warm-up [°C/min].")
    on_failure: Literal["stop", "skip_temperature", "continue"] = Field(
        "stop",
        description="If a temperature is not reached: end the run, leave it out, or take its frames all the same.",
    )

    @model_validator(mode="after")
    def _long_enough(self) -> CoolingSettings:
        # along a ramp, the temperature may have held for long when the ramp ends and the timeout begins
        if self.wait_for_cooling and self.ramp_c_per_min is None and self.stable_seconds >= self.cooling_timeout:
            told = f"stable_seconds {self.stable_seconds:g} s is not below cooling_timeout {self.cooling_timeout:g} s"
            raise ValueError(f"{told}: no temperature could ever count as stable")
        return self


class CameraSettings(BaseModel):
    """The camera: where it answers, how it is set, what it must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str | None = Field(
        None, description="host:port of the ASCOM Alpaca server; null: the one camera that answers on this network."
    )
    device_number: int | None = Field(
        None, ge=0, description="Number of the camera on that server; null: 0, or the one found."
    )
    gain: int | None = Field(None, description="Gain setting; null: as it is.")
    offset: int | None = Field(None, description="Offset setting; null: as it is.")
    readout_mode: str | int | None = Field(None, description="Read-out mode, name or number; null: as it is.")
    binning: int = Field(1, ge=1, description="Binning, both ways.")
    sensor_width: PositiveFloat | None = Field(None, description="Checked against the camera [mm].")
    sensor_height: PositiveFloat | None = Field(None, description="Checked against the camera [mm].")
    pixel_size: PositiveFloat | None = Field(None, description="Checked against the camera [µm].")
    type: Literal["mono", "color"] | None = Field(None, description="Checked against the camera.")
    bit_depth: int | None = Field(None, ge=1, le=16, description="Checked against the camera's highest count.")
    readout_timeout_s: PositiveFloat = Field(
        60.0, description="Longest wait for a frame after its exposure, and for its download [s]."
    )
    reconnect_timeout_s: PositiveFloat = Field(120.0, description="So long a connection that broke is tried again [s].")
    time_scale: PositiveFloat | None = Field(
        None, description="Speed of the clock of our simulator; null: as it says. Refused for real cameras."
    )
    cooling: CoolingSettings = Field(default_factory=CoolingSettings, description="The cooler.")

    @model_validator(mode="after")
    def _address(self) -> CameraSettings:
        if self.address is not None and not ADDRESS.match(self.address):
            raise ValueError(f"camera.address '{self.address}' is not host:port, e.g. 192.168.1.20:11111")
        return self


class DarkCaptureSettings(BaseModel):
    """Which darks are taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_darks: int = Field(20, ge=1, description="Frames of each exposure at each temperature.")
    flat_exposure_time: Exposure | None = Field(
        None, description="Exposure of flat darks [s]; null: that of the frames in flats_dir."
    )
    science_exposure_time: Exposure = Field(1.0, description="Exposure of the science frames [s].")
    min_exposure: ExposureOrZero = Field(0.001, description="Exposure of bias frames [s].")
    max_exposure: Exposure = Field(60.0, description="Longer exposures are left out [s].")
    exposure_factors: list[PositiveFloat] = Field(
        default_factory=lambda: [0.5, 1.0, 2.0, 4.0], description="Science darks: factors of science_exposure_time."
    )
    output_dir: Path = Field(Path("darks"), description="Folder of the raw frames.")
    temperatures_c: list[Celsius] | None = Field(
        None, min_length=1, description="Set points [°C], one after the other; null: camera.cooling.target_temperature."
    )
    flats_dir: Path | None = Field(None, description="Folder of flats, whose headers give flat_exposure_time.")
    bias_pause_s: float = Field(
        1.0, ge=0, allow_inf_nan=False, description="Pause after each bias frame [s]: fast bursts heat a sensor."
    )
    max_retakes: int = Field(3, ge=0, description="So many further tries for a frame that is rejected.")
    retake_budget: float = Field(
        0.2, ge=0, allow_inf_nan=False, description="Retakes in all, as a part of the frames of the plan (at least 10)."
    )
    session: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name of a session of frames; null: the one that is there. Another name begins another one.",
    )
    select: Literal["all", "bias", "science"] = Field(
        "all", description="Take all, bias frames, or science darks alone."
    )

    @model_validator(mode="after")
    def _order(self) -> DarkCaptureSettings:
        if self.min_exposure > self.max_exposure:
            raise ValueError(f"min_exposure {self.min_exposure} s is above max_exposure {self.max_exposure} s")
        return self


class AcquisitionSettings(BaseModel):
    """Both sections together.

    temperatures_c : set points in order; None: the cooler is not used.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dark_capture: DarkCaptureSettings = Field(default_factory=DarkCaptureSettings, description="Which darks are taken.")
    camera: CameraSettings = Field(default_factory=CameraSettings, description="The camera.")

    @model_validator(mode="after")
    def _temperatures(self) -> Self:
        cooling = self.camera.cooling
        lists = [given for given in (self.dark_capture.temperatures_c, cooling.temperatures_c) if given is not None]
        if not lists:
            if cooling.enable_cooling and cooling.target_temperature is None:
                raise ValueError("camera.cooling.enable_cooling needs a target_temperature, or temperatures_c")
            return self
        one = "target_temperature" in cooling.model_fields_set and cooling.target_temperature is not None
        if one or len(lists) > 1:
            places = "camera.cooling.target_temperature, camera.cooling.temperatures_c, dark_capture.temperatures_c"
            raise ValueError(f"temperatures are given twice: keep one of {places}")
        if "enable_cooling" in cooling.model_fields_set and not cooling.enable_cooling:
            raise ValueError("temperatures_c need the cooler, but camera.cooling.enable_cooling is false")
        # said outright, so that settings that are printed can be read again
        told = cooling.model_copy(update={"enable_cooling": True, "target_temperature": None})
        object.__setattr__(self, "camera", self.camera.model_copy(update={"cooling": told}))
        return self

    @property
    def temperatures_c(self) -> tuple[float, ...] | None:
        cooling = self.camera.cooling
        if not cooling.enable_cooling:
            return None
        listed = self.dark_capture.temperatures_c or cooling.temperatures_c or [cooling.target_temperature or 0.0]
        return tuple(dict.fromkeys(float(t) + 0.0 for t in listed))  # no sign of a zero
