"""Numbers and tables as the report sets them."""

from __future__ import annotations

import math
from io import BytesIO

import pytest
from PIL import Image

from darkpipe.report.blocks import Picture, Section, Table, decimals, number, plain_temperature, texts, with_error
from darkpipe.report.captions import CAPTIONS, pictures_of

NAN = math.nan


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.00"), (-12.345, "−12.3"), (1234.5, "1,234"), (0.00123, "0.00123"), (0.0, "0"), (NAN, "–"), ("", "–"),
     (None, "–"), (math.inf, "–")],
)  # fmt: skip
def test_three_figures(value: object, text: str) -> None:
    assert number(value).text == text


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [(1.27112, 0.0306, "1.271 ± 0.031"), (999.017, 0.1659, "999.02 ± 0.17"), (262144.0, NAN, "262,144"),
     (-1.0, NAN, "−1"), (NAN, 1.0, "–"), (48.2, 12.0, "48 ± 12"), (1e-9, 1e-11, "1e−09 ± 1e−11")],
)  # fmt: skip
def test_value_and_error_end_at_the_same_figure(value: float, error: float, text: str) -> None:
    assert with_error(value, error).text == text


def test_numbers_keep_what_they_are_sorted_by() -> None:
    assert number(1234.56, 3, "ADU").key == "1234.56"
    assert number(NAN).key == "nan"
    assert decimals(-2.0, 1).key == "-2.0"
    assert texts("a")[0].key == ""
    assert plain_temperature(-0.04) == "0.0"


def test_columns_of_numbers_and_of_long_words_are_known() -> None:
    rows = [[*texts("a"), number(1.0), *texts("a text that is longer than a line of a small screen")],
            [*texts("b"), number(NAN), *texts("short")]]  # fmt: skip
    table = Table("T", ("Name", "Value", "How"), rows)
    assert table.classes == ["", "n", "t"]
    assert Table("T", ("Name",), []).classes == [""]
    many = Table("T", ("Name",), [texts(k) for k in range(1000)])
    assert len(many.shown) + many.hidden == 1000
    assert Section("Master darks and residuals", []).anchor == "master-darks-and-residuals"


def png(width: int, height: int) -> bytes:
    out = BytesIO()
    Image.new("L", (width, height)).save(out, "PNG")
    return out.getvalue()


def test_pictures_stand_in_the_order_that_is_asked_for() -> None:
    sizes = {"residual_T-5.0C_texp1s": (700, 700), "grid_mae": (1200, 400), "grid_pulls": (600, 400), "unknown": (5, 5)}
    images = {f"{name}.png": png(*size) for name, size in sizes.items()}
    found = pictures_of(images, ("grid_mae", "grid_pulls", "residual_", "glow_map"))
    assert [p.file for p in found] == ["grid_mae.png", "grid_pulls.png", "residual_T-5.0C_texp1s.png"]
    assert [p.row for p in found] == [True, False, False]  # wide and flat: a row of its own
    assert [p.wide for p in found] == [True, False, False]
    assert "T-5.0C_texp1s" in found[2].alt
    assert found[0].size == (1200, 400)
    assert found[0].source.startswith("data:image/png;base64,iVBOR")
    assert all(len(alt) > 20 and caption.endswith(".") for alt, caption in CAPTIONS.values())


def test_a_picture_alone_is_no_row() -> None:
    assert not Picture(png(900, 300), "", "").row
