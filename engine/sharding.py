"""Divides a role's network among the processes of a job (`shard=true`), with torch's fully_shard, or says why not.

Every layer is a group of its own: its weights are put together when it computes, and its gradients are averaged when
they are divided again. The chain of the role works on the part that is in its process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn

from ganglion.engine.contracts import GradientProcessor, RoleShape
from ganglion.engine.dividing import Shards
from ganglion.engine.errors import ConfigError, NetworkError, RunError
from ganglion.engine.processes import Part
from ganglion.engine.processors import ProcessorChain
from ganglion.engine.resolution import Plan
from ganglion.engine.session import Session, set_training
from ganglion.engine.streams import undisturbed

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
JUDGES = ("score", "classes")  # what a network gives that a penalty may be on
AS_THEY_ARE = (ValueError, NotImplementedError, AssertionError, RuntimeError)  # what fully_shard raises


class ShardedChain(ProcessorChain):
    """The chain of a divided network: a backward pass reaches whole weights, an update this process's part of them."""

    def __init__(self, role: str, network: nn.Module, *rest: Any) -> None:
        assert isinstance(network, Shards)
        super().__init__(role, network, *rest)
        self._held = network
        learning = {id(own) for own in self.parameters}
        self._pairs = [(own, divided) for own, divided in network.pairs if id(own) in learning]
        self.leaves = []  # whole weights are there from the moment at which their layer first computes
        for group in network.groups:
            self._note_leaves(group, {id(divided) for _, divided in self._pairs})

    def _note_leaves(self, group: nn.Module, learning: set[int]) -> None:
        """Take up the whole weights of a group when it is first called; they are the same objects ever after."""
        places = [
            (owner._parameters, name, parameter)
            for owner in group.modules()
            for name, parameter in owner._parameters.items()
            if id(parameter) in learning
        ]

        def note(*_: Any) -> None:
            known = {id(leaf) for leaf in self.leaves}
            for owner, name, divided in places:
                whole = owner[name]
                if whole is not None and whole is not divided and id(whole) not in known:
                    known.add(id(whole))
                    self.leaves.append(whole)
            handle.remove()

        handle = group.register_forward_pre_hook(note)  # behind torch's own, which puts the weights together

    def zero(self) -> None:
        super().zero()
        for _, divided in self._pairs:
            divided.grad = None

    def gradients(self) -> list[Tensor]:
        """None that is still to be averaged over processes: dividing them has done that."""
        return []

    def apply(self, verdict: Tensor | None = None) -> None:
        with torch.no_grad():
            for own, divided in self._pairs:
                gradient: Any = divided.grad
                own.grad = None if gradient is None else gradient.to_local()
        self._held.divide_again()
        super().apply(verdict)


# --- what cannot be divided ---------------------------------------------------------------------------------------


def wanted(plan: Plan) -> list[str]:
    """The roles whose networks are to be divided."""
    return [role for role, entry in plan.roles.items() if entry.options.shard]


def refuse_undivided(plan: Plan, shapes: Mapping[str, RoleShape], part: Part) -> None:
    """Raises ConfigError where a network is to be divided and this job has not what that needs."""
    for role in wanted(plan):
        asked = f"{role}.shard=true"
        if part.count == 1:
            raise ConfigError(
                f"{asked} divides the {role} among processes, and this is the only one; start several with torchrun, "
                f"or give {role}.shard=false"
            )
        if plan.strategy_class.whole_batch:
            raise ConfigError(
                f"{asked}: {plan.strategy.name} computes its whole batch in every process, with weights of its own "
                "making, so its networks cannot be divided; leave shard out"
            )
        if plan.job.execution in ("compile", "graph"):
            raise ConfigError(
                f"{asked}: graphs cannot be made of a divided network; give execution=eager or leave shard out"
            )
        if plan.job.channels_last:
            raise ConfigError(f"{asked}: a divided network keeps no channelsLast; leave one of the two out")
        for place, (entry, _) in plan.parts.items():
            if entry.kind == "penalty" and entry.thing.differentiates and shapes[role].output.kind in JUDGES:
                raise ConfigError(
                    f"{asked}: {place.partition('.')[0]}={entry.name} differentiates twice through the {role}, which a "
                    "divided network cannot; use another penalty or none, or leave shard out"
                )


def refuse_links(role: str, links: Mapping[str, type[GradientProcessor]]) -> None:
    """Raises ConfigError for a method or link of a divided role that needs whole parameters."""
    for name, link in links.items():
        if not link.divisible:
            raise ConfigError(
                f"{role}.shard=true: '{name}' does not say that it works on parts of parameters (divisible = True); "
                f"use another in its place, or leave shard out"
            )


def told_of_dividing(plan: Plan, devices: Mapping[str, torch.device], part: Part) -> list[str]:
    """What a person should know of networks that are divided."""
    on_cpu = [role for role in wanted(plan) if devices[role].type == "cpu"]
    if not on_cpu:
        return []
    return [
        f"shard=true: {part.count} processes divide the {' and the '.join(on_cpu)} among themselves; on CPUs that "
        "saves memory and costs time"
    ]


def rehearse(session: Session) -> None:
    """Let divided networks compute once, in all processes together. Raises NetworkError where one cannot."""
    shapes = type(session.strategy).shapes(session.plan.strategy_settings, session.spec)
    for role in wanted(session.plan):
        network, device = session.networks[role], session.devices[role]
        set_training({role: network}, False)
        try:
            with torch.no_grad(), undisturbed():
                network(torch.zeros(2, *shapes[role].input.shape, device=device))
        except (RuntimeError, TypeError, ValueError) as error:
            raise NetworkError(
                f"network {session.plan.roles[role].network.name} as {role}: it does not compute when it is divided "
                f"(shard=true), for example where it takes weights of a layer that it does not call: "
                f"{str(error).splitlines()[0][:200]}"
            ) from error
        set_training({role: network}, True)


# --- dividing -----------------------------------------------------------------------------------------------------


def divide(
    plan: Plan, networks: Mapping[str, nn.Module], devices: Mapping[str, torch.device], part: Part
) -> dict[str, nn.Module]:
    """Divide the networks that are to be divided; what holds each role's weights here. Raises NetworkError."""
    holders = dict(networks)
    for role in wanted(plan):
        where, device = f"network {plan.roles[role].network.name} as {role}: shard=true", devices[role]
        _refuse_device(f"{role}.shard=true", role, device)
        _refuse_network(networks[role], where)
        try:
            groups = _divide(networks[role], device)
        except AS_THEY_ARE as error:
            raise NetworkError(f"{where}: torch cannot divide it ({str(error).splitlines()[0][:200]})") from error
        holders[role] = Shards(networks[role], part, groups)
    return holders


def _refuse_device(asked: str, role: str, device: torch.device) -> None:
    if device.type not in ("cpu", "cuda"):
        raise ConfigError(f"{asked}: the {role} is on {device}; only networks on cpu and cuda can be divided")
    if device.type == "cuda" and device.index not in (None, torch.cuda.current_device()):
        own = torch.cuda.current_device()
        raise ConfigError(
            f"{asked}: the {role} is on {device}, and the GPU of this process is cuda:{own}; name no other"
        )


def _refuse_network(network: nn.Module, where: str) -> None:
    """Raises NetworkError for a network whose state is not all in parameters that have rows."""
    names = [name for name, parameter in network.named_parameters() if not parameter.dim()]
    if names:
        raise NetworkError(
            f"{where} divides the rows of parameters, and '{names[0]}' is a single number; give it shape (1,)"
        )
    if not any(True for _ in network.parameters()):
        raise NetworkError(f"{where} divides parameters, and it has none")
    for name, module in network.named_modules():
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            raise NetworkError(
                f"{where}: '{name}' keeps state that is no tensor (get_extra_state), which is not divided"
            )


def _divide(network: nn.Module, device: torch.device) -> list[nn.Module]:
    """Every layer with parameters becomes a group of its own, and so does what is left of the whole."""
    from torch.distributed.device_mesh import DeviceMesh  # half a second that only such jobs pay for
    from torch.distributed.fsdp import fully_shard

    everyone = distributed.group.WORLD
    assert everyone is not None
    mesh = DeviceMesh.from_group(everyone, device.type)
    groups = list(dict.fromkeys((*layers(network), network)))
    for group in groups:
        # What is computed inside of a group of groups may be differentiated without its output (features of a layer),
        # and torch puts weights together where gradients enter at the output: such a group's own ones stay together.
        inside = {id(module) for module in group.modules()} - {id(group)}
        group.register_forward_hook(_guard)
        fully_shard(group, mesh=mesh, reshard_after_forward=not any(id(each) in inside for each in groups))
        if device.type == "cpu":
            divided: Any = group
            divided.set_force_sum_reduction_for_comms(True)  # gloo has no mean
    return groups


def layers(network: nn.Module) -> Iterator[nn.Module]:
    """The modules that compute with parameters of their own; torch's own, but for containers, count as one each.

    Layers that share a parameter are left to the whole network, where the parameter is put together once.
    """
    names = [id(parameter) for _, parameter in network.named_parameters(remove_duplicate=False)]
    shared = {each for each in names if names.count(each) > 1} if len(set(names)) < len(names) else set()
    for module in _layers(network):
        if not any(id(parameter) in shared for parameter in module.parameters()):
            yield module


def _layers(module: nn.Module) -> Iterator[nn.Module]:
    own = any(parameter is not None for parameter in module._parameters.values())
    if type(module).__module__.startswith("torch.nn") and not isinstance(module, CONTAINERS):
        if own or any(True for _ in module.parameters()):
            yield module
        return
    for child in module.children():
        yield from _layers(child)
    if own:
        yield module


def _guard(module: nn.Module, inputs: Any, output: Any) -> Any:
    """Before a group's weights are divided again: its output is no view, and nobody differentiates it twice.

    Something done in place to a view would take torch's hook away, which puts the weights together for the gradient.
    """
    return _guarded(output)


def _guarded(output: Any) -> Any:
    if isinstance(output, Tensor):
        if not output.requires_grad:
            return output
        own = output if output._base is None else output.clone()
        own.register_hook(_refuse_second_order)
        return own
    if isinstance(output, (tuple, list)):
        parts = [_guarded(each) for each in output]
        return type(output)(*parts) if hasattr(output, "_fields") else type(output)(parts)
    return output


def _refuse_second_order(gradient: Tensor) -> None:
    if torch.is_grad_enabled():  # a gradient that shall have a gradient itself
        raise RunError("a divided network (shard=true) is differentiated twice, which it cannot be; leave shard out")
