"""C-RNN-GAN's pair: a generator that runs on its own output, and a discriminator that reads both ways.

Mogren, "C-RNN-GAN: Continuous recurrent neural networks with adversarial training", 2016,
https://arxiv.org/abs/1611.09904

Deviations: before the first step the previous output is 0, where the source draws it; dropout acts between the layers,
not behind the last one as well; torch's own first weights. The discriminator gives logits: asked for one score, that of
the mean over the steps of the probabilities, which is the source's decision.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganglion.engine.api import NetworkContext, NetworkError, Port, Settings, hookimpl, setting
from ganglion.networks.series.recurrentlayers import CellSettings, FreeRunningNetwork, RecurrentNetwork, at_end
from ganglion.networks.series.sequences import ActivationName, check_activation, same_steps, sequence_shapes, window_in


class CRNNSettings(CellSettings):
    """What both networks can be set to."""

    layers: int = setting(2, "recurrent layers over each other", ge=1)
    dropout: float = setting(0.5, "share of the units dropped between two recurrent layers", ge=0, lt=1)


class CRNNGeneratorSettings(CRNNSettings):
    """Settings of CRNNGenerator."""

    activation: ActivationName = setting("none", "what the output goes through, before it is fed back too")


class CRNNDiscriminatorSettings(CRNNSettings):
    """Settings of CRNNDiscriminator."""

    bidirectional: bool = setting(True, "whether every layer also reads the sequence backwards")
    decision: Literal["mean", "end"] = setting(
        "mean", "one score for the window: of the mean probability over the steps, or the last step's"
    )


class Judged(NamedTuple):
    """What CRNNDiscriminator gives: scores, and its last layer's hidden states (batch, steps, units)."""

    score: Tensor
    features: Tensor


class CRNNJudge(nn.Module):
    """(batch, steps, features) to Judged: logits (batch, steps, k), or (batch, k) for the window.

    Where `lengths` (batch,) say how many of the steps there are, the window is judged by those alone.
    """

    def __init__(self, given: Port, made: Port, settings: CRNNDiscriminatorSettings) -> None:
        super().__init__()
        steps = Port(made.kind, (given.shape[0], made.shape[-1]))
        self.network = RecurrentNetwork(given, steps, settings, bidirectional=settings.bidirectional)
        self.by_step, self.binary = len(made.shape) == 2, made.kind == "score"
        self.decision = settings.decision

    def forward(self, rows: Tensor, lengths: Tensor | None = None) -> Judged:
        features, _ = self.network.states(rows)
        scores: Tensor = self.network.output(features)
        if self.by_step:
            return Judged(scores, features)
        if self.decision == "end":
            return Judged(scores[:, -1] if lengths is None else at_end(scores, lengths), features)
        if self.binary:
            return Judged(logit_of_mean(scores, lengths), features)
        return Judged(mean_over_steps(scores, lengths), features)


def logit_of_mean(scores: Tensor, lengths: Tensor | None = None) -> Tensor:
    """The logit of the mean over the steps of the probabilities whose logits are `scores`: (batch, k)."""
    true, false = functional.logsigmoid(scores), functional.logsigmoid(-scores)
    if lengths is not None:
        behind = ~steps_before(lengths, scores)
        true, false = (each.masked_fill(behind, -torch.inf) for each in (true, false))
    return true.logsumexp(1) - false.logsumexp(1)


def mean_over_steps(scores: Tensor, lengths: Tensor | None) -> Tensor:
    """The mean over the steps of scores (batch, steps, k), or over so many of them: (batch, k)."""
    if lengths is None:
        return scores.mean(1)
    before = steps_before(lengths, scores)
    return (scores * before).sum(1) / before.sum(1)


def steps_before(lengths: Tensor, scores: Tensor) -> Tensor:
    """Which steps (batch, steps, 1) lie before the end of so many, of one at least."""
    steps = torch.arange(scores.shape[1], device=scores.device)
    return (steps < lengths.clamp(min=1).unsqueeze(1)).unsqueeze(2)


class CRNNGenerator:
    """C-RNN-GAN's generator: two LSTM layers that are given their previous output beside the noise of each step."""

    Settings: ClassVar[type[Settings]] = CRNNGeneratorSettings
    roles = ("generator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or CRNNGeneratorSettings()
        given, made = sequence_shapes("CRNNGenerator", context)
        if len(made.shape) != 2:
            raise NetworkError(f"CRNNGenerator makes a sequence (steps, features), not {made.kind} {made.shape}")
        same_steps("CRNNGenerator", given, made)
        check_activation(settings.activation, context)
        return FreeRunningNetwork(given, made, settings, settings.activation)


class CRNNDiscriminator:
    """C-RNN-GAN's discriminator: two LSTM layers in both directions, whose hidden states are its features."""

    Settings: ClassVar[type[Settings]] = CRNNDiscriminatorSettings
    roles = ("discriminator",)

    def __call__(self, context: NetworkContext) -> nn.Module:
        settings = context.settings or CRNNDiscriminatorSettings()
        window_in("CRNNDiscriminator", context)
        same_steps("CRNNDiscriminator", context.input, context.output)
        return CRNNJudge(context.input, context.output, settings)


@hookimpl
def register_networks(register: Any) -> None:
    """CRNNGenerator and CRNNDiscriminator."""
    register("CRNNGenerator", CRNNGenerator())
    register("CRNNDiscriminator", CRNNDiscriminator())
