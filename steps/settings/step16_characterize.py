"""Settings of step 16."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = "characterize"


class Settings(BaseModel):
    """How the master is made, what its frames must be, and how they are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    combine: Literal["median", "average"] = Field("median", description="how the master is made")
    expect_shape: str | None = Field(None, description="ROWSxCOLS that every frame must have; none: not asked")
    expect_exposure_s: float | None = Field(
        None, ge=0, description="exposure that every frame must have, within 1 % or 1 ms [s]; none: not asked"
    )
    expect_filter: str | None = Field(
        None, description="filter that every frame must have, in any case; '' or 'none': no filter; null: not asked"
    )
    select: dict[str, str] = Field(
        default_factory=dict,
        description="only frames with these values: kind, exposure, temperature, filter, gain, offset, binning, …",
    )
    hot_sigma: float = Field(5.0, gt=0, description="robust sigmas above the median from which on a pixel is hot")
    keep_subtracted: bool = Field(True, description="write each frame less the master")
    pictures: Literal["representative", "all", "none"] = Field(
        "representative", description="pictures of one frame, of every frame too, or none"
    )
    representative: str = Field("", description="name of that frame; '': the one whose level is the middle one")
    stretch: Literal["log", "linear"] = Field("log", description="shades of master and frame")
    black_point: float | None = Field(None, description="value drawn black [raw counts]; none: 0.5 % lie below it")
    white_point: float | None = Field(None, description="value drawn white [raw counts]; none: 0.5 % lie above it")
    residual_stretch: Literal["log", "linear"] = Field("linear", description="shades of a frame less the master")
    residual_points: list[float] | None = Field(
        None, description="black and white point of a frame less the master [raw counts]; none: 99 % lie between them"
    )
    window: str | None = Field(
        None,
        description="part that is drawn by itself, ROW0:ROW1,COL0:COL1 as in numpy: from 0, the second number "
        "excluded; none: the middle",
    )

    @field_validator("expect_shape")
    @classmethod
    def _is_shape(cls, text: str | None) -> str | None:
        if text is None:
            return None
        from darkpipe.files.frame_set import parse_shape

        return "{}x{}".format(*parse_shape(text))

    @field_validator("window")
    @classmethod
    def _is_window(cls, text: str | None) -> str | None:
        if text is not None:
            from darkpipe.files.frame_set import parse_window

            parse_window(text)
        return text

    @field_validator("residual_points")
    @classmethod
    def _are_points(cls, points: list[float] | None) -> list[float] | None:
        if points is not None and len(points) != 2:
            raise ValueError(f"two numbers are needed, the black and the white point, not {len(points)}")
        return points

    @model_validator(mode="after")
    def _points_in_order(self) -> Settings:
        if self.black_point is not None and self.white_point is not None:
            _refuse_disorder(self.black_point, self.white_point, self.stretch)
        if self.residual_points is not None:
            black, white = self.residual_points
            _refuse_disorder(black, white, self.residual_stretch)
        return self


def _refuse_disorder(black: float, white: float, kind: Literal["log", "linear"]) -> None:
    from darkpipe.science.stretch import Stretch  # brings numpy along

    Stretch(black, white, kind)
