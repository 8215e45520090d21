"""Nothing in the program runs, or makes objects of, what a file says."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest
from helpers import PROJECT

SOURCES = [
    *PROJECT.glob("*.py"),
    *(path for package in ("darkpipe", "steps", "hardware", "examples") for path in (PROJECT / package).rglob("*.py")),
]
MODULES = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "code", "xmlrpc"}
FUNCTIONS = {"eval", "exec", "compile", "__import__", "execfile"}
METHODS = {
    *("os.system", "os.popen", "os.startfile", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("yaml.load_all", "yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all"),
    *("pd.read_pickle", "pandas.read_pickle", "torch.load", "runpy.run_path", "tempfile.mktemp"),
}
PIPES = "darkpipe/report/painters.py"  # speaks with processes that it started itself, over their standard streams
YAML = "darkpipe/plain_yaml.py"  # the one reader, with a loader of its own that is a SafeLoader


def complaints(tree: ast.AST, name: str) -> Iterator[str]:
    """What a source must not do."""
    for node in ast.walk(tree):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            given = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            allowed = {"pickle"} if name == PIPES else set()
            if {module.partition(".")[0] for module in given} & MODULES - allowed:
                yield f"{where} imports {given}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        if called in FUNCTIONS | METHODS:
            yield f"{where} calls {called}"
        if called in ("yaml.load", "yaml.safe_load", "yaml.safe_load_all") and name != YAML:
            yield f"{where} reads YAML past plain_yaml"
        for keyword in node.keywords:
            if keyword.arg in ("shell", "allow_pickle") and ast.unparse(keyword.value) != "False":
                yield f"{where} has {keyword.arg}={ast.unparse(keyword.value)}"


def test_no_source_runs_what_it_reads() -> None:
    found = []
    for path in SOURCES:
        name = path.relative_to(PROJECT).as_posix()
        found += complaints(ast.parse(path.read_text(encoding="utf-8")), name)
    assert len(SOURCES) > 200
    assert found == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "os.system('ls')",
        "subprocess.run('ls', shell=True)",
        "np.load(path, allow_pickle=True)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.safe_load(text)",
    ],
)
def test_the_search_finds_them(source: str) -> None:
    assert list(complaints(ast.parse(source), "some.py"))


def test_the_template_escapes_all_but_its_own_style_and_script() -> None:
    template = (PROJECT / "darkpipe" / "report" / "html" / "report.html").read_text(encoding="utf-8")
    assert template.count("safe }}") == 2
    assert "{{ style | safe }}" in template
    assert "{{ script | safe }}" in template
    assert "autoescape true" not in template
