"""`import darkpipe`: light, complete, with examples that are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROJECT, environment

import darkpipe
import darkpipe.library

MODULES = [f"darkpipe.library.{m.name}" for m in pkgutil.iter_modules(darkpipe.library.__path__)]
HEAVY = ("numpy", "numba", "scipy", "astropy", "matplotlib", "yaml", "pydantic")


def test_the_import_loads_nothing_heavy() -> None:
    code = f"import sys, darkpipe; sys.exit(', '.join(m for m in {HEAVY} if m in sys.modules) or None)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_name_is_there_and_documented() -> None:
    for name in darkpipe.__all__:
        found = getattr(darkpipe, name)
        assert name in dir(darkpipe)
        if inspect.isclass(found) or inspect.isfunction(found):
            assert inspect.getdoc(found), name
    with pytest.raises(AttributeError, match="has no attribute 'fit_light_model'"):
        darkpipe.fit_light_model  # type: ignore[attr-defined] # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((PROJECT / "darkpipe" / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        (alias.asname or alias.name): f"{node.module}"
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == darkpipe._HOME_OF
    assert set(seen) | {"__version__"} == set(darkpipe.__all__)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0, capsys.readouterr().out


def test_there_are_examples() -> None:
    finder = doctest.DocTestFinder()
    with_examples = {
        test.name for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples
    }
    for name in ("DarkModel", "DarkModel.synthesize", "fit_dark_model", "Frame.to_ccddata", "combine_frames"):
        assert any(found.endswith(f".{name}") for found in with_examples), name


def test_installed_it_is_importable(tmp_path: Path) -> None:
    """What a wheel would hold: every package of the library, and nothing that is not Python."""
    import tomllib

    found = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert found["packages"]["find"]["include"] == ["darkpipe*", "steps*", "hardware*"]
    for folder in (PROJECT / "darkpipe").rglob("*"):
        if folder.is_dir() and folder.name != "__pycache__":
            assert (folder / "__init__.py").is_file(), folder
