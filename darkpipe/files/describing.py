"""What was fitted, in words and numbers, from the tables of the fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from darkpipe.files.fitting import UnitFiles
from darkpipe.files.masters import ReferenceValues
from darkpipe.files.model_maps import Description, FittedModel
from darkpipe.science.design import choose
from darkpipe.science.population import Population


def fitted_model(files: UnitFiles, score: float | None, population: Population) -> FittedModel:
    """A fitted model with its range and its score (of its table of held-out errors)."""
    extra = files.reference.readout_exposure_s
    temperatures, exposures = files.temperature_c, [c.exposure_s + extra for c in files.cells]
    return FittedModel(
        files.model,
        files.scope,
        (float(temperatures.min()), float(temperatures.max())),
        (float(min(exposures)), float(max(exposures))),
        files.unit.map_reference,
        population.relative_error,
        None if score is None else round(float(score), 6),
        len(files.cells),
    )


def describe_models(
    models: Sequence[FittedModel],
    wanted: str,
    missing: Mapping[str, str],
    reference: ReferenceValues,
    has_bias: bool,
    shape: tuple[int, int],
    configuration: str,
    camera: str,
    notes: Sequence[str],
) -> Description:
    """Content of model.yaml, with the model that synthesises and why.

    Parameters
    ----------
    wanted : the model asked for, or 'auto'. missing : why others were not fitted.
    """
    best, why = choose({m.key: m.score for m in models if wanted in ("auto", m.name)})
    if wanted != "auto":
        best, why = (wanted if any(m.key == wanted for m in models) else best), f"asked for: {wanted}"
    return Description(
        best,
        why,
        shape,
        configuration,
        reference.gain_e_per_adu,
        reference.read_noise_adu,
        reference.scale_factor,
        reference.bias_exposure_s,
        has_bias,
        tuple(models),
        dict(missing),
        camera,
        tuple(notes),
        reference.readout_exposure_s,
    )
