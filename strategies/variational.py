"""Variational autoencoding: what all of its strategies share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganglion.engine.api import (
    Batch,
    ConfigError,
    Criterion,
    DataSpec,
    LearningContext,
    LearningStrategy,
    LearnProgress,
    Loss,
    NoisePart,
    Port,
    RandomStream,
    RoleShape,
    Settings,
    equal_parts,
    setting,
    update_together,
)
from ganglion.strategies.masking import mask_of, shown
from ganglion.strategies.reconstructing import values_of

DEFAULT_LATENT = {"image": 20, "vector": 2, "sequence": 20}
SMALLEST = 1e-6  # how near to 0 and 1 a probability counts, and the least deviation
SHAPING = ("Reshape", "Flatten", "Unflatten", "Identity")  # layers that change no value


class VaeSettings(Settings):
    """Settings of variational autoencoders."""

    generator_dim: int | None = setting(
        None,
        "numbers of the code that one sample is made from; none: 20 for images and sequences, 2 for points",
        unit="numbers",
        also=("latentDim", "latentDims"),
        ge=1,
    )
    sample_size: int = setting(1, "codes drawn per row, whose losses are averaged", ge=1)
    beta: float = setting(1.0, "multiplies the divergence of the codes from the prior", ge=0, lt=math.inf)
    criterion: str | None = setting(
        None, "the error of the reconstruction, summed over a row; none: BCE for data in 0..1 and images, otherwise MSE"
    )


class VariationalStrategy(LearningStrategy):
    """Encoder and decoder, a divergence from the prior, and an error of the reconstruction summed over a row."""

    Settings: ClassVar[type[Settings]] = VaeSettings
    roles: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    parts: ClassVar[Mapping[str, str]] = {"criterion": "criterion"}

    @classmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        latent = settings.generator_dim or DEFAULT_LATENT[spec.kind]
        *outer, last = spec.shape
        made = (*outer, 2 * last) if _is_gaussian(settings) else spec.shape
        return {
            "encoder": RoleShape(Port(spec.kind, spec.shape), Port("vector", (2 * latent,))),
            "decoder": RoleShape(Port("noise", (latent,)), Port(spec.kind, made)),
        }

    @classmethod
    def defaults(cls, spec: DataSpec) -> Mapping[str, Any]:
        return {"criterion": "BCE" if spec.kind == "image" or spec.value_range == (0.0, 1.0) else "MSE"}

    def bind(self, context: LearningContext) -> None:
        super().bind(context)
        self._latent = self.shapes(context.settings, context.spec)["decoder"].input.shape
        self._encoder, self._decoder = context.networks["encoder"], context.networks["decoder"]
        self._encoder_device, self._decoder_device = context.devices["encoder"], context.devices["decoder"]
        self._criterion: Criterion = context.parts["criterion"]
        self._binary, self._gaussian = type(self._criterion).__name__ == "BCE", _is_gaussian(context.settings)
        self._values = math.prod(context.spec.shape)
        self._in_range = _in_range(self._decoder)
        self._denoises = not context.spec.classes and context.spec.target_shape == context.spec.shape

    def setup(self, context: LearningContext) -> None:
        equal_parts([context.processors[role] for role in self.roles])
        _check_criterion(self._criterion)
        if self._binary:
            _check_binary(context.spec, self._decoder)
        if self._gaussian and (self._in_range or getattr(self._decoder, "output_range", None) is not None):
            raise ConfigError(
                "criterion=GAU: the decoder declares the range of its values, and here it gives means and deviations; "
                "use one that ends in a Linear, or another criterion"
            )
        self._noise_stream = self.random("noise", "encoder")

    def process_iteration(self, i: int) -> LearnProgress:
        assert self.context.sampler is not None
        batch = self.context.sampler.next_batch()
        loss = update_together(
            [self.context.processors[role] for role in self.roles],
            self.loss,
            batch,
            self._draws(batch, self._noise_stream),
        )
        return LearnProgress(i, {"loss": loss.total, **loss.terms})

    def loss(self, batch: Batch, drawn: Tensor) -> Loss:
        """The mean over the batch, given normal numbers `drawn` (batch, sampleSize, latent)."""
        reconstruction, divergence = (values.mean() for values in self._row_losses(batch, drawn))
        total = reconstruction + self.context.settings.beta * divergence
        return Loss(total, {"reconstruction": reconstruction, "divergence": divergence})

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        stream = self.random("validation", "encoder")
        reconstruction, divergence = self._row_losses(batch, self._draws(batch, stream))
        total = reconstruction + self.context.settings.beta * divergence
        return {"loss": total, "reconstruction": reconstruction, "divergence": divergence}

    def noise(self, count: int, stream: RandomStream) -> Tensor:
        return stream.normal(count, *self._latent)

    def noise_parts(self) -> tuple[NoisePart, ...]:
        return (NoisePart("noise", self._latent[-1], "random numbers", drawn="normal"),)

    def generate(self, noise: Tensor) -> Tensor:
        noise = noise.to(self._decoder_device)
        if self._gaussian:
            means: Tensor = self._decoder(noise).chunk(2, -1)[0]
            return means
        made = values_of(self._decoder, noise)
        return made.sigmoid() if self._binary and not self._in_range else made

    def _draws(self, batch: Batch, stream: RandomStream) -> Tensor:
        return stream.normal(len(batch), self.context.settings.sample_size, *self._latent)

    def _row_losses(self, batch: Batch, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruction error and divergence of every row, (batch,) each."""
        mask, rows = mask_of(batch), batch.input.to(self._encoder_device)
        mean, log_variance = self._encoder(*shown(self._encoder, rows, mask)).chunk(2, 1)
        codes = mean.unsqueeze(1) + (0.5 * log_variance).exp().unsqueeze(1) * drawn
        target = batch.target if self._denoises and batch.target is not None else batch.input
        target = target.repeat_interleave(drawn.shape[1], 0)
        counted = None if mask is None else mask.expand_as(batch.input).repeat_interleave(drawn.shape[1], 0)
        errors = self._criterion.loss(self._judged(codes.flatten(0, 1).to(self._decoder_device)), target, counted)
        values = self._values if mask is None else mask.expand_as(batch.input).flatten(1).sum(1)
        reconstruction = errors.unflatten(0, drawn.shape[:2]).mean(1) * values
        return reconstruction, divergence_of(mean, log_variance).to(self._decoder_device)

    def _judged(self, codes: Tensor) -> Tensor:
        """What the decoder makes of `codes`, in the form that the criterion takes."""
        if self._gaussian:
            means, deviations = self._decoder(codes).chunk(2, -1)
            return torch.cat((means, functional.softplus(deviations) + SMALLEST), -1)
        if not self._binary:
            return values_of(self._decoder, codes)
        output: Tensor = self._decoder(codes)
        return torch.logit(output, eps=SMALLEST) if self._in_range and not _gives_logits(self._decoder) else output


def divergence_of(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, I)) of every row, (batch,): the sum over the code."""
    return 0.5 * (log_variance.exp() + mean.square() - 1.0 - log_variance).sum(1)


def _is_gaussian(settings: Any) -> bool:
    return str(settings.criterion).strip().upper() == "GAU"


def _in_range(decoder: nn.Module) -> bool:
    """Whether the decoder declares that its values lie in 0..1."""
    low_high = getattr(decoder, "output_range", None)
    return getattr(decoder, "outputs", None) == "probability" or (low_high is not None and tuple(low_high) == (0, 1))


def _gives_logits(decoder: nn.Module) -> bool:
    """Whether the decoder leaves its Sigmoid to the loss."""
    return getattr(decoder, "outputs", None) == "probability" and hasattr(decoder, "probability")


def _check_criterion(criterion: Criterion) -> None:
    name = type(criterion).__name__
    if criterion.takes_classes or name == "GKL":
        raise ConfigError(f"criterion={name}: VAE compares numbers with numbers; use BCE, MSE or GAU")


def _check_binary(spec: DataSpec, decoder: nn.Module) -> None:
    """Raises ConfigError where binary cross-entropy would be of something that is no probability."""
    low, high = spec.value_range or (-math.inf, math.inf)
    if low < 0 or high > 1:
        came = "unbounded" if spec.value_range is None else f"in {low:g}..{high:g}"
        raise ConfigError(
            f"criterion=BCE wants data in 0..1, and these are {came}; use criterion=MSE, "
            "or a decoder whose output_range is [0, 1], to which bounded data are scaled"
        )
    bearing = [each for each in decoder.modules() if not list(each.children()) and type(each).__name__ not in SHAPING]
    if bearing and isinstance(bearing[-1], nn.Sigmoid) and not _in_range(decoder):
        raise ConfigError(
            "criterion=BCE: the decoder ends in a Sigmoid and does not say so; declare output_range: [0, 1]"
        )
