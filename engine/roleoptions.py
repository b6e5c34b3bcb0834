"""What a role's settings do to its network, whoever made it: initial weights and spectral normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm, spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from ganglion.engine.errors import NetworkError
from ganglion.engine.job import RoleSettings

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
NORMS = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm)
DEFAULT_GAINS = {"normal": 0.02, "xavier": 1.0, "he": 1.0, "orthogonal": 1.0}
POWER_ITERATIONS = 15  # as many as torch makes where a layer gets its spectral normalisation


def apply_role_options(network: nn.Module, options: RoleSettings, where: str) -> None:
    """Initialise and normalise the network as the role's settings ask, drawing from torch's default generator.

    Raises NetworkError where there is no layer to do it to.
    """
    layers = [module for module in network.modules() if isinstance(module, WEIGHTED)]
    asked = "spectralNorm=true" if options.spectral_norm else f"init={options.init}" if options.init else None
    if asked and not layers:
        raise NetworkError(f"{where}: {asked} is for Linear and convolutional layers, and this network has none")
    for layer in layers if asked else ():
        _refuse_computed(layer, options, f"{where}: {asked}")
    if options.init is not None:
        gain = DEFAULT_GAINS[options.init] if options.init_gain is None else options.init_gain
        initialise(network, options.init, gain)
    if options.spectral_norm:
        for layer in layers:
            if not has_spectral_norm(layer):
                spectral_norm(layer)


@torch.no_grad()
def initialise(network: nn.Module, kind: str, gain: float) -> None:
    """Weights of Linear and convolutional layers by `kind`, biases 0; `normal` draws the factors of norms too (DCGAN).

    `normal`: N(0, gain^2), factors of norms N(1, gain^2); `xavier`: Glorot and Bengio's uniform one; `he`: He et al.'s
    normal one, over the inputs, for ReLU; `orthogonal`: Saxe et al.'s.
    """
    fill = _filler(kind, gain)
    for module in network.modules():
        if isinstance(module, WEIGHTED):
            weight = _own_weight(module)
            fill(weight.transpose(0, 1) if isinstance(module, nn.modules.conv._ConvTransposeNd) else weight)
            _follow(module)
        elif kind == "normal" and isinstance(module, NORMS) and module.weight is not None:
            nn.init.normal_(module.weight, 1.0, gain)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _filler(kind: str, gain: float) -> Callable[[Tensor], object]:
    if kind == "normal":
        return lambda weight: nn.init.normal_(weight, 0.0, gain)
    if kind == "xavier":
        return lambda weight: nn.init.xavier_uniform_(weight, gain)
    if kind == "he":
        return lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu").mul_(gain)
    return lambda weight: nn.init.orthogonal_(weight, gain)


def _refuse_computed(layer: nn.Module, options: RoleSettings, where: str) -> None:
    """Raises NetworkError for a weight that is not there yet, or is computed from others (weight normalisation)."""
    own = _parametrizations(layer)
    computed = hasattr(layer, "weight_g") or (own is not None and not hasattr(own, "original"))
    if isinstance(getattr(layer, "weight", None), nn.parameter.UninitializedParameter):
        raise NetworkError(f"{where}: a {type(layer).__name__} has no weight before its first rows; give its sizes")
    if options.init is not None and computed:
        raise NetworkError(
            f"{where}: the weight of a {type(layer).__name__} is computed from others, so it has no start"
        )


def has_spectral_norm(layer: nn.Module) -> bool:
    """Whether the layer's weight is divided by its largest singular value already, in torch's newer or older way."""
    parametrizations = _parametrizations(layer)
    return any(isinstance(each, _SpectralNorm) for each in parametrizations or ()) or hasattr(layer, "weight_u")


def _parametrizations(layer: nn.Module) -> Any:
    parametrized: Any = layer
    return parametrized.parametrizations["weight"] if is_parametrized(layer, "weight") else None


def _own_weight(layer: nn.Module) -> Tensor:
    """The parameter that learns: the weight itself, or the one that a normalised weight is computed from."""
    parametrizations = _parametrizations(layer)
    own: Tensor | None = parametrizations.original if parametrizations else getattr(layer, "weight_orig", None)
    return layer.get_parameter("weight") if own is None else own


def _follow(layer: nn.Module) -> None:
    """Let the singular vectors of a normalised layer follow its new weight: every reading is one power iteration."""
    if has_spectral_norm(layer):
        for _ in range(POWER_ITERATIONS):
            _ = layer.weight
