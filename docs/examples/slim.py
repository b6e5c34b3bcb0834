"""A network: learn --plugin slim.py Slim,Slim Circle strategy=NSGAN"""

from torch import nn

from ganglion.engine import api


class SlimSettings(api.Settings):
    hidden: int = api.setting(32, "units of the hidden layer", unit="units", ge=1)


def slim(context: api.NetworkContext) -> nn.Module:
    """One hidden layer between whatever goes in and whatever should come out."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(context.input.size, context.settings.hidden),
        nn.ReLU(),
        nn.Linear(context.settings.hidden, context.output.size),
        nn.Unflatten(1, context.output.shape),
    )


slim.Settings = SlimSettings


@api.hookimpl
def register_networks(register):
    register("Slim", slim)
