"""exp_t: power law in exposure at one temperature."""

from darkpipe.science.models.base import Model, Parameter, exponential_design
from darkpipe.science.models.families import EXPONENTIAL

MODEL = Model(
    name="exp_t",
    formula="S = A t^gamma at one temperature",
    family=EXPONENTIAL,
    parameters=(Parameter(0, "A", "adu / s**gamma", "A_map.fits"), Parameter(1, "gamma", "", "gamma_map.fits")),
    design=exponential_design,
    lower=(-1e12, 0.2, 0.0),
    upper=(1e12, 3.0, 0.0),
    axes="t",
    needs="exp_t needs at least two exposures (20 % apart) at one temperature",
)
