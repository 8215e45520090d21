"""Frames that are calibrated are accepted as such, and as nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from darkpipe.files.frames import survey_frame
from darkpipe.files.index import index_rows

TYPES = {
    "light.fits": "Light Frame", "object.fits": "OBJECT", "flat.fits": "Flat Field", "flatdark.fits": "Flat Dark",
    "dark.fits": "Dark Frame", "bias.fits": "Bias Frame", "master.fits": "Master Light",
}  # fmt: skip


@pytest.fixture
def surveys(tmp_path: Path) -> list[tuple[str, object]]:
    found = []
    for seed, (name, kind) in enumerate(TYPES.items()):
        image = np.random.default_rng(seed).integers(900, 5000, (8, 9)).astype(np.uint16)
        header = fits.Header({"IMAGETYP": kind, "EXPTIME": 0.0 if kind == "Bias Frame" else 30.0})
        fits.PrimaryHDU(image, header).writeto(tmp_path / name)
        found.append((name, survey_frame(tmp_path / name)))
    fits.PrimaryHDU(
        np.random.default_rng(9).normal(size=(8, 9)), fits.Header({"IMAGETYP": "Light", "EXPTIME": 30.0})
    ).writeto(tmp_path / "reduced.fits")
    fits.PrimaryHDU(np.arange(72, dtype=np.uint16).reshape(8, 9), fits.Header({"IMAGETYP": "Light"})).writeto(
        tmp_path / "timeless.fits"
    )
    return [*found, *((n, survey_frame(tmp_path / n)) for n in ("reduced.fits", "timeless.fits"))]


@pytest.mark.parametrize(
    ("kinds", "accepted"),
    [
        (("light", "flat"), {"light.fits", "object.fits", "flat.fits"}),
        (("flat",), {"flat.fits"}),
        (("dark",), {"dark.fits", "flatdark.fits"}),
        (("bias", "dark"), set()),  # a model needs temperatures, and these have none
    ],
)
def test_only_the_wanted_kinds_are_accepted(
    surveys: list[tuple[str, object]], kinds: tuple[str, ...], accepted: set[str]
) -> None:
    rows = index_rows(surveys, kinds=kinds)  # type: ignore[arg-type]
    assert {r["file"] for r in rows if r["status"] == "accepted"} == accepted
    reasons = {r["file"]: r["reason"] for r in rows}
    assert all(reasons[name] for name in reasons if name not in accepted)
    if kinds == ("light", "flat"):
        assert "fractions" in reasons["reduced.fits"]
        assert "no exposure time" in reasons["timeless.fits"]
        assert "wanted here: flat, light" in reasons["dark.fits"]
