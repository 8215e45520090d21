"""The pages of docs/ as HTML, without a warning; the tutorial does what it shows."""

from __future__ import annotations

import html
import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import PROJECT, environment

import darkpipe

DOCS = PROJECT / "docs"
TUTORIAL = DOCS / "tutorial.ipynb"
NEEDS = "install requirements-dev.txt"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages."""
    pytest.importorskip("sphinx", reason=f"sphinx is not there: {NEEDS}")
    pytest.importorskip("myst_nb", reason=f"myst-nb is not there: {NEEDS}")
    pytest.importorskip("furo", reason=f"furo is not there: {NEEDS}")
    folder = tmp_path_factory.mktemp("docs")
    words = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-E",
        "-d",
        str(folder / "trees"),
        "-b",
        "html",
    ]
    done = subprocess.run(
        [*words, str(DOCS), str(folder / "html")], env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "html"


def text_of(page: Path) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_every_page_is_in_the_index(built: Path) -> None:
    index = (built / "index.html").read_text(encoding="utf-8")
    pages = [p.relative_to(DOCS).with_suffix(".html").as_posix() for p in DOCS.rglob("*.md") if "_build" not in p.parts]
    assert len(pages) > 12
    for page in [*pages, "tutorial.html"]:
        assert (built / page).is_file()
        assert page == "index.html" or f'href="{page}"' in index, page


@pytest.mark.slow
def test_links_to_the_readme_lead_to_its_page(built: Path) -> None:
    page = (built / "acquisition" / "no_camera.html").read_text(encoding="utf-8")
    assert 'href="../readme.html#your-own-frames"' in page
    assert "evaluation_summary.png" in (built / "readme.html").read_text(encoding="utf-8")
    assert "Changes" in text_of(built / "changelog.html")


@pytest.mark.slow
def test_equations_need_no_network(built: Path) -> None:
    page = (built / "how_it_works.html").read_text(encoding="utf-8")
    assert page.count('class="equation"') > 30
    assert 'alt="\\mathrm{exp\\_2d}' in page
    for path in built.rglob("*.html"):
        assert not re.search(r'<(?:script|link|img)[^>]* (?:src|href)="https?:', path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_the_library_is_described(built: Path) -> None:
    page = (built / "api" / "library.html").read_text(encoding="utf-8")
    for name in sorted(set(darkpipe.__all__) - {"__version__"}):
        assert f'id="darkpipe.{name}"' in page, name
    text = text_of(built / "api" / "library.html")
    assert "raw darks [raw counts]: a cube (n, rows, cols)" in text
    assert "dark = model.synthesize(temperature_c=-8.0, exposure_s=180.0)" in text


@pytest.mark.slow
def test_the_tutorial_is_shown_with_its_pictures(built: Path) -> None:
    page = (built / "tutorial.html").read_text(encoding="utf-8")
    assert page.count("<img") >= 2
    assert "pixels masked" in text_of(built / "tutorial.html")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_tutorial_does_what_it_shows(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason=f"nbformat is not there: {NEEDS}")
    pytest.importorskip("ipykernel", reason=f"ipykernel is not there: {NEEDS}")
    pytest.importorskip("nbclient", reason=f"nbclient is not there: {NEEDS}")
    shutil.copy(TUTORIAL, tmp_path / TUTORIAL.name)
    code = (
        "import sys, nbformat, nbclient; path = sys.argv[1]; book = nbformat.read(path, 4); "
        "nbclient.NotebookClient(book, timeout=300).execute(); nbformat.write(book, path)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / TUTORIAL.name)], env=environment(), cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stored, run = (nbformat.read(path, 4) for path in (TUTORIAL, tmp_path / TUTORIAL.name))
    assert len(outputs(stored)) > 8
    assert outputs(stored) == outputs(run)


def outputs(book: object) -> list[list[str]]:
    """Texts of the code cells, and that there is a picture."""
    found = []
    for cell in book.cells:  # type: ignore[attr-defined]
        if cell.cell_type == "code":
            parts = []
            streaming = None
            for output in cell.outputs:
                assert output.output_type != "error"
                data = output.get("data", {})
                part = "picture" if "image/png" in data else output.get("text") or data["text/plain"]
                if output.output_type == "stream" and output.name == streaming:
                    parts[-1] += part  # how a stream is cut is a matter of timing
                else:
                    parts.append(part)
                streaming = output.get("name")
            found.append(parts)
    return found


def test_the_tutorial_is_small() -> None:
    assert TUTORIAL.stat().st_size < 200_000


@pytest.fixture(scope="module")
def docstrings() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docstrings", DOCS / "docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docstrings_become_lists(docstrings: ModuleType) -> None:
    lines = [
        "What `x` is, |x - m| > 2*s.",
        "",
        "Parameters",
        "----------",
        "rows, cols : of the frame,",
        "    both. a_ : no.",
        "kind : 'dark'",
        "",
        "Raises",
        "------",
        "ValueError",
        "    when it is wrong.",
        "",
        ">>> a | b",
        "3",
    ]
    made = "\n".join(docstrings.converted(lines))
    assert r"What ``x`` is, \|x - m\| > 2\*s." in made
    assert ".. rubric:: Parameters" in made
    assert "``rows, cols``\n    of the frame,\n    both. a\\_ : no." in made
    assert "``kind``\n    'dark'" in made
    assert "``ValueError``\n    when it is wrong." in made
    assert made.endswith(">>> a | b\n3")
