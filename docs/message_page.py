"""Every message of a failure with cause and cure, as messages.md.

    python docs/message_page.py         writes it
    python docs/message_page.py --check     exit code 1 if it is not as it would be written, or something lacks a cause

Messages, classes and advice come from the source (message_sites.py), causes from message_causes.yaml.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE))

from message_sites import MARK, ErrorClass, Site, all_sites, exit_code, family  # noqa: E402 - after the path

PAGE = HERE / "messages.md"
CAUSES = HERE / "message_causes.yaml"
HEAD = """# Every message, with cause and cure

All that darkpipe expects to go wrong is a `PipelineError`, of one of the classes below. On the command line it is one
line: what, `[where]`, and what to do; from Python it is raised, with `what`, `where` and `do`. `{mark}` stands for what
differs from case to case. {count} messages; a test raises each. The ones that are met most are explained in
[troubleshooting](troubleshooting.md), with reasons for which a frame is rejected.

`(library)` marks what is said to callers of `import darkpipe` alone, `(simulator)` what the simulated camera says. A
wrong value in the settings is told as `section.name: {mark} (it is {mark})`, with the rule that it breaks.

This page is made from the source by `python docs/message_page.py`.
"""


def causes() -> dict[str, dict[str, str]]:
    """Cause and, where the message advises nothing, cure by message."""
    found: dict[str, dict[str, str]] = yaml.safe_load(CAUSES.read_text(encoding="utf-8"))
    return found


def lacking(known: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Complaints: messages without cause or cure, and causes of no message."""
    told = [f"no cause: {site.key}" for site in all_sites() if not _entry(site, known)]
    told += [f"no cure: {site.key}" for site in all_sites() if not site.advice and "cure" not in _entry(site, known)]
    texts = {text for site in all_sites() for text in site.texts}
    return told + [f"no such message: {text}" for text in known if text not in texts]


def page(known: Mapping[str, Mapping[str, str]]) -> str:
    """The page."""
    return "".join(_lines(known))


def _lines(known: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    yield HEAD.format(mark=MARK, count=len({(site.kind, site.texts) for site in all_sites()}))
    for error in family().values():
        rows = sorted(set(_rows((site for site in all_sites() if site.kind == error.name), known)), key=_by_letter)
        if rows:
            yield f"\n## {error.name}\n\n{_introduced(error)}\n\n| message | cause | what to do |\n|---|---|---|\n"
            for cells in rows:
                yield f"| {' | '.join(cells)} |\n"


def _introduced(error: ErrorClass) -> str:
    return f"{' '.join(error.doc.partition(chr(10) * 2)[0].split())} Exit code {exit_code(error.name)}."


def _rows(sites: Iterable[Site], known: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[str, ...]]:
    for site in sites:
        entry = _entry(site, known)
        cures = [*map(_sentence, site.advice), *filter(None, [entry.get("cure")])]
        message = "<br>".join(map(_code, site.texts))
        yield message, _cell(entry.get("cause", "")), _cell("; ".join(dict.fromkeys(cures)))


def _entry(site: Site, known: Mapping[str, Mapping[str, str]]) -> Mapping[str, str]:
    return next((known[text] for text in site.texts if text in known), {})


def _sentence(advice: str) -> str:
    """As a part of a sentence: small at its beginning but for names and abbreviations, without a full stop."""
    first = advice.partition(" ")[0]
    plain = advice if first.isupper() or first in ("Alpaca", "Dask") else advice[:1].lower() + advice[1:]
    parts = plain.removesuffix(".").split("`")
    parts[::2] = [re.sub(r"([|*_<])", r"\\\1", words) for words in parts[::2]]  # what is no code
    return "`".join(parts)


def _by_letter(cells: tuple[str, ...]) -> tuple[str, ...]:
    return (cells[0].strip(f"`{MARK}': ").lower(), *cells)


def _code(text: str) -> str:
    mark = "``" if "`" in text else "`"
    return f"{mark}{text.replace('|', '¦')}{mark}"


def _cell(text: str) -> str:
    return text.strip()


def main() -> int:
    """Write the page, or check it; the exit code."""
    known = causes()
    told = lacking(known)
    if "--check" in sys.argv[1:]:
        if PAGE.read_text(encoding="utf-8") != page(known):
            told.append("messages.md is not as the source has it: python docs/message_page.py")
    else:
        PAGE.write_text(page(known), encoding="utf-8")
    print("\n".join(told) or "every message has cause and cure")
    return int(bool(told))


if __name__ == "__main__":
    sys.exit(main())
