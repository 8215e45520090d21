"""YAML in, plain data out: whatever a file holds, it is read in little memory and time, or refused.

Only YAML's own types are made, so nothing in a file is run. Aliases are counted as what they stand for: nine lines of
them can stand for a billion values, which whoever walks over the data would look at one by one.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_CHARACTERS = 2 << 20
MOST_VALUES = 100_000
DEEPEST = 40
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")  # no path or terminal holds them


class NoYamlError(ValueError):
    """The text is no YAML, or asks for more than any file of settings or of a product holds; says where."""


def load(text: str, *, keys_once: bool = False) -> Any:
    """The content of a text.

    keys_once : refuse a key that stands twice in one mapping, of which YAML would silently take the last.

    Raises
    ------
    NoYamlError
        which is a `ValueError`.
    """
    if len(text) > MOST_CHARACTERS:
        raise NoYamlError(f"more than {MOST_CHARACTERS} characters")
    try:
        return yaml.load(text, Loader=_OnceLoader if keys_once else _PlainLoader)
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError, AttributeError, LookupError) as error:
        # a date of month 13, a number of a million digits: what YAML makes of text fails in ways of its own
        raise NoYamlError(" ".join(str(error).split())) from error


def check(text: str) -> None:
    """Refuse what `load` would refuse for its size, without making anything of it: for a reader of its own kind, which
    may refuse more. A text without aliases is as large as it looks, and a short one is left to that reader.

    Raises
    ------
    NoYamlError
    """
    if len(text) <= MOST_VALUES and "*" not in text:
        return
    if len(text) > MOST_CHARACTERS:
        raise NoYamlError(f"more than {MOST_CHARACTERS} characters")
    try:
        yaml.compose(text, Loader=_PlainLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise NoYamlError(" ".join(str(error).split())) from error


class _PlainLoader(yaml.SafeLoader):
    """Counts what it makes."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._values: dict[int, int] = {}  # in a node and below it

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.get_mark()
        is_alias = self.check_event(yaml.AliasEvent)
        self._depth += 1
        if self._depth > DEEPEST:
            raise yaml.composer.ComposerError(None, None, f"more than {DEEPEST} levels deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if is_alias and id(node) not in self._values:
            raise yaml.composer.ComposerError(None, None, "a value that holds itself", mark)
        if node is not None and not is_alias:
            self._values[id(node)] = 1 + sum(self._values[id(below)] for below in _below(node))
            if self._values[id(node)] > MOST_VALUES:
                raise yaml.composer.ComposerError(None, None, f"more than {MOST_VALUES} values", mark)
        return node

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        value = super().construct_scalar(node)
        if isinstance(value, str) and _CONTROLS.search(value):
            raise yaml.constructor.ConstructorError(None, None, "a character that no text may hold", node.start_mark)
        return value


class _OnceLoader(_PlainLoader):
    """Refuses a key that stands twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            if key.value in seen:
                told = f"the key '{key.value}' stands twice"
                raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _below(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []
