"""exp_2d: power law in exposure, exponential in temperature (the seed model of the field's pipelines)."""

from darkpipe.science.models.base import Model, Parameter, exponential_design
from darkpipe.science.models.families import EXPONENTIAL

MODEL = Model(
    name="exp_2d",
    formula="S = A t^gamma exp(B (T - T_min))",
    family=EXPONENTIAL,
    parameters=(
        Parameter(0, "A", "adu / s**gamma", "dark_A_map.fits"),
        Parameter(1, "gamma", "", "dark_gamma_map.fits"),
        Parameter(2, "B", "1 / K", "dark_B_map.fits"),
    ),
    design=exponential_design,
    lower=(-1e12, 0.2, -0.1),
    upper=(1e12, 3.0, 0.6),
    axes="Tt",
    needs="exp_2d needs at least two temperatures (1 K apart) and two exposures, in cells that are not all on one line",
)
