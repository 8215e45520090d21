"""exp_2d_glow: exponential in temperature and amplifier glow; both grow linearly in exposure.

Glow is linear in exposure, and an exponent of the dark current beside it would be a fourth unknown: gamma is 1.
"""

from darkpipe.science.models.base import GLOW, Model, Parameter, glow_design
from darkpipe.science.models.families import GLOWING

MODEL = Model(
    name="exp_2d_glow",
    formula="S = t (A exp(B (T - T_min)) + E)",
    family=GLOWING,
    parameters=(
        Parameter(0, "A", "adu / s", "A_map.fits"),
        Parameter(1, GLOW, "adu / s", "E_map.fits"),
        Parameter(2, "B", "1 / K", "B_map.fits"),
    ),
    design=glow_design,
    lower=(-1e12, -1e12, -0.1),
    upper=(1e12, 1e12, 0.6),
    axes="T",
    needs="exp_2d_glow needs at least three temperatures",
)
