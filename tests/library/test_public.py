"""`import darkpipe`: light, complete, with examples that are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
import subprocess
import sys
import tomllib
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


def test_every_file_of_the_packages_is_installed() -> None:
    """By the rules of pyproject.toml: packages that can be found, modules, and what is listed as their data."""
    setup = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    data = setup["package-data"]
    for top in ("darkpipe", "steps", "hardware"):
        assert f"{top}*" in setup["packages"]["find"]["include"]
        for path in (PROJECT / top).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                around = next(p for p in path.parents if (p / "__init__.py").is_file())
                package = ".".join(around.relative_to(PROJECT).parts)
                listed = any(path in around.glob(pattern) for pattern in data.get(package, []))
                assert listed or (path.suffix == ".py" and around == path.parent), path


@pytest.mark.slow
def test_a_type_checker_knows_what_it_gets(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not there: install requirements-dev.txt")
    script = tmp_path / "uses.py"
    script.write_text(
        "import darkpipe\n"
        "reveal_type(darkpipe.DarkModel.read('out').synthesize(-5.0, 60.0))\n"
        "reveal_type(darkpipe.example_model().fits_range.exposure_s)\n"
        "darkpipe.fit_light_model\n"
    )
    words = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", str(script)]
    done = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert 'Revealed type is "darkpipe.library.frame.Frame"' in done.stdout, done.stdout + done.stderr
    assert "tuple[float, float]" in done.stdout.lower()
    assert done.stdout.count("error:") == 1, done.stdout
    assert 'Module has no attribute "fit_light_model"' in done.stdout
