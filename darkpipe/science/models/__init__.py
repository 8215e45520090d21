"""The dark models, by name. A new model is one file here and one line in `MODELS`."""

from darkpipe.science.models.base import Model, Parameter, Reference
from darkpipe.science.models.exp_1d import MODEL as EXP_1D
from darkpipe.science.models.exp_2d import MODEL as EXP_2D
from darkpipe.science.models.exp_t import MODEL as EXP_T
from darkpipe.science.models.two_component import MODEL as TWO_COMPONENT

MODELS: dict[str, Model] = {m.name: m for m in (EXP_2D, TWO_COMPONENT, EXP_1D, EXP_T)}

__all__ = ["EXP_1D", "EXP_2D", "EXP_T", "MODELS", "TWO_COMPONENT", "Model", "Parameter", "Reference"]
