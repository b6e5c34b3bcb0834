"""The command `export`: a run's networks for use elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from ganglion.engine.commands import find_run, own_settings, say, tag_and_keys, which_checkpoint
from ganglion.engine.settings import Settings, setting
from ganglion.engine.tables import clean_text, print_json, print_table


class ExportSettings(Settings):
    """Keys of `ganglion export`."""

    format: Literal["safetensors", "torch", "onnx"] | None = setting(
        None,
        "safetensors: weights and network file; torch: an archive of torch.export (.pt2); onnx: a model, checked by "
        "onnxruntime; none: what out= ends in, else safetensors",
    )
    role: str | None = setting(
        None,
        "whose network; sample: all that makes samples; none: the network that makes samples, sample where it takes "
        "several, the first where there are none",
    )
    checkpoint: str = setting("latest", "latest, best, or an iteration")
    out: str | None = setting(
        None, "file (.safetensors, .pt2, .onnx) or folder; none: the folder export in the run's directory"
    )
    scale: Literal["data", "network"] = setting(
        "data", "in which scale torch and onnx take and give values of the data: their own, or that of the networks"
    )
    tolerance: float = setting(
        1e-4, "largest difference from what the networks give, as a share of the largest value", ge=0
    )


def export(words: Sequence[str], plugins: Sequence[str], runs: str | None, as_json: bool) -> None:
    """Write the export, and say what is in it."""
    tag, keys = tag_and_keys(words)
    settings = own_settings(ExportSettings, keys, "ganglion export")
    checkpoint = which_checkpoint(settings.checkpoint)

    from ganglion.engine.exporting import chosen_format
    from ganglion.engine.exporting import export as carry_out
    from ganglion.engine.opening import open_run

    kind = chosen_format(settings.format, settings.out)
    registry, run = find_run(tag, plugins, runs)
    opened = open_run(registry, run, checkpoint)
    for notice in opened.notices:
        say(notice)
    exported = carry_out(opened, kind, settings.role, settings.scale, settings.out, settings.tolerance)
    if as_json:
        files = [str(path) for path in exported.paths]
        print_json({"tag": run.tag, "iteration": opened.iteration, "files": files, **exported.description})
        return
    told = exported.description
    averaged = ", averaged weights" if told["source"]["averaged"] else ""
    say(f"{told['role']} of run '{run.tag}' after {opened.iteration:,} iterations{averaged}:")
    print_table(
        ["", "name", "shape", "what it is"],
        [_row("in", each) for each in told["inputs"]] + [_row("out", each) for each in told["outputs"]],
    )
    print()
    for path in exported.paths:
        print(clean_text(path))
    if exported.check is not None:
        counts = ", ".join(str(count) for count in exported.check.counts)
        say(
            f"checked by {'onnxruntime' if kind == 'onnx' else 'torch'} with {counts} rows: the largest difference "
            f"from the networks is {exported.check.difference:.2g}, {exported.check.share:.2g} of the largest value"
        )


def _row(side: str, value: Mapping[str, Any]) -> list[str]:
    drawn = value.get("drawn")
    how = ""
    if drawn:
        ends = "N(0, 1)" if drawn["distribution"] == "normal" else f"uniform in [{drawn['low']:g}, {drawn['high']:g})"
        how = f", {ends}"
    scale = {"data": ", in the data's own scale", "network": ", in the scale of the networks"}.get(
        value.get("scale", ""), ""
    )
    shape = " x ".join(str(length) for length in value["shape"])
    return [side, value["name"], f"{value['dtype']} {shape}", f"{value['content']}{how}{scale}"]
