"""Runs opened to generate, predict and be judged: from the run directory alone, without the data set."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ganglion.engine.assembly import build_network
from ganglion.engine.contracts import DataSpec, LearningContext, LearningStrategy, Range
from ganglion.engine.device import find_device
from ganglion.engine.errors import ConfigError, NetworkError, PluginError, StoreError, fold, suggestion
from ganglion.engine.job import RoleSettings, naming_plugins, refuse_code
from ganglion.engine.memory import enough_memory
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.repository import Run
from ganglion.engine.resolution import (
    grouped_parts,
    layer_arguments,
    network_settings,
    part_names,
    settings_of,
    strategy_class,
)
from ganglion.engine.session import make_samples, set_training
from ganglion.engine.settings import Level, Owner, resolve
from ganglion.engine.streams import RandomStream, Streams
from ganglion.engine.transforms import unscale


class Opened(NamedTuple):
    """A run's networks in evaluation mode, bound to its strategy. `data_range` is that of the data before scaling."""

    run: Run
    job: Mapping[str, Any]
    strategy: LearningStrategy
    networks: Mapping[str, nn.Module]
    spec: DataSpec
    data_range: Range | None
    device: torch.device
    iteration: int
    notices: tuple[str, ...]


def open_run(registry: Registry, run: Run, which: str | int = "latest", device: str = "cpu") -> Opened:
    """Load a run's networks: averaged weights where there are some. Raises StoreError, ConfigError, NetworkError."""
    job = run.read_whole_job()
    with naming_plugins(job, registry.files):
        return _open(registry, run, job, which, device)


@enough_memory(StoreError, "a run of a smaller network")
def _open(registry: Registry, run: Run, job: Mapping[str, Any], which: str | int, device: str) -> Opened:
    names, strategy_name, stored = job["networks"], job["strategy"], job["settings"]
    refuse_code([strategy_name, *(name for name in names if not name.endswith(".yaml"))], registry.files)
    spec, scalers = run.read_data()
    entry = registry.get("strategy", strategy_name)
    chosen = strategy_class(entry)
    levels = [Level("data", chosen.defaults(spec)), Level("preset", chosen.preset), Level("job.yaml", stored)]
    owner = Owner(f"strategy {entry.name}", settings_of(chosen), prefix=entry.name)
    settings = resolve([owner], levels, chosen.roles).settings[0]
    checkpoint = run.checkpoints().load(which) if chosen.lasting else run.checkpoints().weights_only(which)
    shapes, place = chosen.shapes(settings, spec), find_device(device)
    streams, kept = Streams(0, place), run.read_networks()
    networks: dict[str, nn.Module] = {}
    for role, name in zip(chosen.roles, names, strict=True):
        network = registry.get("network", str(run.directory / "networks" / f"{role}.yaml") if role in kept else name)
        options = Owner(f"the {role}", RoleSettings, role=role, prefix="role")
        own = resolve([_network_owner(role, network, spec), options], levels, chosen.roles)
        built = build_network(
            role, network, own.settings[0], own.layer_arguments[0], shapes[role], spec, streams, own.settings[1]
        )
        networks[role] = _loaded(built, checkpoint.averaged.get(role) or checkpoint.networks[role], run, role).to(place)
    set_training(networks, False)
    strategy = chosen()
    parts = _parts(registry, chosen, settings, levels)
    strategy.bind(LearningContext(settings, spec, networks, dict.fromkeys(networks, place), streams, parts=parts))
    _recall(strategy, checkpoint.state, place)
    found = scalers.get("data_range")
    data_range = (float(found[0]), float(found[1])) if found else None
    return Opened(
        run, job, strategy, networks, spec, data_range, place, checkpoint.iteration, tuple(checkpoint.notices)
    )


def _recall(strategy: LearningStrategy, state: Any, place: torch.device) -> None:
    """Give a strategy that is only to generate what it made of the data when it learnt."""
    kept = state["session"]["strategy"] if strategy.lasting else {}
    for name in strategy.lasting:
        if name not in kept and hasattr(type(strategy), name):
            continue  # made since that run was stored: what the class says holds for it
        if name not in kept:
            raise StoreError(f"{type(strategy).__name__}: the stored state has no '{name}', which samples need")
        value = kept[name]
        setattr(strategy, name, value.to(place) if isinstance(value, Tensor) else value)


def _parts(
    registry: Registry, chosen: type[LearningStrategy], settings: Any, levels: Sequence[Level]
) -> dict[str, Any]:
    """The components that the strategy's settings name, without those whose plugin is gone."""
    parts = {}
    for place, (kind, name) in part_names(chosen, settings).items():
        with contextlib.suppress(ConfigError, PluginError):
            entry = registry.get(kind, name)
            owner = Owner(f"{kind} {entry.name}", settings_of(entry.thing), prefix=entry.name)
            parts[place] = entry.thing(resolve([owner], levels, chosen.roles).settings[0])
    return grouped_parts(parts)


def _network_owner(role: str, network: Registered, spec: DataSpec) -> Owner:
    label, model = f"{role}'s network {network.name}", network_settings(network.thing, spec)
    return Owner(label, model, role, network.name, layer_arguments(network, None))


def _loaded(network: nn.Module, weights: Mapping[str, Tensor], run: Run, role: str) -> nn.Module:
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise NetworkError(f"run '{run.tag}': its stored {role} does not fit its definition: {error}") from None
    return network


@enough_memory(ConfigError, "a smaller count")
def draw_samples(opened: Opened, count: int, seed: int, classes: Sequence[int] = ()) -> Tensor:
    """`count` samples (count, *shape) in the data's own scale, on the CPU. Raises ConfigError where none are made.

    `classes` are asked for in turn; without any, the strategy chooses.
    """
    return _drawn(opened, count, seed, classes)[0]


def draw_labelled(opened: Opened, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Samples as `draw_samples` gives them, and the classes asked for (count,). Raises ConfigError where none are."""
    samples, classes = _drawn(opened, count, seed)
    if classes is None:
        raise ConfigError(f"run '{opened.run.tag}': strategy {type(opened.strategy).__name__} takes no classes")
    return samples, classes


@enough_memory(ConfigError, "a smaller count")
def draw_between(opened: Opened, count: int, seeds: tuple[int, int], share: float, classes: Sequence[int]) -> Tensor:
    """Samples as `draw_samples` gives them, of noise on the straight line from that of one seed to that of the other.

    `share` is how far along it: 0 gives the samples of the first seed, 1 those of the second. Raises ConfigError.
    """
    first, second = (_noise(opened, count, seed, classes) for seed in seeds)
    if not first.is_floating_point():
        raise ConfigError(f"run '{opened.run.tag}': there is nothing between two noise vectors of whole numbers")
    return _made(opened, torch.lerp(first, second, share))


def _drawn(opened: Opened, count: int, seed: int, wanted: Sequence[int] = ()) -> tuple[Tensor, Tensor | None]:
    noise = _noise(opened, count, seed, wanted)
    classes = opened.strategy.requested(noise)
    return _made(opened, noise), None if classes is None else classes.cpu()


def _noise(opened: Opened, count: int, seed: int, wanted: Sequence[int]) -> Tensor:
    stream = RandomStream(seed, "sample", opened.device)
    with torch.no_grad():
        noise = _asking(opened, count, stream, wanted) if wanted else opened.strategy.noise(count, stream)
    if noise is None:
        name = type(opened.strategy).__name__
        raise ConfigError(f"run '{opened.run.tag}': strategy {name} makes no samples")
    return noise


def _made(opened: Opened, noise: Tensor) -> Tensor:
    with torch.no_grad():
        return unscale(make_samples(opened.strategy, noise), opened.spec.value_range, opened.data_range)


def _asking(opened: Opened, count: int, stream: RandomStream, wanted: Sequence[int]) -> Tensor | None:
    """Noise that asks for the classes `wanted` in turn, picked from what the strategy draws by itself."""
    strategy = opened.strategy
    order = torch.tensor(wanted).repeat(-(-count // len(wanted)))[:count]
    found: dict[int, Tensor] = {}
    missing = torch.bincount(order)
    while bool(missing.any()):
        noise = strategy.noise(max(count, 8 * len(opened.spec.classes)), stream)
        asked = None if noise is None else strategy.requested(noise)
        if noise is None or asked is None:
            return noise
        for each in missing.nonzero().flatten().tolist():
            rows = noise[asked == each][: int(missing[each])]
            if not len(rows):
                raise ConfigError(f"strategy {type(strategy).__name__} never asks for class {each}")
            found[each] = torch.cat((found[each], rows)) if each in found else rows
            missing[each] -= len(rows)
    first = next(iter(found.values()))
    chosen = first.new_empty(count, *first.shape[1:])
    for each, rows in found.items():
        chosen[(order == each).to(chosen.device)] = rows
    return chosen


def named_classes(opened: Opened, text: str) -> tuple[int, ...]:
    """The classes that a text names, by name or number, separated by commas. Raises ConfigError."""
    run, strategy, known = opened.run.tag, type(opened.strategy), opened.spec.classes
    if strategy.requested is LearningStrategy.requested:
        raise ConfigError(f"class={text}: run '{run}' was learnt by {strategy.__name__}, which takes no classes")
    parts = [text] if text in known else [part.strip() for part in text.strip("[]").split(",")]
    return tuple(_class_of(part, known, f"class={text}: run '{run}' knows no class '{part}'") for part in parts)


def _class_of(name: str, known: Sequence[str], refusal: str) -> int:
    """A name as it is written, a number from 0, or a name in another spelling."""
    if name in known:
        return known.index(name)
    if name.isascii() and name.isdecimal() and len(name) < 10 and int(name) < len(known):
        return int(name)
    alike = [number for number, other in enumerate(known) if fold(other) == fold(name)]
    if len(alike) == 1 and any(letter.isalpha() for letter in name):  # -1 is no other spelling of 1
        return alike[0]
    raise ConfigError(f"{refusal}{suggestion(name, known)}")
