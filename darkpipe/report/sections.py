"""What the report says, section by section; `blocks` are set by the template of `page`."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final

from darkpipe.report.accuracy import accuracy_section, held_out_facts
from darkpipe.report.blocks import (
    UNBROKEN,
    Block,
    Facts,
    Listing,
    Pictures,
    Section,
    Table,
    Value,
    Words,
    decimals,
    number,
    plain_temperature,
    texts,
    with_error,
)
from darkpipe.report.canvas import plain
from darkpipe.report.captions import pictures_of
from darkpipe.science.models import MODELS

Facts_ = Mapping[str, Any]
Images = Mapping[str, bytes]
Maps = Mapping[str, tuple[bool, Mapping[str, Any]]]

MOST_REFUSED = 60  # frames that are named one by one on the page itself
UNITS: Final = {
    "adu": "ADU",
    "adu / s": "ADU/s",
    "electron": "e⁻",
    "electron / s": "e⁻/s",
    "deg_C": "°C",
    "1": "",
    "electron / adu": "e⁻/ADU",
}
ENDINGS: Final = ("_adu_s", "_e_s", "_e_per_adu", "_adu", "_e", "_c", "_s", "_ev", "_percent")


def title_of(facts: Facts_) -> str:
    """Of the page."""
    return f"Dark model of {_camera(facts)}"


def lead_of(facts: Facts_) -> str:
    """The line below the title."""
    days = sorted(str(r["date_obs"])[:10] for r in facts["used"] if r["date_obs"])
    taken = "" if not days else f"frames of {days[0]}" if days[0] == days[-1] else f"frames of {days[0]} to {days[-1]}"
    description = facts["description"]
    model = "no model" if description is None else f"model {description.chosen}"
    configuration = "" if description is None else description.configuration
    return ", ".join(filter(None, (configuration, model, taken)))


def _camera(facts: Facts_) -> str:
    description = facts["description"]
    named = [description.camera, description.configuration] if description is not None else []
    named += [str(r["camera"]) for r in facts["used"][:1]]
    return next((name for name in named if name), "a camera without a name")


def all_sections(facts: Facts_, pictures: Images, maps: Maps) -> list[Section]:
    """Those that have something to say, in their order."""
    found = [
        _summary(facts),
        _campaign(facts, pictures),
        _darks(pictures),
        _hot(facts, pictures),
        _sensor(facts),
        _model(facts, pictures),
        accuracy_section(facts, pictures, maps),
        _ageing(facts, pictures),
        _notes(facts),
        _products(facts),
        _settings(facts),
    ]
    return [section for section in found if section is not None and section.blocks]


def _summary(facts: Facts_) -> Section:
    groups, description, used = facts["groups"], facts["description"], facts["used"]
    items: list[tuple[str, str]] = []
    if used:
        darks = sum(r["kind"] == "dark" for r in used)
        biases = sum(r["kind"] == "bias" for r in used)
        items.append(("Frames", f"{darks} darks, {biases} biases; {len(_rejected(facts))} rejected"))
    temperatures, exposures = ([float(r[k]) for r in groups] for k in ("temperature_c", "exposure_s"))
    items += [
        ("Cells", f"{len(groups)} of temperature and exposure"),
        ("Temperatures", _range([plain_temperature(t) for t in sorted(temperatures)], "°C")),
        ("Exposures", _range([f"{e:g}" for e in sorted(exposures)], "s")),
    ]
    if description is not None:
        items += [
            ("Sensor", f"{description.shape[1]} × {description.shape[0]} pixels"),
            ("Model", str(description.chosen)),
        ]
    items += held_out_facts(facts)
    told = {str(r["name"]): r for r in facts["sensor"]}
    for name, label in (
        ("dark_current_typical_e_s", "Dark current, typical pixel"),
        ("doubling_temperature_c", "Doubles every"),
        ("read_noise_e", "Read noise"),
        ("hot_pixel_fraction", "Hot pixels"),
    ):
        row = told.get(name)
        if row is None or not math.isfinite(float(row["value"])):
            continue
        if name == "hot_pixel_fraction":
            items.append((label, f"{plain(100 * float(row['value']), 3)} %"))
            continue
        at = told.get("reference_temperature_c")
        where = f" at {plain_temperature(float(at['value']))} °C" if at and name.startswith("dark_current") else ""
        items.append((label, f"{with_error(row['value'], row['error']).text} {_unit(row['unit'])}{where}"))
    return Section("Summary", [Facts(items)])


def _range(values: Sequence[str], unit: str) -> str:
    if not values:
        return "none"
    return f"{values[0]} {unit}" if values[0] == values[-1] else f"{values[0]} to {values[-1]} {unit}"


# campaign
def _campaign(facts: Facts_, pictures: Images) -> Section:
    blocks: list[Block] = [_counts(facts)]
    rejected = _rejected(facts)
    if rejected:
        reasons = Counter(reason for _, _, reason in rejected)
        blocks.append(
            Table(
                "Rejected frames by reason",
                ("Reason", "Frames"),
                [[*texts(reason), decimals(n, 0)] for reason, n in reasons.most_common()],
            )
        )
        rows = [texts(file, step, reason) for file, step, reason in rejected]
        blocks.append(
            Table(
                "Rejected frames",
                ("File", "At", "Reason"),
                rows[:MOST_REFUSED],
                _more(len(rows) - MOST_REFUSED, "index.ecsv, corrected.ecsv"),
            )
        )
    elif facts["used"]:
        blocks.append(Words([f"No frame was rejected; {facts['found']} were found."]))
    shown = pictures_of(pictures, ("temperature_", "bias_levels"))
    if shown:
        blocks.append(Pictures(shown))
    return Section("Campaign", blocks)


def _counts(facts: Facts_) -> Table:
    """Frames of each cell: temperatures down, exposures across."""
    groups = facts["groups"]
    temperatures = sorted({round(float(r["temperature_c"]), 3) for r in groups})
    exposures = sorted({float(r["exposure_s"]) for r in groups})
    frames = {(round(float(r["temperature_c"]), 3), float(r["exposure_s"])): int(r["frames"]) for r in groups}
    biases = {str(r["bias"]): int(r["frames"]) for r in facts["biases"]}
    of_bias = {round(float(r["temperature_c"]), 3): str(r["bias"]) for r in groups}
    heads = ["Temperature", *(f"{e:g}{UNBROKEN}s" for e in exposures), *(["bias"] if biases else [])]
    rows = []
    for t in temperatures:
        row = [Value(f"{plain_temperature(t)} °C", t)]
        row += [decimals(frames[t, e], 0) if (t, e) in frames else Value("", math.nan) for e in exposures]
        if biases:
            row.append(
                decimals(biases[of_bias[t]], 0) if of_bias[t] in biases else Value(of_bias[t] or "none", math.nan)
            )
        rows.append(row)
    note = "Frames that went into the master of each cell, after rejection."
    return Table("Frames of each cell", heads, rows, note, sortable=False)


def _rejected(facts: Facts_) -> list[tuple[str, str, str]]:
    """(file, where, reason) of frames that were found and not used."""
    found = [(str(r["file"]), "index", str(r["reason"])) for r in facts["refused"]]
    for step, rows in (("bias", facts["bias_frames"]), ("level check", facts["corrected"])):
        found += [(str(r["file"]), step, str(r["reason"])) for r in rows if str(r["status"]) == "rejected"]
    return found


def _more(count: int, where: str) -> str:
    return f"{count} more stand in {where}." if count > 0 else ""


# darks, hot pixels, sensor
def _darks(pictures: Images) -> Section:
    masters, residuals = (pictures_of(pictures, [name]) for name in ("master_dark_", "residual_"))
    shown = [picture for pair in zip_longest(masters, residuals) for picture in pair if picture is not None]
    note = (
        "The brightest cell, and one from the middle of the campaign. In maps of large sensors a point is the mean of "
        "a block, as the picture says."
    )
    return Section("Master darks and residuals", [Pictures(shown, note=note)] if shown else [])


def _hot(facts: Facts_, pictures: Images) -> Section:
    shown = pictures_of(pictures, ("hot_pixel_map", "hot_pixel_curve"))
    blocks: list[Block] = [Pictures(shown)] if shown else []
    rows = [r for r in facts["sensor"] if str(r["name"]).startswith("pixels")]
    total = next((float(r["value"]) for r in rows if r["name"] == "pixels"), math.nan)
    if rows and total > 0:
        table = [
            [
                *texts(_words(str(r["name"]).removeprefix("pixels_") if r["name"] != "pixels" else "all")),
                decimals(r["value"], 0),
                decimals(100 * float(r["value"]) / total, 3),
                *texts(r["how"]),
            ]
            for r in rows
        ]
        blocks.append(Table("Pixels by kind, by mask and fit together", ("Kind", "Pixels", "%", "Meaning"), table))
    return Section("Hot pixels", blocks)


def _sensor(facts: Facts_) -> Section:
    rows = [r for r in facts["sensor"] if not str(r["name"]).startswith("pixels")]
    table = [
        [*texts(_words(_bare(str(r["name"])))), with_error(r["value"], r["error"]), *texts(_unit(r["unit"]), r["how"])]
        for r in rows
    ]
    note = "Errors are 1 sigma. A quantity that the campaign cannot tell has no value."
    return Section(
        "Sensor", [Table("Sensor summary", ("Quantity", "Value", "Unit", "How"), table, note)] if rows else []
    )


def _bare(name: str) -> str:
    return next((name.removesuffix(e) for e in ENDINGS if name.endswith(e)), name)


def _words(name: str) -> str:
    text = name.replace("_", " ").replace("dsnu", "DSNU").replace("prnu", "PRNU")
    return text[:1].upper() + text[1:]


def _unit(unit: Any) -> str:
    return UNITS.get(str(unit), str(unit))


# model
def _model(facts: Facts_, pictures: Images) -> Section:
    description = facts["description"]
    if description is None:
        text = "No model was fitted. A model of temperature and exposure needs two of each at least."
        return Section("Model", [Words([text])])
    blocks: list[Block] = []
    name = str(description.chosen).split("/")[0]
    lines = (
        [f"Chosen: {description.chosen}. {description.why[:1].upper()}{description.why[1:]}."]
        if description.why
        else []
    )
    if name in MODELS:
        lines.append(f"Formula: {MODELS[name].formula}")
    blocks.append(Words(lines))
    rows = [
        [
            *texts(r["model"]),
            decimals(r["score"], 4),
            number(r["mean_held_out_mae_unflagged_adu"], 4),
            *texts(f"{int(r['cells'])}"),
            *texts("chosen: " + str(r["why"]) if r["chosen"] else str(r["why"])),
        ]
        for r in facts["candidates"]
    ]
    if rows:
        heads = ("Model", "Held-out error / noise floor", "Held-out MAE [ADU]", "Cells", "Why")
        blocks.append(
            Table("Candidates", heads, rows, "Mean over the cells, unflagged pixels; the smaller the better.")
        )
    shown = pictures_of(pictures, ("parameter_maps", "dark_vs_exposure", "dark_vs_temperature", "glow_map"))
    if shown:
        blocks.append(Pictures(shown))
    return Section("Model", blocks)


# ageing
def _ageing(facts: Facts_, pictures: Images) -> Section | None:
    verdict, checks = facts["verdict"], facts["checks"]
    if verdict is None and not checks:
        return None
    blocks: list[Block] = []
    if verdict is not None:
        blocks.append(
            Words(
                [
                    f"New frames against the model: {verdict['verdict']}.",
                    *(str(line) for line in verdict["why"]),
                ]
            )
        )
        rows = [
            [
                *texts(c["name"]),
                with_error(_nan(c["value"]), _nan(c["error"])),
                *texts(c["unit"]),
                number(c["drifted_beyond"]),
                number(c["stale_beyond"]),
                *texts(c["verdict"]),
            ]
            for c in verdict["criteria"]
        ]
        heads = ("Criterion", "Found", "Unit", "Drifted beyond ±", "Stale beyond ±", "Verdict")
        blocks.append(Table("The last check", heads, rows))
        if shown := pictures_of(pictures, ["check_model"]):
            blocks.append(Pictures(shown))
    if checks:
        rows = [
            [
                *texts(r["model"], _days(r, "frames"), f"{int(r['darks'])}", r["verdict"]),
                with_error(r["rate_ratio"], r["rate_ratio_error"]),
                with_error(r["pedestal_adu"], r["pedestal_adu_error"]),
                decimals(r["new_hot"], 0),
                decimals(r["vanished_hot"], 0),
            ]
            for r in checks
        ]
        named = (
            "Model",
            "New frames of",
            "Darks",
            "Verdict",
            "Rate, now / model",
            "Pedestal [ADU]",
            "New hot",
            "Vanished",
        )
        blocks.append(Table("Checks of earlier models", named, rows))
    return Section("Ageing", blocks)


def _days(row: Mapping[str, Any], what: str) -> str:
    first, last = str(row[f"{what}_from"]), str(row[f"{what}_to"])
    return first if first == last else f"{first} to {last}"


def _nan(value: Any) -> float:
    return math.nan if value is None else float(value)


# the rest
def _notes(facts: Facts_) -> Section:
    description = facts["description"]
    lines = [str(n) for n in facts["reference"].get("notes", ())] + list(facts["corrected_notes"])
    if description is not None:
        lines += [str(n) for n in description.notes if n not in lines]
    singles = sum(int(r["frames"]) == 1 for r in facts["groups"])
    if singles:
        lines.append(f"{singles} of {len(facts['groups'])} cells hold one frame: nothing in them could be rejected.")
    assumed = Counter(note for r in facts["used"] for note in str(r["notes"]).split("; ") if note)
    lines += [f"{note} ({n} frame{'s' if n != 1 else ''})" for note, n in assumed.most_common(12)]
    outside = sorted({str(r["cell"]) for r in facts["evaluation"] if r["kind"] == "extrapolated"})
    if outside:
        lines.append(f"Outside of the range of the model, and extrapolated: {', '.join(outside)}.")
    return Section("Notes", [Words(lines, listed=True) if lines else Words(["The run has nothing to say of its own."])])


def _products(facts: Facts_) -> Section:
    rows = [
        [
            *texts(r["file"]),
            Value(_size(int(r["bytes"])), float(r["bytes"])),
            *texts(f"{r['step']} {r['version']}".strip(), r["digest"]),
        ]
        for r in facts["products"]
    ]
    note = "Digests are xxh3 of 128 bits of the whole file, as in journal.jsonl; the version is that of the step."
    return Section(
        "Products", [Table("Files", ("File", "Size", "Step, version", "Digest"), rows, note)] if rows else []
    )


def _size(count: int) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "B" else f"{count} B"
        count = round(count / 1000, 1) if count < 10_000 else round(count / 1000)  # type: ignore[assignment]
    return f"{count:.3g} GB"


def _settings(facts: Facts_) -> Section:
    blocks: list[Block] = []
    reference = facts["reference"]
    measured = [
        (k, Value(f"{v:g}" if isinstance(v, float) else str(v)).text)
        for k, v in reference.items()
        if isinstance(v, (int, float, str)) and not isinstance(v, bool)
    ]
    if measured:
        title = "Numbers that the products were made with (reference.yaml)"
        blocks.append(Table(title, ("Name", "Value"), [texts(*row) for row in measured], sortable=False))
    given, every = (_dotted(facts["run"].get(name, {})) for name in ("given", "all"))
    if given:
        title = "Settings that are not the defaults"
        blocks.append(Table(title, ("Setting", "Value"), [texts(*row) for row in given], sortable=False))
    if every:
        text = "\n".join(f"{name}: {value}" for name, value in every)
        blocks.append(Listing("All settings of the run that wrote this report", text))
    else:
        words = (
            "This report was written by a run of its own; run it with the model (mode full) to have the settings here."
        )
        blocks.append(
            Words([words, "What a product was made with stands in journal.jsonl, which --explain FILE reads."])
        )
    software = [texts(name, value) for name, value in facts["software"].items()]
    blocks.append(Table("Software that wrote this report", ("Program", "Version"), software, sortable=False))
    return Section("Settings and versions", blocks)


def _dotted(sections: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(f"{section}.{name}", _short(v)) for section, names in sections.items() for name, v in names.items()]


def _short(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
