"""Names of files: what the seeds name, and nothing that leaves the output directory."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkpipe.errors import ProductError
from darkpipe.files.layout import ModelDir, OutputDir, cell_name, exposure_label, temperature_label


@pytest.mark.parametrize(
    ("temperature", "exposure", "name"),
    [
        (-10.0, 300.0, "T-10.0C_texp300s"),
        (0.0, 0.5, "T0.0C_texp0.5s"),
        (-0.04, 1.0, "T0.0C_texp1s"),
        (15.25, 3.4e-05, "T15.2C_texp0.000034s"),
        (5.0, 1200.0, "T5.0C_texp1200s"),
        (5.0, 0.001, "T5.0C_texp0.001s"),
    ],
)
def test_cell_names(temperature: float, exposure: float, name: str) -> None:
    assert cell_name(temperature, exposure) == name


@given(st.floats(1e-9, 1e6))
def test_exposures_a_percent_apart_have_different_names(exposure: float) -> None:
    label = exposure_label(exposure)
    assert "e" not in label[4:]
    assert exposure_label(exposure * 1.01) != label


@given(st.floats(-200, 100))
def test_no_negative_zero(temperature: float) -> None:
    assert temperature_label(temperature) != "T-0.0C"


def test_names_of_the_seeds(tmp_path: Path) -> None:
    out = OutputDir(tmp_path, "")
    assert out.master_dark("T-10.0C_texp300s") == tmp_path / "dark_masks_by_temp" / "darks_T-10.0C_texp300s.fits"
    maps = out.model.maps("exp_2d")
    assert {p.name for p in maps.values()} == {"dark_A_map.fits", "dark_B_map.fits", "dark_gamma_map.fits"}
    assert {p.parent for p in maps.values()} == {tmp_path / "dark_model"}
    assert out.model.maps("two_component")["G"] == tmp_path / "dark_model" / "two_component" / "G_map.fits"
    assert out.model.maps("exp_1d", "texp10s")["A"] == tmp_path / "dark_model" / "exp_1d" / "texp10s" / "A_map.fits"
    assert out.model.hot_pixel_mask == tmp_path / "dark_model" / "hot_pixel_mask.fits"
    assert out.picture("mae", "T-10.0C_texp300s").name == "mae_T-10.0C_texp300s.png"
    assert out.picture("evaluation_summary") == tmp_path / "evaluation" / "evaluation_summary.png"
    assert out.synthetic("T-10.0C_texp300s").name == "synthetic_dark_T-10.0C_texp300s.fits"


def test_a_configuration_is_a_sub_folder(tmp_path: Path) -> None:
    out = OutputDir(tmp_path, "ASI2600_g100_o50_b1")
    assert out.groups == tmp_path / "ASI2600_g100_o50_b1" / "groups.ecsv"
    assert out.index == tmp_path / "index.ecsv"


@pytest.mark.parametrize("name", ["../x", "/etc", "a/b", ".hidden", "a b"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProductError, match="cannot be the name of a configuration"):
        OutputDir(tmp_path, name)


def test_a_model_is_found_from_its_folder_or_the_one_around_it(tmp_path: Path) -> None:
    (tmp_path / "dark_model").mkdir()
    (tmp_path / "dark_model" / "model.yaml").write_text("chosen: x\n")
    assert ModelDir.at(tmp_path).path == tmp_path / "dark_model"
    assert ModelDir.at(tmp_path / "dark_model").path == tmp_path / "dark_model"
    with pytest.raises(ProductError, match="no dark model"):
        ModelDir.at(tmp_path / "elsewhere")
