"""Settings of step 0."""

from __future__ import annotations

from pydantic import ConfigDict

from hardware.settings import AcquisitionSettings

NAME = "acquire_darks"
SECTIONS = ("dark_capture", "camera")


class Settings(AcquisitionSettings):
    """Which darks are taken, and with which camera."""

    model_config = ConfigDict(frozen=True, extra="forbid")
