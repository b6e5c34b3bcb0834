"""The command `forecast`: how well a run continues unseen series, by horizon, and a picture of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ganglion.engine.commands import find_run, own_settings, print_evaluation, say, tag_and_keys, which_checkpoint
from ganglion.engine.contracts import Evaluation
from ganglion.engine.errors import ConfigError, fold
from ganglion.engine.evaluation import evaluate_run
from ganglion.engine.opening import Opened, open_run
from ganglion.engine.registry import Registry
from ganglion.engine.repository import Run
from ganglion.engine.resolution import settings_of
from ganglion.engine.settings import Settings, describe, setting
from ganglion.engine.tables import clean_text, print_json

METRIC = "forecast-v1"


class ForecastSettings(Settings):
    """Keys of `ganglion forecast`; further keys are the metric's or the data set's."""

    steps: int = setting(200, "steps that are forecast, each from what was forecast before", unit="steps", ge=1)
    checkpoint: str = setting("latest", "latest, best, or an iteration")
    device: str = setting("cpu", "where networks are evaluated")
    seed: int = setting(0, "seed of what is drawn", ge=0)


def forecast(words: Sequence[str], plugins: Sequence[str], runs: str | None, as_json: bool) -> None:
    """Continue unseen series, print the error by horizon and draw predictions.png in the run's directory."""
    tag, keys = tag_and_keys(words)
    registry, run = find_run(tag, plugins, runs)
    evaluation, path = forecast_run(registry, run, keys)
    shown = {name: table for name, table in evaluation.details.items() if name != "series"}
    if as_json:
        print_json({"tag": run.tag, "values": evaluation.values, **shown, "file": str(path)})
        return
    print_evaluation(evaluation._replace(details=shown))
    print(clean_text(path))


def forecast_run(registry: Registry, run: Run, keys: Mapping[str, str]) -> tuple[Evaluation, Path]:
    """Errors by horizon with the series themselves, and the picture of them. Raises InputError."""
    own = {fold(info.key) for info in describe(ForecastSettings)}
    mine = {key: value for key, value in keys.items() if fold(key) in own}
    settings = own_settings(ForecastSettings, mine, "ganglion forecast")
    opened = open_run(registry, run, which_checkpoint(settings.checkpoint), settings.device)
    strategy = opened.strategy
    if not type(strategy).forecasts():
        raise ConfigError(
            f"run '{run.tag}': strategy {type(strategy).__name__} does not continue series; ForecastGAN and BPTT do"
        )
    others = {key: value for key, value in keys.items() if key not in mine}
    others |= longer_windows(registry, opened, strategy.history_steps() + settings.steps, others)
    others[f"{METRIC}.steps"] = str(settings.steps)
    which = which_checkpoint(settings.checkpoint)
    (evaluation,) = evaluate_run(registry, run, METRIC, which, settings.device, settings.seed, others, say)
    return evaluation, draw_predictions(evaluation.details["series"], run.directory / "predictions.png", run.tag)


def longer_windows(registry: Registry, opened: Opened, steps: int, given: Mapping[str, str]) -> dict[str, str]:
    """Keys that make the data's windows long enough; the parts, and with them the scale, stay those of the run.

    Empty for a data set whose windows have one length.
    """
    model = settings_of(registry.get("dataset", str(opened.job["dataset"])).thing)
    known, own = set(model.model_fields), {fold(key) for key in given}
    keys = {}
    if "length" in known and "length" not in own:
        keys["length"] = str(steps)
    if "gap" in known and "gap" not in own and opened.job["settings"].get("gap") is None:
        keys["gap"] = str(opened.spec.shape[0])
    return keys


def draw_predictions(series: Mapping[str, Any], path: Path, title: str) -> Path:
    """A picture of truth against forecast: one panel per series, its first feature."""
    from ganglion.engine.pictures import Line, draw_lines

    panels = []
    for history, truth, made in zip(series["history"], series["truth"], series["forecast"], strict=True):
        known = torch.tensor(history)[:, 0]
        start = len(known)
        panels.append(
            [
                Line("history", 0, known.tolist()),
                Line("truth", start, [step[0] for step in truth]),
                Line("forecast", start, [step[0] for step in made]),
            ]
        )
    return draw_lines(panels, path, title=f"{title}: the first feature of {len(panels)} unseen series")
