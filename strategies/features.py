"""Hidden features of a network, caught while it computes its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from ganglion.engine.api import NetworkError

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)


class Featured(NamedTuple):
    """What a network gives, and the features (batch, size) behind it."""

    output: Any
    features: Tensor


class FeaturePlace(NamedTuple):
    """The layer at which features are found: what it gives, or what it is given."""

    layer: nn.Module
    given: bool


def feature_place(network: nn.Module, where: str = "the network") -> FeaturePlace:
    """The layer named `features`, else the last Linear, else the last convolution. Raises NetworkError without any.

    Of a Linear or a convolution the input counts, of a layer that is named the output.
    """
    named = [layer for name, layer in network.named_modules() if name.rpartition(".")[2] == "features"]
    if named:
        return FeaturePlace(named[-1], given=False)
    for kind in WEIGHTED:
        layers = [layer for layer in network.modules() if isinstance(layer, kind)]
        if layers:
            return FeaturePlace(layers[-1], given=True)
    raise NetworkError(f"{where} has no layer named 'features', no Linear and no convolution: it has no features")


def with_features(network: nn.Module, place: FeaturePlace, *inputs: Tensor, flat: bool = True) -> Featured:
    """The network's output and its features, in one pass; a field `features` of the output wins over the layer.

    Where `flat` is false features are in the shape that the network gives them.
    """
    caught: list[Tensor] = []
    if place.given:
        hook = place.layer.register_forward_pre_hook(lambda _, arguments: caught.append(arguments[0]))
    else:
        hook = place.layer.register_forward_hook(lambda _, arguments, output: caught.append(output))
    try:
        output = network(*inputs)
    finally:
        hook.remove()
    own = getattr(output, "features", None)
    features = own if isinstance(own, Tensor) else the_tensor(caught, "features")
    return Featured(output, features.flatten(1) if flat else features)


def the_tensor(caught: Sequence[Any], name: str) -> Tensor:
    """What a hook has caught, the first of several (a recurrent layer's). Raises NetworkError where it is no tensor."""
    found = caught[-1] if caught else None
    found = found[0] if isinstance(found, tuple) else found
    if not isinstance(found, Tensor):
        raise NetworkError(f"the layer of the network's {name} gives no tensor, or the network does not use it")
    return found
