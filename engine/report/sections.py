"""The sections of a report, each made of what was read of its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ganglion.engine.pages.markup import Markup, element, joined, table
from ganglion.engine.pages.series import in_words
from ganglion.engine.report import results, settings
from ganglion.engine.report.pictures import Still
from ganglion.engine.report.reading import Reading, ending
from ganglion.engine.tables import format_number

EXACT = "With the threads, execution and devices of this run"
OLD = "This run was recorded before defaults were, so that all of its settings are listed."


def section(name: str, title: str, *parts: object) -> Markup:
    """A section with its heading, which the navigation leads to."""
    return element("section", element("h2", title, id=name), *parts, aria_labelledby=name)


def heading(readings: Sequence[Reading]) -> Markup:
    """What was run, and how it ended."""
    if len(readings) > 1:
        rows = [[reading.tag, _what(reading), ending(reading)] for reading in readings]
        return joined(
            [element("h1", f"{len(readings)} runs side by side"), table(["run", "what", "how it ended"], rows)]
        )
    (reading,) = readings
    bad = reading.info.status in ("failed", "interrupted", "damaged")
    ended = element("p", ending(reading), class_="lead bad" if bad else "lead")
    return joined([element("h1", reading.tag), element("p", _what(reading)), ended])


def _what(reading: Reading) -> str:
    networks = reading.named("networks").replace(",", ", ")
    return f"{reading.named('strategy')} with {networks} on {reading.named('dataset')}" if networks else ""


def problems(readings: Sequence[Reading]) -> Markup | None:
    """What could not be read."""
    several = len(readings) > 1
    found = [f"{reading.tag}: {text}" if several else text for reading in readings for text in reading.problems]
    return element("ul", *(element("li", text, class_="bad") for text in found)) if found else None


def repeating(readings: Sequence[Reading]) -> Markup:
    """The commands that repeat the runs, ready to copy."""
    several = len(readings) > 1
    parts: list[Markup | None] = []
    for number, reading in enumerate(readings):
        found = settings.commands(reading)
        parts.append(element("h3", reading.tag) if several else None)
        if not found.exact:
            parts.append(element("p", "Its job cannot be read.", class_="bad"))
            continue
        if found.readable:
            parts.append(_command(f"command-{number}", found.readable))
        exact = _command(f"exact-{number}", found.exact)
        parts.append(element("details", element("summary", EXACT), exact) if found.readable else exact)
    return section("repeat", "The same once more", *parts)


def _command(name: str, text: str) -> Markup:
    button = element("button", "Copy", type="button", data_copy=name, aria_label="Copy this command")
    return element("div", element("pre", element("code", text), id=name), button, class_="command")


def compared(readings: Sequence[Reading], directions: Mapping[str, str]) -> Markup:
    """The results of several runs."""
    rows = [
        [row.name, *(_marked(cell, best) for cell, best in zip(row.cells, row.best, strict=True))]
        for row in results.side_by_side(readings, directions)
    ]
    notes = []
    if not results.same_data(readings):
        notes.append("The runs learnt from different data: their figures cannot be compared.")
    if directions:
        notes.append("★: better than every other run, by more than the intervals where there are some.")
    columns = ["", *(reading.tag for reading in readings)]
    return section("results", "Results", table(columns, rows), *(element("p", note, class_="note") for note in notes))


def _marked(cell: str, best: bool) -> object:
    return element("span", f"★ {cell}", class_="best") if best else cell


def health(readings: Sequence[Reading]) -> Markup:
    """Where the script writes the alarms, and the newest reading's figures."""
    several = len(readings) > 1
    areas = [
        joined([element("h3", reading.tag) if several else None, element("div", data_alarms=number)])
        for number, reading in enumerate(readings)
    ]
    found = [reading.history.newest("health") for reading in readings]
    rows = [
        [in_words(name), *("" if name not in values else _measured(values[name]) for values in found)]
        for name in dict.fromkeys(name for values in found for name in values)
    ]
    columns = ["figure", *(reading.tag if several else "newest value" for reading in readings)]
    return section("health", "Health", *areas, table(columns, rows) if rows else None)


def _measured(value: float | None) -> str:
    return "not finite" if value is None else format_number(value)


def curves(readings: Sequence[Reading]) -> Markup:
    """Where the script draws the curves."""
    if not any(reading.history.groups for reading in readings):
        return section("curves", "Curves", element("p", "There are no trace points.", class_="note"))
    how = "Drag over a stretch, or turn the wheel with Ctrl, to look closer; a double click shows everything again."
    return section("curves", "Curves", element("p", how, class_="note"), element("div", id="curves-area"))


def samples(there: bool, left_out: int) -> Markup:
    """Where the script shows the pictures."""
    if not there:
        return section("samples", "Samples", element("p", "There are no pictures of samples.", class_="note"))
    note = f"{left_out:,} pictures in between are left out, so that this page stays small." if left_out else None
    return section(
        "samples",
        "Samples",
        element("p", "From the same noise every time.", class_="note"),
        element("div", id="samples-area"),
        element("p", note, class_="note") if note else None,
    )


def evaluation(readings: Sequence[Reading], pictures: Sequence[Sequence[Still]]) -> Markup:
    """The figures of every evaluation with their details, and pictures."""
    parts: list[Markup] = []
    for reading, stills in zip(readings, pictures, strict=True):
        if len(readings) > 1 and (reading.evaluations or stills):
            parts.append(element("h3", reading.tag))
        parts += [_evaluation(each) for each in reading.evaluations]
        parts += [_still(reading, each) for each in stills]
    if not parts:
        text = f"Not judged yet: ganglion evaluate {readings[0].tag}"
        parts = [element("p", text, class_="note")]
    return section("evaluation", "Evaluation", *parts)


def _evaluation(found: Mapping[str, Any]) -> Markup:
    rows = [[name, value.text] for name, value in results.figures(found).items()]
    details = found.get("details")
    more = [_detail(str(name), value) for name, value in details.items()] if isinstance(details, dict) else []
    shown = [each for each in more if each is not None]
    folded = element("details", element("summary", "Details"), *shown) if shown else None
    head = [element("h3", found["metric"]), element("p", results.origin(found), class_="note")]
    return joined([*head, table(["figure", "value"], rows), folded])


def _detail(name: str, value: Any) -> Markup | None:
    if isinstance(value, dict) and isinstance(value.get("columns"), list) and isinstance(value.get("rows"), list):
        rows = [[_cell(cell) for cell in row] for row in value["rows"][: results.MANY] if isinstance(row, list)]
        return table(value["columns"], rows, name)
    if isinstance(value, (dict, list)):  # pictures are shown by themselves, and raw numbers are for programs
        return None
    return element("p", f"{name}: {_cell(value)}")


def _cell(value: Any) -> str:
    return format_number(value) if isinstance(value, float) else settings.shown(value)


def _still(reading: Reading, still: Still) -> Markup:
    told = f"{still.name.removesuffix('.png').replace('-', ' ').replace('_', ' ')} of run {reading.tag}"
    return element("figure", element("img", src=still.src, alt=told), element("figcaption", told), class_="still")


def all_settings(readings: Sequence[Reading]) -> Markup:
    """Those that differ from their defaults, or between the runs; all of them folded away."""
    first = _differences(readings) if len(readings) > 1 else _changed(readings[0])
    whole = [_whole(reading, len(readings) > 1) for reading in readings if reading.settings]
    return section("settings", "Settings", first, *whole)


def _differences(readings: Sequence[Reading]) -> Markup:
    rows, columns = settings.differences(readings), ["setting", *(reading.tag for reading in readings)]
    if not rows:
        return element("p", "All settings are the same.", class_="note")
    own = [row for row in rows if settings.ABSENT in row]
    both = [row for row in rows if row not in own]
    folded = element("details", element("summary", "Settings that only some of the runs have"), table(columns, own))
    return joined([table(columns, both, "Where the runs differ") if both else None, folded if own else None])


def _changed(reading: Reading) -> Markup:
    if reading.defaults is None:
        return element("p", OLD, class_="note")
    rows = settings.changed(reading)
    if not rows:
        return element("p", "Every setting has its default.", class_="note")
    return table(["setting", "value", "default"], rows, "Those that differ from their defaults")


def _whole(reading: Reading, several: bool) -> Markup:
    title = f"All settings of {reading.tag}" if several else "All settings"
    rows = [[key, settings.shown(value)] for key, value in reading.settings.items()]
    return element("details", element("summary", title), table(["setting", "value"], rows))


def environment(readings: Sequence[Reading]) -> Markup:
    """Versions, devices and data: what the last bits of a result depend on."""
    tables = [_environment(reading) for reading in readings]
    keys = dict.fromkeys(key for found in tables for key in found)
    rows = [[key, *(found.get(key, "") for found in tables)] for key in keys]
    return section("environment", "Environment", table(["", *(reading.tag for reading in readings)], rows))


def _environment(reading: Reading) -> dict[str, str]:
    record = reading.record
    execution, data = record.get("execution"), record.get("data")
    known = {
        "started": record.get("started"),
        "ended": record.get("ended"),
        "sessions": record.get("sessions"),
        "seed": record.get("seed"),
        "devices": record.get("devices"),
        "threads": record.get("threads"),
        "precision": record.get("precision"),
        "execution": execution.get("name") if isinstance(execution, dict) else execution,
        "rows of data": data.get("rows") if isinstance(data, dict) else None,
        "digest of the data": data.get("digest") if isinstance(data, dict) else None,
        **(record["versions"] if isinstance(record.get("versions"), dict) else {}),
        "plugins": _plugins(record.get("plugins")),
    }
    return {str(key): settings.shown(value) for key, value in known.items() if value is not None}


def _plugins(found: Any) -> str | None:
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return ", ".join(f"{entry.get('name')} {entry.get('version') or ''}".strip() for entry in entries) or None
