"""Settings of step 18."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from darkpipe.bounds import Celsius, Exposure, PositiveFloat
from hardware.settings import AcquisitionSettings
from steps.settings.model_names import ModelName

NAME = "plan_campaign"
SECTIONS = ("plan_campaign", "dark_capture", "camera")


class PlannedCampaign(BaseModel):
    """A campaign that is not taken yet, and the sensor it is for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_dir: Path | None = Field(None, description="a model of this camera: its sensor, and its campaign as the plan")
    temperatures_c: list[Celsius] | None = Field(
        None, min_length=1, description="planned temperatures [°C]; null: of the model, else of dark_capture"
    )
    exposures_s: list[Exposure] | None = Field(
        None, min_length=1, description="planned exposures of darks [s]; null: the same"
    )
    frames: int | None = Field(None, ge=1, description="darks of each cell; null: the same")
    biases: int | None = Field(None, ge=0, description="bias frames of each temperature; null: the same")
    temp_single_c: Celsius | None = Field(None, description="the dark that matters most: its temperature [°C]")
    exptime_single_s: Exposure | None = Field(None, description="and its exposure [s]; null: all of the campaign")
    model: ModelName = Field(
        "auto", description="the model that will be fitted (glow is left out); auto: that of model_dir, else exp_2d"
    )
    read_noise_e: PositiveFloat | None = Field(None, description="of one frame [e-]; null: of the model, else 5")
    gain_e_per_adu: PositiveFloat | None = Field(None, description="null: of the model, else 1")
    saturation_adu: PositiveFloat | None = Field(
        None, description="signal at which a pixel is full [ADU]; null: of the model, else 60000"
    )
    reference_temperature_c: Celsius = Field(0.0, description="where the dark currents below hold [°C]")
    bulk_e_s: PositiveFloat = Field(0.1, description="dark current of an ordinary pixel [e-/s]")
    bulk_doubling_c: PositiveFloat = Field(5.5, description="rise of the temperature that doubles it [°C]")
    hot_e_s: PositiveFloat = Field(5.0, description="dark current of a hot pixel [e-/s]")
    hot_doubling_c: PositiveFloat = Field(7.0, description="rise of the temperature that doubles it [°C]")
    temperature_error_c: float = Field(0.05, ge=0, description="of each set point, common to its frames, 1 sigma [°C]")
    temperature_jitter_c: float = Field(0.0, ge=0, description="of the sensor from frame to frame, 1 sigma [°C]")
    pedestal_drift_adu: float | None = Field(
        None, ge=0, description="of the level from frame to frame, 1 sigma [ADU]; null: of the model's frames, else 0"
    )
    relative_error: float = Field(
        0.01, ge=0, lt=1, description="what the formula misses of a pixel [fraction]; with model_dir: as measured"
    )
    energy_gap_ev: float = Field(1.12, gt=0.1, lt=5, description="E_g of two_component [eV]")
    frame_shape: tuple[int, int] | None = Field(
        None, description="rows and columns of a frame, for the time of read-out; null: of the model, else unknown"
    )
    start_c: Celsius = Field(20.0, description="temperature that cooling begins at [°C]")


class Settings(AcquisitionSettings):
    """The plan, and the sections of the camera that it may be taken from; no camera is asked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plan_campaign: PlannedCampaign = Field(
        default_factory=PlannedCampaign, description="A campaign that is not taken yet, and the sensor it is for."
    )
