"""The network that a definition makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from torch import Tensor, nn

from ganglion.engine.api import NetworkError


def to_yaml(definition: Mapping[str, Any]) -> str:
    """A resolved definition as a text that `parse_definition` reads."""
    return yaml.safe_dump(dict(definition), sort_keys=False, allow_unicode=True, width=120)


class LayeredNetwork(nn.Module):
    """Layers, one after the other, and the resolved definition from which the same network can be built again.

    With `outputs = "probability"` the definition ends in a Sigmoid that `forward` leaves out: it returns the logit,
    which is what losses take, and `probability` applies the Sigmoid.
    """

    def __init__(
        self,
        layers: nn.Sequential,
        definition: Mapping[str, Any],
        output_range: tuple[float, float] | None = None,
        outputs: str | None = None,
    ) -> None:
        super().__init__()
        self.layers = layers
        self.definition = dict(definition)
        self.output_range = output_range
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.layers(x)
        return output

    def to_yaml(self) -> str:
        """The definition with every override and value filled in: it makes this network again, without its plugin."""
        return to_yaml(self.definition)

    def probability(self, x: Tensor) -> Tensor:
        """The Sigmoid of the output, for a network whose output is a logit."""
        output: Tensor = self.layers(x)
        return output.sigmoid()

    def features(self, x: Tensor) -> Tensor:
        """What the last Linear is given: the penultimate features (batch, size). Raises NetworkError without one."""
        layers = list(self.layers)
        places = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        if not places:
            raise NetworkError(
                f"{self.definition.get('name', 'the network')} has no Linear layer, so it has no features"
            )
        for layer in layers[: places[-1]]:
            x = layer(x)
        return x
