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
from ganglion.engine.errors import ConfigError, NetworkError, PluginError
from ganglion.engine.job import naming_plugins, refuse_code
from ganglion.engine.memory import enough_memory
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.repository import Run
from ganglion.engine.resolution import layer_arguments, settings_of, strategy_class
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


def _open(registry: Registry, run: Run, job: Mapping[str, Any], which: str | int, device: str) -> Opened:
    names, strategy_name, stored = job["networks"], job["strategy"], job["settings"]
    refuse_code([strategy_name, *(name for name in names if not name.endswith(".yaml"))], registry.files)
    spec, scalers = run.read_data()
    entry = registry.get("strategy", strategy_name)
    chosen = strategy_class(entry)
    levels = [Level("data", chosen.defaults(spec)), Level("preset", chosen.preset), Level("job.yaml", stored)]
    owner = Owner(f"strategy {entry.name}", settings_of(chosen), prefix=entry.name)
    settings = resolve([owner], levels, chosen.roles).settings[0]
    checkpoint = run.checkpoints().weights_only(which)
    shapes, place = chosen.shapes(settings, spec), find_device(device)
    streams, kept = Streams(0, place), run.read_networks()
    networks: dict[str, nn.Module] = {}
    for role, name in zip(chosen.roles, names, strict=True):
        network = registry.get("network", str(run.directory / "networks" / f"{role}.yaml") if role in kept else name)
        own = resolve([_network_owner(role, network)], levels, chosen.roles)
        built = build_network(role, network, own.settings[0], own.layer_arguments[0], shapes[role], spec, streams)
        networks[role] = _loaded(built, checkpoint.averaged.get(role) or checkpoint.networks[role], run, role).to(place)
    set_training(networks, False)
    strategy = chosen()
    parts = _parts(registry, chosen, settings, levels)
    strategy.bind(LearningContext(settings, spec, networks, dict.fromkeys(networks, place), streams, parts=parts))
    found = scalers.get("data_range")
    data_range = (float(found[0]), float(found[1])) if found else None
    return Opened(
        run, job, strategy, networks, spec, data_range, place, checkpoint.iteration, tuple(checkpoint.notices)
    )


def _parts(
    registry: Registry, chosen: type[LearningStrategy], settings: Any, levels: Sequence[Level]
) -> dict[str, Any]:
    """The components that the strategy's settings name, without those whose plugin is gone."""
    parts = {}
    for field, kind in chosen.parts.items():
        name = getattr(settings, field)
        with contextlib.suppress(ConfigError, PluginError):
            entry = registry.get(kind, name) if name is not None else None
            if entry is not None:
                owner = Owner(f"{kind} {entry.name}", settings_of(entry.thing), prefix=entry.name)
                parts[field] = entry.thing(resolve([owner], levels, chosen.roles).settings[0])
    return parts


def _network_owner(role: str, network: Registered) -> Owner:
    label = f"{role}'s network {network.name}"
    return Owner(label, settings_of(network.thing), role, network.name, layer_arguments(network, None))


def _loaded(network: nn.Module, weights: Mapping[str, Tensor], run: Run, role: str) -> nn.Module:
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        raise NetworkError(f"run '{run.tag}': its stored {role} does not fit its definition: {error}") from None
    return network


@enough_memory(ConfigError, "a smaller count")
def draw_samples(opened: Opened, count: int, seed: int) -> Tensor:
    """`count` samples (count, *shape) in the data's own scale, on the CPU. Raises ConfigError where none are made."""
    stream = RandomStream(seed, "sample", opened.device)
    with torch.no_grad():
        noise = opened.strategy.noise(count, stream)
        if noise is None:
            name = type(opened.strategy).__name__
            raise ConfigError(f"run '{opened.run.tag}': strategy {name} makes no samples")
        return unscale(make_samples(opened.strategy, noise), opened.spec.value_range, opened.data_range)
