"""Where darkpipe says that something failed, found in its source: what it says, and what it advises.

A site is a place that makes an error of the `PipelineError` family, or a `ValueError` that settings and flags turn into
one. A place that only passes on what another error says is none.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
PLACES = ("run_pipeline.py", "master_controller.py", "darkpipe", "steps", "hardware")
ROOT = "PipelineError"
MARK = "…"
CHECKS = ("steps/flags.py", "hardware/settings.py", "darkpipe/files/frame_set.py", "darkpipe/science/stretch.py")
"""Files whose plain `ValueError` and `ArgumentTypeError` end as the text of a `SettingsError`."""
CHECK_KINDS = {"ValueError": "SettingsError", "argparse.ArgumentTypeError": "SettingsError"}
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Site:
    """A place in the source.

    file : relative to the project. function : its name with that of its class. lines : first and last. kind : class of
    the error. texts : what it may say, values as '…'. advice : what it may advise, in the same way.
    """

    file: str
    function: str
    lines: tuple[int, int]
    kind: str
    texts: tuple[str, ...]
    advice: tuple[str, ...]

    @property
    def key(self) -> str:
        """A name that lasts while lines move."""
        return f"{self.file}:{self.function}: {' | '.join(self.texts)}"


@dataclass(frozen=True)
class ErrorClass:
    """A class of the family. doc : its docstring. base : the first class that it is derived from."""

    name: str
    base: str
    doc: str
    exit_code: int | None


def sources() -> list[Path]:
    """The files of the program."""
    found = []
    for place in PLACES:
        path = PROJECT / place
        found += [path] if path.is_file() else sorted(path.rglob("*.py"))
    return found


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def family() -> Mapping[str, ErrorClass]:
    """The classes of `PipelineError` by name, a class behind the one that it is derived from."""
    classes = [node for path in sources() for node in ast.walk(_tree(path)) if isinstance(node, ast.ClassDef)]
    found: dict[str, ErrorClass] = {}
    grew = True
    while grew:
        grew = False
        for node in classes:
            bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
            known = next((base for base in bases if base in found), None)
            if node.name not in found and (node.name == ROOT or known is not None):
                found[node.name] = ErrorClass(node.name, known or "", ast.get_docstring(node) or "", _exit_code(node))
                grew = True
    return found


def exit_code(name: str) -> int:
    """What a run ends with after an error of this class."""
    error = family()[name]
    return error.exit_code if error.exit_code is not None else exit_code(error.base)


def _exit_code(node: ast.ClassDef) -> int | None:
    for line in node.body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == "exit_code":
            return int(ast.literal_eval(line.value))
    return None


@functools.cache
def all_sites() -> tuple[Site, ...]:
    """Every site, by file and line."""
    return tuple(sorted((s for path in sources() for s in _sites_of(path)), key=lambda s: (s.file, s.lines)))


def _sites_of(path: Path) -> Iterator[Site]:
    tree, file = _tree(path), path.relative_to(PROJECT).as_posix()
    for scope, function in _functions(tree):
        for node in _own_nodes(function):
            made = _made(node, file)
            if made is None:
                continue
            kind, call = made
            look = _Look(tree, function)
            first = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "what"), None)
            texts = tuple(sorted(look.texts(first))) if first is not None else ()
            if not texts:
                continue
            do = next((keyword.value for keyword in call.keywords if keyword.arg == "do"), None)
            advice = tuple(sorted(look.texts(do))) if do is not None else ()
            yield Site(file, scope, (call.lineno, call.end_lineno or call.lineno), kind, texts, advice)


def _made(node: ast.AST, file: str) -> tuple[str, ast.Call] | None:
    """The class of the error that an expression makes, and the call that makes it."""
    if not isinstance(node, ast.Call):
        return None
    if isinstance(node.func, ast.IfExp):  # (OneError if … else AnotherError)(what)
        name = ast.unparse(node.func.body)
    else:
        name = ast.unparse(node.func)
    if name.rpartition(".")[2] in family():
        return name.rpartition(".")[2], node
    if file in CHECKS and name in CHECK_KINDS:
        return CHECK_KINDS[name], node
    return None


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every function with its name, those of classes too, and the module as one."""
    yield "", tree
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        scope, node = stack.pop()
        for child in ast.iter_child_nodes(node):
            name = scope
            if isinstance(child, ast.ClassDef | FUNCTIONS):
                name = f"{scope}.{child.name}".lstrip(".")
                if isinstance(child, FUNCTIONS):
                    yield name, child
            stack.append((name, child))


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Nodes of a function that belong to no function inside it."""
    stack = list(ast.iter_child_nodes(function))
    while stack:
        node = stack.pop()
        if not isinstance(node, FUNCTIONS):
            yield node
            stack += ast.iter_child_nodes(node)


class _Look:
    """What an expression of a function may come out as, in words."""

    def __init__(self, tree: ast.Module, function: ast.AST) -> None:
        self.tree, self.function = tree, function

    def texts(self, node: ast.expr, depth: int = 0) -> set[str]:
        """All that can be told; nothing where it is the text of another error, or given by the caller."""
        if depth > 4:
            return set()
        if isinstance(node, ast.Constant):
            return {node.value} if isinstance(node.value, str) else set()
        if isinstance(node, ast.JoinedStr):
            return _variants([self._piece(part, depth) for part in node.values])
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = self.texts(node.left, depth), self.texts(node.right, depth)
            return _variants([left or {MARK}, right or {MARK}]) if left or right else set()
        if isinstance(node, ast.IfExp):
            return self.texts(node.body, depth) | self.texts(node.orelse, depth)
        if isinstance(node, ast.BoolOp):
            return {text for value in node.values for text in self.texts(value, depth)}
        if isinstance(node, ast.Name):
            return {t for value in self._values(node.id) for t in self.texts(value, depth + 1)}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return {t for value in self._returned(node.func.id) for t in self.texts(value, depth + 1)}
        return set()

    def _piece(self, part: ast.expr, depth: int) -> set[str]:
        if isinstance(part, ast.Constant):
            return {str(part.value)}
        assert isinstance(part, ast.FormattedValue)
        if part.conversion == ord("r"):
            return {f"'{MARK}'"}
        if isinstance(part.value, ast.IfExp | ast.Constant):
            return self.texts(part.value, depth) or {MARK}
        if isinstance(part.value, ast.Name) and part.value.id.isupper() and part.format_spec is None:
            return self.texts(part.value, depth) or {MARK}
        return {MARK}

    def _values(self, name: str) -> Iterator[ast.expr]:
        """What a name is given in the function, or else in the module."""
        for scope in (self.function, self.tree):
            found = list(_assigned(scope, name))
            if found:
                yield from found
                return

    def _returned(self, name: str) -> Iterator[ast.expr]:
        for node in ast.walk(self.tree):
            if isinstance(node, FUNCTIONS) and node.name == name:
                yield from (n.value for n in _own_nodes(node) if isinstance(n, ast.Return) and n.value is not None)


def _assigned(scope: ast.AST, name: str) -> Iterator[ast.expr]:
    for node in _own_nodes(scope):
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            value = getattr(node, "value", None)
            if isinstance(target, ast.Name) and target.id == name and value is not None:
                yield value
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = zip(target.elts, value.elts, strict=False)
                yield from (v for t, v in pairs if isinstance(t, ast.Name) and t.id == name)


def _variants(pieces: list[set[str]]) -> set[str]:
    """Every joining of one of each piece; values beside each other are one."""
    joined = {""}
    for piece in pieces:
        joined = {text + more for text in joined for more in piece}
        if len(joined) > 12:
            joined = {next(iter(sorted(joined)))}
    return {re.sub(rf"{MARK}(?:[ ,;]*{MARK})+", MARK, " ".join(text.split())) for text in joined}
