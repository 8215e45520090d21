"""exp_1d: exponential in temperature at one exposure."""

from darkpipe.science.models.base import Model, Parameter, exponential_design
from darkpipe.science.models.families import EXPONENTIAL

MODEL = Model(
    name="exp_1d",
    formula="S = A exp(B (T - T_min)) at one exposure",
    family=EXPONENTIAL,
    parameters=(Parameter(0, "A", "adu", "A_map.fits"), Parameter(2, "B", "1 / K", "B_map.fits")),
    design=exponential_design,
    lower=(-1e12, 0.0, -0.1),
    upper=(1e12, 0.0, 0.6),
    axes="T",
    needs="exp_1d needs at least two temperatures (1 K apart) at one exposure",
)
