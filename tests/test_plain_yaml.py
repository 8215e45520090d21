"""YAML that asks for more than a file of settings does is refused, in little time; nothing in it is run."""

from __future__ import annotations

import datetime
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from darkpipe import plain_yaml
from darkpipe.errors import ProductError, SettingsError
from darkpipe.files.tables import read_table
from darkpipe.settings import read_yaml

BILLION = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGED = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BILLION, "more than 100000 values"),
        (MERGED, "more than 100000 values"),
        ("[" * 2000, "more than 40 levels deep"),
        ("a: " * 500, "mapping values are not allowed here"),
        ("".join(" " * n + f"k{n}:\n" for n in range(300)), "more than 40 levels deep"),
        ("a: &a [*a]", "a value that holds itself"),
        ("a: &a {b: *a}", "a value that holds itself"),
        ("x" * (plain_yaml.MOST_CHARACTERS + 1), "more than 2097152 characters"),
        ("[" + "x," * 100_001 + "]", "more than 100000 values"),
        ("a: 2001-13-45", "month must be in 1..12"),
        (f"a: {'9' * 5000}", "4300"),
        ("a: !!python/object/apply:os.system ['touch pwned']", "could not determine a constructor"),
        ("a: !!python/name:os.system", "could not determine a constructor"),
        ("? {a: 1}\n: b", "unhashable"),
        ("a: *unknown", "undefined alias"),
        ("a: \x07", "special characters are not allowed"),
    ],
)
def test_it_is_refused(text: str, told: str) -> None:
    with pytest.raises(plain_yaml.NoYamlError, match=told) as caught:
        plain_yaml.load(text)
    assert "\n" not in str(caught.value)


def test_little_memory_is_taken_for_a_bomb() -> None:
    tracemalloc.start()
    with pytest.raises(plain_yaml.NoYamlError):
        plain_yaml.load(BILLION)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e6


def test_aliases_and_merges_that_are_meant_are_read() -> None:
    text = "base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\nlist: [*base, *base]\nday: 2025-01-02"
    found: dict[str, Any] = plain_yaml.load(text)
    assert found["other"] == {"a": 1, "b": 3}
    assert found["list"] == [{"a": 1, "b": 2}] * 2
    assert found["day"] == datetime.date(2025, 1, 2)
    assert plain_yaml.load("") is None


def test_a_key_that_stands_twice() -> None:
    assert plain_yaml.load("a: 1\na: 2") == {"a": 2}
    with pytest.raises(plain_yaml.NoYamlError, match="the key 'a' stands twice"):
        plain_yaml.load("a: 1\na: 2", keys_once=True)


def test_settings_and_tables_are_read_by_it(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(BILLION)
    with pytest.raises(SettingsError, match=r"this is no YAML: .*more than 100000 values"):
        read_yaml(path)
    table = tmp_path / "index.ecsv"
    lines = "".join(f"# {line}\n" for line in BILLION.splitlines())
    table.write_text(f"# %ECSV 1.0\n# ---\n# datatype:\n# - {{name: a, datatype: int64}}\n{lines}a\n1\n")
    with pytest.raises(ProductError, match=r"the table is damaged: .*more than 100000 values"):
        read_table(table)
