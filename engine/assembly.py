"""From settings to live objects: data, networks that fit, processor chains, sampler, strategy."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ganglion.engine.adapters import AdaptedSplits, scale_splits, split_and_adapt
from ganglion.engine.contracts import (
    DataContext,
    Dataset,
    DatasetFactory,
    DataSpec,
    LearningContext,
    NetworkContext,
    Port,
    Range,
    RoleShape,
    Sampling,
    Splits,
)
from ganglion.engine.decay import Span
from ganglion.engine.device import find_device
from ganglion.engine.dividing import Shards
from ganglion.engine.errors import ConfigError, EngineError, NetworkError, PluginError, fold, nearest, suggestion
from ganglion.engine.job import JobRequest, JobSettings, RoleSettings
from ganglion.engine.memory import enough_memory, is_out_of_memory
from ganglion.engine.memoryformat import lay_channels_last
from ganglion.engine.precision import allow_tf32, compute_in_bf16
from ganglion.engine.processes import ALONE, Part
from ganglion.engine.processors import ProcessorChain, is_wanted, order_links
from ganglion.engine.registry import Registered, Registry
from ganglion.engine.resolution import Plan, Resolver, RolePlan, grouped_parts
from ganglion.engine.roleoptions import apply_role_options
from ganglion.engine.samplers import BatchSampler
from ganglion.engine.session import Session, set_training
from ganglion.engine.sharding import ShardedChain, divide, refuse_links, refuse_undivided, told_of_dividing
from ganglion.engine.streams import Streams, stream_seed, undisturbed
from ganglion.engine.synchronising import synchronise

MOST_THREADS = 1024  # torch does not survive numbers that are far too large


def resolve_job(registry: Registry, request: JobRequest) -> Plan:
    """Check names and keys before any data are read. Raises ConfigError."""
    return Resolver(registry, request).plan()


@enough_memory(ConfigError, "a smaller data set, batchSize, generatorDim or network")
def assemble(
    registry: Registry,
    request: JobRequest,
    data: Callable[[int], DataContext],
    initial: Callable[[Plan, Mapping[str, nn.Module]], Sequence[str]] | None = None,
    part: Part = ALONE,
) -> Session:
    """Build everything a job names; nothing is written. Raises an InputError for whatever does not fit.

    `part` says which of several processes this is. `initial` puts other weights into the networks before the strategy
    is set up, and says so.
    """
    plan = resolve_job(registry, request)
    torch_threads(plan.job)
    allow_tf32(plan.job.tf32)
    devices = {role: find_device(entry.options.device, f"{role}.device") for role, entry in plan.roles.items()}
    said: list[str] = []
    factory, adapted = load_data(plan, _noted(data(plan.job.seed), said))
    request = _epochs_to_iterations(plan, request, len(adapted.train))
    plan = Resolver(registry, request, adapted.spec).plan()
    spec = adapted.spec
    strategy_class = plan.strategy_class
    shapes = strategy_class.shapes(plan.strategy_settings, spec)
    home = devices[strategy_class.data_role or strategy_class.roles[-1]]
    refuse_undivided(plan, shapes, part)
    part = ALONE if strategy_class.whole_batch else part
    streams = Streams(plan.job.seed, home, part)
    networks = {
        role: build_network(
            role, entry.network, entry.network_settings, entry.overrides, shapes[role], spec, streams, entry.options
        )
        for role, entry in plan.roles.items()
    }
    check_networks(networks, shapes, plan)
    taken = initial(plan, networks) if initial is not None else ()
    made = output_range(networks, shapes, spec)
    scaled, notices = _scale(adapted, made, spec)
    for role, network in networks.items():
        if not plan.roles[role].options.shard:  # one that is divided moves layer by layer
            network.to(devices[role])
    if plan.job.channels_last:
        lay_channels_last(networks)
    if plan.job.precision == "bf16":
        compute_in_bf16(networks, devices)
    if part.count > 1 and plan.job.batch_statistics == "whole":
        synchronise(networks)
    streams.install_own("network")
    chains = _chains(plan, divide(plan, networks, devices, part), part)
    sampler = _sampler(plan, scaled, streams, home, part)
    strategy, told = strategy_class(), list[str]()
    context = LearningContext(
        settings=plan.strategy_settings,
        spec=scaled.spec,
        networks=networks,
        devices=devices,
        random=streams,
        sampler=sampler,
        processors=chains,
        parts=grouped_parts({place: entry.thing(settings) for place, (entry, settings) in plan.parts.items()}),
        span=decay_span(plan.job),
        notify=told.append,
    )
    set_training(networks, True)
    strategy.bind(context)
    strategy.setup(context)
    return Session(
        plan,
        strategy,
        networks,
        devices,
        chains,
        sampler,
        streams,
        scaled.spec,
        spec.value_range,
        scaled,
        factory,
        notices=(*plan.notices, *adapted.notices, *taken, *notices, *told_of_dividing(plan, devices, part), *told),
        said=said,
    )


def _noted(context: DataContext, said: list[str]) -> DataContext:
    """The same context, of which is known what the user has been told."""

    def notify(sentence: str) -> None:
        said.append(sentence)
        context.notify(sentence)

    return context._replace(notify=notify)


def _epochs_to_iterations(plan: Plan, request: JobRequest, rows: int) -> JobRequest:
    """`epochs=` turned into `iterations`, which are what a run counts."""
    epochs = plan.job.epochs
    if epochs is None or {fold(key) for key in request.given} & {"iterations", "maxiterations"}:
        return request  # a number of iterations on the command line is stronger than a job file's epochs
    given = {key: value for key, value in request.given.items() if fold(key) != "epochs"}
    from_file = {key: value for key, value in request.from_file.items() if fold(key) != "epochs"}
    iterations = max(1, round(epochs * rows / plan.job.batch_size))
    return replace(request, given={**given, "iterations": iterations}, from_file=from_file)


def torch_threads(job: JobSettings) -> None:
    """Use the number of threads that the job names, if it names one. Raises ConfigError where they are too many."""
    if job.threads is None:
        return
    if job.threads > MOST_THREADS:
        raise ConfigError(f"threads={job.threads}: expected at most {MOST_THREADS}; this machine has {os.cpu_count()}")
    torch.set_num_threads(job.threads)


def load_data(plan: Plan, context: DataContext) -> tuple[DatasetFactory, AdaptedSplits]:
    """The data set's parts, selected and adapted as the keys ask."""
    factory: DatasetFactory = plan.dataset.thing(plan.dataset_settings, context)
    splits = factory.load()
    if not isinstance(splits, Splits) or not isinstance(splits.train, Dataset):
        raise PluginError(
            f"dataset {plan.dataset.name}: load() must give Splits of Datasets, not {type(splits).__name__}"
        )
    return factory, split_and_adapt(splits, plan.adapters)


def build_network(
    role: str,
    entry: Registered,
    settings: Any,
    overrides: Mapping[str, Any],
    shape: RoleShape,
    spec: DataSpec,
    streams: Streams,
    options: RoleSettings,
) -> nn.Module:
    """One role's network as its settings ask, initialised from the stream `init.<role>`. Raises NetworkError."""
    context = NetworkContext(role, shape.input, shape.output, spec, settings, overrides)
    where = f"network {entry.name} as {role}"
    with undisturbed():
        streams.install(f"init.{role}")
        try:
            network = entry.thing(context)
        except NetworkError as error:
            raise NetworkError(f"{where}: {error}") from error
        except EngineError:
            raise
        except (RuntimeError, TypeError, ValueError, KeyError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            raise NetworkError(f"{where}: it could not be built: {error}") from error
        if not isinstance(network, nn.Module):
            raise NetworkError(f"{where}: the factory gave a {type(network).__name__}, not a torch.nn.Module")
        apply_role_options(network, options, where)
    return as_logits(network, where) if shape.output.kind == "score" else network


def as_logits(network: nn.Module, where: str) -> nn.Module:
    """A discriminator that gives raw scores: no sigmoid, or one that is declared and undone. Raises NetworkError."""
    if getattr(network, "outputs", None) == "probability":
        return network if hasattr(network, "probability") else _Logits(network)
    leaves = [module for module in network.modules() if not list(module.children())]
    if leaves and isinstance(leaves[-1], nn.Sigmoid):
        raise NetworkError(
            f"{where}: it ends in a Sigmoid, and losses here take raw scores; "
            "remove it, or declare outputs = 'probability'"
        )
    return network


class _Logits(nn.Module):
    """Turns the probabilities of a network into logits."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.outputs = "probability"

    def forward(self, x: Tensor) -> Tensor:
        return torch.logit(self.inner(x), eps=1e-6)


def check_networks(networks: Mapping[str, nn.Module], shapes: Mapping[str, RoleShape], plan: Plan) -> None:
    """Run two rows of zeros through every network and compare shapes. Raises NetworkError."""
    for role, network in networks.items():
        name, shape = plan.roles[role].network.name, shapes[role]
        rows = torch.zeros(2, *shape.input.shape)
        set_training({role: network}, False)
        try:
            with torch.no_grad(), undisturbed():
                output = network(rows)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0]
            raise NetworkError(
                f"network {name} as {role}: it does not take an input of {_shape(shape.input)}: "
                f"{reason}{_order(role, shapes)}"
            ) from error
        output = main_output(output)
        if not _fits(output, shape.output):
            raise NetworkError(
                f"network {name} as {role}: it gives {tuple(output.shape[1:])} for an input of {_shape(shape.input)}, "
                f"and strategy {plan.strategy.name} wants {_shape(shape.output)}{_order(role, shapes)}"
            )


def main_output(output: Any) -> Any:
    """The tensor that a network gives: its score, or else the first, where it gives several things."""
    return output if isinstance(output, Tensor) or not output else getattr(output, "score", output[0])


def _fits(output: Tensor, wanted: Port) -> bool:
    if output.shape[0] != 2:
        return False
    if wanted.kind == "score":  # per sample, or per time step
        return output.dim() in (1, 2, 3) and (output.dim() == 1 or output.shape[-1] == 1)
    return tuple(output.shape[1:]) == wanted.shape


def _shape(port: Port) -> str:
    return f"{port.shape} ({port.kind})"


def _order(role: str, shapes: Mapping[str, RoleShape]) -> str:
    return f" (the order of the networks is {','.join(shapes)})" if len(shapes) > 1 else ""


def output_range(networks: Mapping[str, nn.Module], shapes: Mapping[str, RoleShape], spec: DataSpec) -> Range | None:
    """The interval in which the networks that make data give their values; None where none declares one."""
    ranges: dict[str, Range] = {}
    for role, network in networks.items():
        declared = getattr(network, "output_range", None)
        if declared is not None and _is_data(shapes[role].output, spec):
            low, high = declared
            ranges[role] = (float(low), float(high))
    if len(set(ranges.values())) > 1:
        named = " and ".join(f"{role} {low:g}..{high:g}" for role, (low, high) in ranges.items())
        raise NetworkError(
            f"the networks give values in different ranges ({named}); the data can be scaled to one only"
        )
    return next(iter(ranges.values()), None)


def _is_data(port: Port, spec: DataSpec) -> bool:
    """Whether what comes out is data: of their kind and shape; of a series, any number of steps."""
    same = port.shape == spec.shape or (spec.kind == "sequence" and port.shape[1:] == spec.shape[1:])
    return same and port.kind == spec.kind


def _scale(data: AdaptedSplits, made: Range | None, spec: DataSpec) -> tuple[AdaptedSplits, list[str]]:
    """All parts mapped to the range of the network that makes data, and a sentence that says so."""
    if made is None or made == spec.value_range:
        return data, []
    if spec.value_range is None:
        return data, [
            f"the network gives values in {made[0]:g}..{made[1]:g} and the data are unbounded: "
            "values outside cannot be made"
        ]
    low, high = spec.value_range
    sentence = f"data scaled from {low:g}..{high:g} to {made[0]:g}..{made[1]:g}, the range of the network's output"
    return scale_splits(data, made), [sentence]


def _chains(plan: Plan, networks: Mapping[str, nn.Module], part: Part) -> dict[str, ProcessorChain]:
    fixed = _fixed(plan.job.fixed, networks)
    span = decay_span(plan.job)
    chains = {}
    for role, network in networks.items():
        entry = plan.roles[role]
        if plan.job.batch_size // part.count % entry.chain.accumulate:
            shared = f" over {part.count} processes" if part.count > 1 else ""
            raise ConfigError(
                f"{role}: accumulate={entry.chain.accumulate} does not divide batchSize={plan.job.batch_size}{shared}"
            )
        parameters = [
            parameter
            for name, parameter in network.named_parameters()
            if parameter.requires_grad and not any(_begins(f"{role}.{name}", prefix) for prefix in fixed)
        ]
        method = entry.method.thing(entry.method_settings, network, parameters)
        chosen = {
            link.name: (link.thing, settings) for link, settings in entry.links if _takes_part(link, settings, entry)
        }
        kinds = {entry.method.name: type(method), **{name: link for name, (link, _) in chosen.items()}}
        order = order_links(role, kinds, entry.chain.processors)
        if entry.options.shard:
            refuse_links(role, kinds)
        kind = ShardedChain if isinstance(network, Shards) else ProcessorChain
        links = [chosen[name][0](chosen[name][1], network, parameters) for name in order if name in chosen]
        rate = getattr(entry.method_settings, "learning_rate", 1.0)
        chains[role] = kind(role, network, parameters, method, links, entry.chain, rate, span)
    return chains


def decay_span(job: JobSettings) -> Span:
    """The iterations between which whatever falls does. Raises ConfigError where it would end before it starts."""
    end = job.decay_iterations or max(0, job.iterations)
    if end and job.decay_start >= end:
        raise ConfigError(f"decayStart={job.decay_start}: what falls ends at iteration {end}; give a smaller one")
    return Span(job.decay_start, end)


def _takes_part(link: Registered, settings: Any, entry: RolePlan) -> bool:
    """A link takes part when its key has a value, or, where it has no key of its own, when it is listed."""
    listed = {fold(name) for name in entry.chain.processors or ()}
    return is_wanted(link.thing, settings) or (link.thing.key is None and fold(link.name) in listed)


def _fixed(prefixes: Sequence[str], networks: Mapping[str, nn.Module]) -> list[str]:
    names = [f"{role}.{name}" for role, network in networks.items() for name, _ in network.named_parameters()]
    for prefix in prefixes:
        if not any(_begins(name, prefix) for name in names):
            near = nearest(prefix, {*networks, *names})
            hint = f"; did you mean '{near}'?" if near else suggestion("", networks)
            raise ConfigError(f"fixed={prefix}: no role and no parameter of this job begins so{hint}")
    return list(prefixes)


def _begins(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


def _sampler(plan: Plan, data: AdaptedSplits, streams: Streams, device: torch.device, part: Part) -> BatchSampler:
    train = data.train.to(device) if data.train.resident else data.train
    sampling = plan.sampling.thing(plan.sampling_settings, train)
    if train.streamed() is not None and type(sampling).streamed_order is Sampling.streamed_order:
        raise ConfigError(
            f"sampling={plan.sampling.name}: the rows of {plan.dataset.name} are streamed, and come only in an order "
            "of their own: sampling=STREAM"
        )
    return BatchSampler(
        train,
        sampling,
        plan.job.batch_size,
        stream_seed(plan.job.seed, "sampling"),
        device,
        data.augmentations,
        streams("sampling") if data.augmentations else None,
        plan.job.fetch_threads,
        part,
    )
