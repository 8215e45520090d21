"""Names of the models, as settings and flags take them."""

from __future__ import annotations

from typing import Literal

ModelName = Literal["auto", "exp_1d", "exp_t", "exp_2d", "two_component", "two_component_glow", "exp_2d_glow"]
