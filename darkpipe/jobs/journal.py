"""What was made from what: the journal of an output directory, and whether a product still holds."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from darkpipe.errors import PipelineError, ProductError
from darkpipe.jobs.contract import Digests, Job, Step, absolute, recipe_digest, recipe_text
from darkpipe.jobs.journal_file import FORMAT, Book, FileLine, JobLine, compacted, encode, encode_recipe, load
from darkpipe.jobs.stamps import digest, stamp, steady_digest, sync, to_disk
from darkpipe.same_file import Stamp

JOURNAL_NAME = "journal.jsonl"

Seen: TypeAlias = dict[str, str | None]
"""Contents that were looked at, by key of the file; None for a file that is gone."""


@dataclass(frozen=True)
class Outcome:
    """What a finished job says: digests of files, and the stamps of what it read and wrote."""

    digests: Digests
    inputs: tuple[Stamp, ...]
    outputs: tuple[Stamp, ...]


class Journal:
    """The journal of the output directory `root`; one process writes it, under the lock.

    Files are known by their keys: paths relative to `root`, with forward slashes, so that folders can move together.

    Raises
    ------
    ProductError
        if the journal cannot be read.
    """

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        self.root = absolute(root)
        self._path = Path(self.root) / JOURNAL_NAME
        self._book: Book = load(self._path)
        self._read_only = read_only
        self._keys: dict[str, str] = {}
        self._unwritten: list[bytes] = []
        self._unsynced: list[str] = []
        self._lost: ProductError | None = None
        self._owned: dict[tuple[str, str], list[str]] | None = None
        if not read_only:
            self._book = compacted(self._path, self._book)
        self._next = self._book.highest + 1

    @property
    def warnings(self) -> list[str]:
        """What was wrong with the file."""
        return self._book.warnings

    # names
    def key(self, path: Path) -> str:
        """The name under which the journal knows a file."""
        text = os.fspath(path)
        key = self._keys.get(text)
        if key is None:
            full = os.path.abspath(text)
            try:
                key = os.path.relpath(full, self.root).replace(os.sep, "/")
            except ValueError:  # another drive on Windows
                key = full
            self._keys[text] = key
        return key

    def path(self, key: str) -> str:
        """The file with this key."""
        return os.path.normpath(os.path.join(self.root, key))

    # asking
    def stale(self, step: Step, job: Job, seen: Seen | None = None) -> str | None:
        """Why a job has to be run, in words; None if its products hold.

        A file is read only if its size or time differ from what is recorded. `seen` remembers what was looked at,
        for a batch of jobs with common inputs.

        Raises
        ------
        PipelineError
            if a file cannot be read, or changes at this moment.
        TypeError
            for params that are not plain data.
        """
        seen = {} if seen is None else seen
        outputs = [self.key(path) for path in job.outputs]
        made = self._book.made.get(outputs[0])
        if made is None:
            return "never made"
        return (
            self._other_outputs(outputs, made)
            or self._other_recipe(step, job, made)
            or self._other_inputs(job, made, seen)
            or self._other_content(made, seen)
        )

    def _other_outputs(self, outputs: Sequence[str], made: JobLine) -> str | None:
        then = self._paths(made["outputs"])
        if added := _named("output", "added", [key for key in outputs if key not in then]):
            return added
        if any(self._book.made.get(key) is not made for key in outputs):
            return "never made together"
        return _named("output", "dropped", [key for key in then if key not in outputs])

    def _other_recipe(self, step: Step, job: Job, made: JobLine) -> str | None:
        text = recipe_text(step, job)
        if recipe_digest(text) == made["recipe"]:
            return None
        then = self.recipe(made)
        now = json.loads(text)
        if then is None:
            return "settings changed"
        if then["step"] != now["step"]:
            return f"made by step {_plain(then['step'])} before"
        if then["version"] != now["version"]:
            return f"step version changed ({_plain(then['version'])} -> {now['version']})"
        if then["function"] != now["function"]:
            return f"function changed ({_plain(then['function'])} -> {now['function']})"
        return "settings changed: " + "; ".join(_differences(then["params"], now["params"]))

    def _other_inputs(self, job: Job, made: JobLine, seen: Seen) -> str | None:
        then = [self._book.file(number) for number in made["inputs"]]
        keys = [self.key(path) for path in job.inputs]
        if keys != [file.path for file in then]:
            before = {file.path for file in then}
            return (
                _named("input", "added", [key for key in keys if key not in before])
                or _named("input", "dropped", sorted(before.difference(keys)))
                or "inputs in another order"
            )
        changed = [file.path for file in then if self._content(file.path, seen) != file.digest]
        gone = [key for key in changed if seen[key] is None]
        return _named("input", "gone", gone) or _named("input", "changed", changed)

    def _other_content(self, made: JobLine, seen: Seen) -> str | None:
        for number in made["outputs"]:
            file = self._book.file(number)
            content = self._content(file.path, seen)
            if content is None:
                return f"output gone: {file.path}"
            if content != file.digest:
                return f"output altered: {file.path}"
        return None

    def _content(self, key: str, seen: Seen) -> str | None:
        """Digest of a file as it is now; None if it is gone."""
        if key not in seen:
            now = stamp(self.path(key))
            seen[key] = None if now is None else self._digest(key, now)
        return seen[key]

    def _digest(self, key: str, now: Stamp) -> str:
        number = self._book.latest.get(key)
        file = None if number is None else self._book.file(number)
        if file is not None and (file.size, file.mtime_ns) == now:
            return file.digest
        content = steady_digest(self.path(key), now)
        self._version(key, now, content)
        return content

    # recording
    def contents(self, job: Job, outcome: Outcome) -> dict[str, str]:
        """Digests of inputs and outputs by key: as the job said, as the journal knows them, or read now.

        Raises
        ------
        PipelineError
            for a file that is no longer what it was when the job ended.
        """
        said = {self.key(path): content for path, content in outcome.digests.items()}
        contents = {}
        for path, taken in zip(job.inputs, outcome.inputs, strict=True):
            key = self.key(path)
            contents[key] = said.get(key) or self._digest(key, taken)
        for path, taken in zip(job.outputs, outcome.outputs, strict=True):
            # a coarse clock may give a new file the time of the old one: size and time prove nothing here
            key = self.key(path)
            contents[key] = said.get(key) or steady_digest(path, taken)
        return contents

    def record(
        self, step: Step, job: Job, outcome: Outcome, campaign: str = "", *, contents: Mapping[str, str] | None = None
    ) -> None:
        """Take in a finished job; on disk it is after the next `commit`.

        contents : what `contents` gave, where the caller has asked already.
        """
        contents = self.contents(job, outcome) if contents is None else contents
        paths, stamps = (*job.inputs, *job.outputs), (*outcome.inputs, *outcome.outputs)
        keys = [self.key(path) for path in paths]
        numbers = [self._version(key, taken, contents[key]) for key, taken in zip(keys, stamps, strict=True)]
        text = recipe_text(step, job)
        entry: JobLine = {
            "job": step.NAME,
            "campaign": campaign,
            "recipe": self._recipe_number(text),
            "inputs": numbers[: len(job.inputs)],
            "outputs": numbers[len(job.inputs) :],
            "requested": job.requested or job.in_order,
            "label": job.label,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        for key in keys[len(job.inputs) :]:
            self._book.made[key] = entry
            self._unsynced.append(self.path(key))
        self._unwritten.append(encode(entry))

    def _version(self, key: str, taken: Stamp, content: str) -> int:
        """Number of this content of a file, recorded if it, or its time, is new."""
        number = self._book.latest.get(key)
        file = None if number is None else self._book.file(number)
        if file is not None and file.digest == content:
            if (file.size, file.mtime_ns) == taken:
                return file.number
            number = file.number
        else:
            number, self._next = self._next, self._next + 1
        line = FileLine(number, key, taken.size, taken.mtime_ns, content)
        self._book.files[number] = line
        self._book.latest[key] = number
        self._unwritten.append(encode({"file": line}))
        return number

    def _recipe_number(self, text: str) -> str:
        key = recipe_digest(text)
        if key not in self._book.recipes:
            line = encode_recipe(key, text)
            self._book.recipes[key] = line
            self._unwritten.append(line + b"\n")
        return key

    def commit(self) -> None:
        """The durability point: products, then the lines about them.

        Raises
        ------
        ProductError
            if the journal cannot be written, or the disk refuses a product; in the latter case at every further call,
            too: a system says once that what it had in memory did not reach the disk.
        """
        if self._read_only or not self._unwritten:
            return
        if self._lost is not None:
            raise self._lost
        try:
            sync(self._unsynced)
        except ProductError as error:
            self._lost = error
            raise
        try:
            with open(self._path, "r+b" if self._path.exists() else "w+b") as file:
                # what stands behind the last whole line was torn by a crash
                file.seek(self._book.whole_bytes)
                file.truncate()
                start = b"" if self._book.whole_bytes else encode({"journal": FORMAT})
                written = start + b"".join(self._unwritten)
                file.write(written)
                file.flush()
                to_disk(file.fileno())
        except OSError as error:
            raise ProductError(f"cannot write the journal: {error.strerror}", where=self._path) from error
        if start:
            sync([os.fspath(self._path)])  # its name, in its folder
        self._book.whole_bytes += len(written)
        self._unwritten.clear()
        self._unsynced.clear()

    # pruning
    def campaigns(self, step_name: str) -> set[str]:
        """Campaigns for which products of this step are recorded."""
        return {campaign for name, campaign in self._owners() if name == step_name}

    def orphans(self, step_name: str, campaign: str, planned: Collection[str]) -> list[str]:
        """Keys of products of a step and campaign that are not in the plan (keys) and that nobody wished for."""
        orphans = []
        for key in self._owners().get((step_name, campaign), ()):
            made = self._book.made.get(key)
            if made is None or key in planned or made["requested"]:
                continue
            if (made["job"], made["campaign"]) == (step_name, campaign):
                orphans.append(key)
        return orphans

    def _owners(self) -> dict[tuple[str, str], list[str]]:
        # what is recorded after the first call is in the plan, hence no orphan
        if self._owned is None:
            self._owned = {}
            for key, made in self._book.made.items():
                self._owned.setdefault((made["job"], made["campaign"]), []).append(key)
        return self._owned

    def remove(self, keys: Iterable[str]) -> tuple[list[str], list[str]]:
        """Remove products from disk and journal; returns (removed, kept).

        Kept on disk are files outside of the output directory and files whose content is not the recorded one:
        somebody else's. The journal forgets both.

        Raises
        ------
        ProductError
            if a file cannot be removed.
        """
        removed, kept = [], []
        for key in keys:
            if self._is_ours(key):
                _remove(self.path(key))
                self._remove_empty_folders(os.path.dirname(self.path(key)))
                removed.append(key)
            else:
                kept.append(key)
            self._book.made.pop(key, None)
        if removed or kept:
            self._unwritten.append(encode({"drop": removed + kept}))
        return removed, kept

    def _is_ours(self, key: str) -> bool:
        if os.path.isabs(key) or os.path.normpath(key).split(os.sep)[0] == os.pardir:
            return False
        made = self._book.made[key]
        recorded = next(f.digest for f in map(self._book.file, made["outputs"]) if f.path == key)
        try:
            return stamp(self.path(key)) is None or digest(self.path(key)) == recorded
        except PipelineError:
            return False

    def _remove_empty_folders(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            while folder.startswith(self.root + os.sep):
                os.rmdir(folder)
                folder = os.path.dirname(folder)

    # looking back
    def latest(self, key: str) -> FileLine | None:
        """What is known of the content of a file."""
        number = self._book.latest.get(key)
        return None if number is None else self._book.file(number)

    def inputs_of(self, step_name: str) -> dict[Path, FileLine]:
        """What is known of the raw frames that a step has read: all inputs of its products that nothing made."""
        found = {}
        for made in self._book.made.values():
            if made["job"] == step_name:
                for path in self._paths(made["inputs"]):
                    if path not in self._book.made and (file := self.latest(path)) is not None:
                        found[Path(self.path(path))] = file
        return found

    def read_by(self, step_name: str) -> dict[str, str]:
        """Digests, by key, of the raw frames that a step has read: what nothing made, or a camera."""
        found = {}
        for made in self._book.made.values():
            for file in self.files(made["inputs"]) if made["job"] == step_name else ():
                source = self._book.made.get(file.path)
                if source is None or source["requested"]:
                    found[file.path] = file.digest
        return found

    def is_other(self, key: str, content: str) -> bool:
        """Whether a file is there with another content. Raises as `stale`."""
        return self._content(key, {}) not in (None, content)

    def learn(self, path: Path, taken: Stamp, content: str) -> None:
        """Take over what another journal knows of a file."""
        self._version(self.key(path), taken, content)

    def maker(self, key: str) -> JobLine | None:
        """The job that made this product last."""
        return self._book.made.get(key)

    def origins(self, paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
        """What is known of files, by path as text: digest, size and, of products, step and version that made them.

        A file that is missing is left out.

        Raises
        ------
        PipelineError
            if a file that is not known cannot be read.
        """
        found: dict[str, dict[str, Any]] = {}
        for path in paths:
            key = self.key(path)
            now = stamp(self.path(key))
            if now is None:
                continue
            known = found[os.fspath(path)] = {"digest": self._digest(key, now), "size": now.size}
            made = self.maker(key)
            recipe = None if made is None else self.recipe(made)
            if recipe is not None:
                known |= {"step": recipe["step"], "version": recipe["version"]}
        return found

    def files(self, numbers: Iterable[int]) -> list[FileLine]:
        """Versions of files by their numbers."""
        return [self._book.file(number) for number in numbers]

    def recipe(self, made: JobLine) -> dict[str, Any] | None:
        """Step, version, function and params of a job; None if that line is lost."""
        try:
            found = json.loads(self._book.recipes[made["recipe"]])["is"]
            whole = {"step", "version", "function", "params"} <= found.keys() and isinstance(found["params"], dict)
            return found if whole else None
        except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
            return None

    def _paths(self, numbers: Iterable[int]) -> list[str]:
        return [self._book.file(number).path for number in numbers]


def _remove(path: str) -> None:
    try:
        os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ProductError(
            f"cannot remove a product that is not planned any more: {error.strerror or error}",
            where=path,
            do="Check the permissions of its folder, then run again",
        ) from error


def _named(what: str, happened: str, keys: Sequence[str]) -> str | None:
    """'input changed: a (and 2 more)'; None without keys."""
    if not keys:
        return None
    more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
    return f"{what} {happened}: {keys[0]}{more}"


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    for name in sorted({*then, *now}):
        if name not in now:
            yield f"{name} dropped"
        elif name not in then:
            yield f"{name} added"
        elif then[name] != now[name]:
            yield f"{name} {_short(then[name])} -> {_short(now[name])}"


def _plain(value: Any) -> str:
    """A value of the journal for a message: whoever wrote it, it is one line."""
    return "".join(c if c.isprintable() else "?" for c in str(value))[:80]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."
