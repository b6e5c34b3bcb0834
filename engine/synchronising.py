"""BatchNorm over the whole batch where several processes share it."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganglion.engine.processes import averaged, this_process

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def synchronise(networks: Mapping[str, nn.Module]) -> None:
    """Let every BatchNorm count the rows of all processes while it learns; weights and their names stay."""
    for network in networks.values():
        for module in network.modules():
            if type(module) in KINDS:
                module.__class__ = _of_whole_batch(type(module))


def _of_whole_batch(kind: type[nn.Module]) -> type[nn.Module]:
    """The same layer; while it learns its mean and variance are those of all processes' rows."""

    class WholeBatch(kind):  # type: ignore[misc, valid-type]
        def forward(self, input: Tensor) -> Tensor:
            if not self.training or this_process().count == 1:  # the first process alone may judge
                normalised: Tensor = super().forward(input)
                return normalised
            self._check_input_dim(input)
            return _normalised(self, input)

    WholeBatch.__name__ = WholeBatch.__qualname__ = kind.__name__
    return WholeBatch


def _normalised(layer: _BatchNorm, rows: Tensor) -> Tensor:
    """`rows` (batch, channels, ...) by the statistics of all processes, which the running ones take in."""
    others = [place for place in range(rows.dim()) if place != 1]
    shape = [1, -1, *[1] * (rows.dim() - 2)]
    mean = averaged(rows.mean(others))
    centred = rows - mean.view(shape)
    variance = averaged(centred.square().mean(others))
    count = rows.numel() // rows.shape[1] * this_process().count
    _take_in(layer, mean.detach(), variance.detach() * (count / max(count - 1, 1)))
    result = centred * (variance + layer.eps).rsqrt().view(shape)
    return result if layer.weight is None else result * layer.weight.view(shape) + layer.bias.view(shape)


def _take_in(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """The running statistics move towards those of this batch, as torch's own layer moves them."""
    if layer.running_mean is None or layer.running_var is None or layer.num_batches_tracked is None:
        return
    if not layer.training:
        return
    layer.num_batches_tracked.add_(1)
    share = layer.momentum if layer.momentum is not None else 1.0 / float(layer.num_batches_tracked)
    layer.running_mean.lerp_(mean.to(layer.running_mean), share)
    layer.running_var.lerp_(variance.to(layer.running_var), share)
