"""The dark models, by name. A new model is one file here and one line in `MODELS`."""

from darkpipe.science.models.base import Model, Parameter, Reference
from darkpipe.science.models.exp_1d import MODEL as EXP_1D
from darkpipe.science.models.exp_2d import MODEL as EXP_2D
from darkpipe.science.models.exp_2d_glow import MODEL as EXP_2D_GLOW
from darkpipe.science.models.exp_t import MODEL as EXP_T
from darkpipe.science.models.two_component import MODEL as TWO_COMPONENT
from darkpipe.science.models.two_component_glow import MODEL as TWO_COMPONENT_GLOW

MODELS: dict[str, Model] = {m.name: m for m in (EXP_2D, TWO_COMPONENT, EXP_1D, EXP_T, TWO_COMPONENT_GLOW, EXP_2D_GLOW)}
WITH_GLOW = {TWO_COMPONENT.name: TWO_COMPONENT_GLOW, EXP_2D.name: EXP_2D_GLOW}  # by the model without it

__all__ = [
    "EXP_1D",
    "EXP_2D",
    "EXP_2D_GLOW",
    "EXP_T",
    "MODELS",
    "TWO_COMPONENT",
    "TWO_COMPONENT_GLOW",
    "WITH_GLOW",
    "Model",
    "Parameter",
    "Reference",
]
