"""Sphinx: `make docs` builds docs/_build/html. No network is asked, and no notebook is run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

import docstrings  # noqa: E402 - after the path
import equations  # noqa: E402

from darkpipe.version import __version__  # noqa: E402

project = "darkpipe"
author = "the darkpipe authors"
project_copyright = author
version = release = __version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # links to #headings, as in a repository browser
nb_execution_mode = "off"

smartquotes = False  # 'auto' in quotation marks is a word of the program
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_default_options = {"exclude-members": "__init__, __new__"}
autodoc_type_aliases = {"Number": "Number"}
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
default_role = "code"

html_math_renderer = "pictures"  # see equations.py
html_theme = "furo"
html_title = f"darkpipe {__version__}"
html_static_path = ["_static"]
html_css_files = ["darkpipe.css"]
html_copy_source = False
html_show_sphinx = False

OF_REPOSITORY = {"readme": "README.md", "changelog": "CHANGELOG.md"}
ARRAY = re.compile(
    r"~?numpy\.ndarray\[(?:~?typing\.)?(?:tuple\[(?:~?typing\.)?Any, \.\.\.\]|Any), "
    r"~?numpy\.dtype\[~?(?:numpy\.|typing\.)?(\w+)\]\]"
)
RELATIVE = re.compile(r"(\]\()(?!https?:|#|/)")


def read_source(app: object, name: str, content: list[str]) -> None:
    """README and changelog of the repository are pages here."""
    if name in OF_REPOSITORY:
        text = (HERE.parent / OF_REPOSITORY[name]).read_text(encoding="utf-8")
        content[0] = RELATIVE.sub(r"\1../", text).replace("](../docs/", "](")
    for page, file in OF_REPOSITORY.items():
        content[0] = re.sub(rf"\]\((?:\.\./)+{re.escape(file)}", f"](/{page}.md", content[0])


def process_signature(
    app: object, what: str, name: str, found: object, options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Arrays are called what the source calls them."""
    return tuple(text if text is None else ARRAY.sub(r"NDArray[\1]", text) for text in (signature, returns))  # type: ignore[return-value]


def skip_member(app: object, what: str, name: str, found: object, skip: bool, options: object) -> bool | None:
    """Fields of a named tuple are told of in the text of its class."""
    return True if str(getattr(found, "__doc__", "")).startswith("Alias for field number") else None


def setup(app: object) -> None:
    """Hooks of this project."""
    equations.setup(app)
    app.connect("source-read", read_source)  # type: ignore[attr-defined]
    app.connect("autodoc-process-docstring", docstrings.process)  # type: ignore[attr-defined]
    app.connect("autodoc-skip-member", skip_member)  # type: ignore[attr-defined]
    app.connect("autodoc-process-signature", process_signature)  # type: ignore[attr-defined]
