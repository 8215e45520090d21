"""The rules of docs/architecture.md that a tool can check, in the source itself."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import master_controller

PROJECT = Path(master_controller.__file__).resolve().parent
PACKAGES = ("darkpipe", "steps", "hardware")
SOURCES = sorted(
    [*PROJECT.glob("*.py"), *(path for package in PACKAGES for path in (PROJECT / package).rglob("*.py"))],
)
EVERYTHING = sorted([*SOURCES, *(PROJECT / "tests").rglob("*.py"), *(PROJECT / "benchmarks").rglob("*.py")])
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}

MOST_LINES_OF_A_FILE = 500
MOST_LINES_OF_A_FUNCTION = 60
PRODUCT = re.compile(r"^\S*\.(?:fits|ecsv|yaml|npz|json|jsonl|png|log)$")
PATHS_ELSEWHERE = {
    "darkpipe/files/layout": None,  # the places for them
    "darkpipe/science/models": None,  # a model names the files of its maps
    "darkpipe/files/bias_files.py": {"bias_model.fits", ".fits"},  # a user's own bias model
    "darkpipe/files/tables.py": {"ascii.ecsv"},  # a format
    "darkpipe/console.py": {".log"},
    "darkpipe/jobs": {"journal.jsonl", ".pipeline.lock.json"},  # steps know neither
}
KEYWORDS_ELSEWHERE = ("darkpipe/files/keywords.py", "darkpipe/files/fits_bytes.py")


def name_of(path: Path) -> str:
    return path.relative_to(PROJECT).as_posix()


def strings(tree: ast.AST) -> Iterator[ast.Constant]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node


def test_import_rules_hold() -> None:
    linter = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", linter], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_only_the_command_line_sees_the_controller() -> None:
    for path, tree in TREES.items():
        if path.parent == PROJECT:
            continue
        for node in ast.walk(tree):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            top = {name.partition(".")[0] for name in names}
            assert not top & {"master_controller", "run_pipeline", "tests", "benchmarks"}, name_of(path)


def test_pictures_are_drawn_without_pyplot() -> None:
    for path in SOURCES:
        imports = [node for node in ast.walk(TREES[path]) if isinstance(node, ast.Import | ast.ImportFrom)]
        assert not any("pyplot" in ast.unparse(node) for node in imports), name_of(path)


def allowed_paths(path: Path) -> set[str] | None:
    """Names of products that a module may spell; None: all."""
    return next((names for place, names in PATHS_ELSEWHERE.items() if name_of(path).startswith(place)), set())


def test_paths_of_products_are_spelled_in_the_layout_only() -> None:
    found = []
    for path, tree in TREES.items():
        allowed = allowed_paths(path)
        if allowed is None:
            continue
        labels = {
            id(node.value) for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "label"
        }  # words for people
        found += [
            f"{name_of(path)}:{node.lineno} {node.value}"
            for node in strings(tree)
            if PRODUCT.match(str(node.value)) and node.value not in allowed and id(node) not in labels
        ]
    assert found == []


def raw_keywords() -> set[str]:
    tree = TREES[PROJECT / "darkpipe" / "files" / "keywords.py"]
    return {str(node.value) for node in strings(tree) if re.fullmatch(r"[A-Z][A-Z0-9_-]{2,}", str(node.value))}


def of_products(tree: ast.AST) -> set[int]:
    """Strings that name a card of a product: written as (keyword, value, comment), or read back by `read_header`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Tuple) and len(node.elts) == 3:
            names.add(id(node.elts[0]))
        if isinstance(node, ast.Subscript | ast.Call) and "read_header(" in ast.unparse(node):
            names |= {id(inner) for inner in strings(node)}
    return names


def test_raw_keywords_are_spelled_in_one_table() -> None:
    known = raw_keywords()
    assert {"EXPTIME", "CCD-TEMP", "IMAGETYP"} < known
    found = []
    for path, tree in TREES.items():
        if name_of(path) in KEYWORDS_ELSEWHERE:
            continue
        ours = of_products(tree)
        found += [
            f"{name_of(path)}:{node.lineno} {node.value}"
            for node in strings(tree)
            if node.value in known and id(node) not in ours
        ]
    assert found == []


@pytest.mark.parametrize("path", EVERYTHING, ids=name_of)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES_OF_A_FILE


def code_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    last = function.end_lineno or function.lineno
    lines = last - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def test_functions_fit_a_screen() -> None:
    long = [
        f"{name_of(path)}: {node.name} has {code_lines(node)} lines"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and code_lines(node) > MOST_LINES_OF_A_FUNCTION
    ]
    assert long == []


def test_public_names_are_documented() -> None:
    bare = []
    for path, tree in TREES.items():
        if not ast.get_docstring(tree):
            bare.append(name_of(path))
        for node in tree.body:
            public = isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
            if public and not ast.get_docstring(node):
                bare.append(f"{name_of(path)}: {node.name}")
            if public and isinstance(node, ast.ClassDef):
                bare += [f"{name_of(path)}: {node.name}.{name}" for name in undocumented(node)]
    assert bare == []


def undocumented(node: ast.ClassDef) -> Iterator[str]:
    """Public methods that do more than name something, and do not say what; properties are described by their class."""
    for method in node.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
            told = code_lines(method) <= 4 or method.decorator_list or ast.get_docstring(method)
            if not told:
                yield method.name


def test_python_calls_no_part_of_a_kernel() -> None:
    """What is merged into kernels is not kept by itself: called by Python, it would be compiled in every run anew."""

    def marks(node: ast.AST) -> set[str]:
        marked = getattr(node, "decorator_list", [])
        return {mark.id for mark in marked if isinstance(mark, ast.Name)}

    parts = {
        path: {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and "inlined" in marks(node)}
        for path, tree in TREES.items()
    }
    assert sum(map(len, parts.values())) > 50
    called = []
    for path, tree in TREES.items():
        here = set(parts[path])
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                there = parts.get(PROJECT / (node.module.replace(".", "/") + ".py"), set())
                here |= {a.asname or a.name for a in node.names if a.name in there}
        called += [
            f"{name_of(path)}:{node.lineno} {node.func.id}"
            for part in tree.body
            if not marks(part) & {"kernel", "inlined"}
            for node in ast.walk(part)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in here
        ]
    assert called == []
