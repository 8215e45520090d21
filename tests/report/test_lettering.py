"""Text set by Pillow, held against matplotlib's own."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from darkpipe.report.lettering import Canvas

LINES = ("Absolute error, −10.0 °C, 300 s", "gy,jq (pink)", "0", "−", "two\nlines of text")


def drawn(canvas_class, text, **options):
    page = Figure(figsize=(4, 4), dpi=100, facecolor="white")
    canvas = canvas_class(page)
    page.text(0.5, 0.5, text, **({"fontsize": 9, "parse_math": False} | options))
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).astype(int)


def ink(picture):
    rows, columns = np.nonzero((picture[..., :3] < 128).any(axis=-1))
    return np.array([rows.min(), rows.max(), columns.min(), columns.max()])


@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("place", [("left", "top"), ("center", "center"), ("right", "baseline"), ("left", "bottom")])
@pytest.mark.parametrize("text", LINES)
def test_text_stands_where_matplotlib_has_it(text, place, rotation):
    options = {"ha": place[0], "va": place[1], "rotation": rotation}
    found, expected = ink(drawn(Canvas, text, **options)), ink(drawn(FigureCanvasAgg, text, **options))
    long = max(expected[1] - expected[0], expected[3] - expected[2])
    assert np.abs(found - expected).max() <= 3 + 0.05 * long  # an older matplotlib sets letters less close


def test_size_weight_and_colour_are_those_asked_for():
    def of(**options):
        return drawn(Canvas, "dark", **options)

    def shares(picture):
        return (255 - picture[..., :3]).sum((0, 1)) / 255

    plain = shares(of())
    assert np.allclose(shares(of(fontsize=18)) / plain, 4, atol=0.8)
    assert (shares(of(weight="bold")) > 1.2 * plain).all()
    red, half = shares(of(color="red")), shares(of(alpha=0.5))
    assert red[0] < 0.02 * plain[0]
    assert np.allclose(red[1:], plain[1:], rtol=0.02)
    assert np.allclose(half, plain / 2, rtol=0.03)


@pytest.mark.parametrize(
    ("text", "options"), [("$x^2$", {"parse_math": True}), ("slanted", {"rotation": 30}), ("あ", {})]
)
@pytest.mark.filterwarnings("ignore:Glyph")
def test_the_rest_is_left_to_matplotlib(text, options):
    assert (drawn(Canvas, text, **options) == drawn(FigureCanvasAgg, text, **options)).all()


def test_blanks_leave_no_ink():
    for text in ("", " ", "\n"):
        assert (drawn(Canvas, text) == 255).all()


def test_a_page_of_another_size_gets_pixels_of_its_own():
    page = Figure(figsize=(2, 1), dpi=100)
    canvas = Canvas(page)
    canvas.draw()
    page.set_dpi(150)
    canvas.draw()
    assert np.asarray(canvas.buffer_rgba()).shape == (150, 300, 4)
