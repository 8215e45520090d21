"""What settings call the models."""

from __future__ import annotations

from typing import get_args

from darkpipe.science.models import MODELS
from steps.settings.model_names import ModelName


def test_settings_know_all_models() -> None:
    assert set(get_args(ModelName)) == {"auto", *MODELS}
