"""A link of the gradient chain: learn --plugin centralise.py NETWORKS DATASET centralise=true"""

from ganglion.engine import api


class Centralise(api.GradientProcessor):
    """Takes from the gradient of every weight matrix the mean over each of its rows."""

    class Settings(api.Settings):
        centralise: bool | None = api.setting(None, "whether the mean of each row is taken off the gradient")

    key = "centralise"  # the link is part of the chain where this key is given
    position = 15  # behind clipping (10, 11), before l2 (20) and the method (40)

    def before(self, step):
        for parameter in self.parameters:
            if self.settings.centralise and parameter.grad is not None and parameter.dim() > 1:
                inputs = tuple(range(1, parameter.dim()))
                parameter.grad -= parameter.grad.mean(dim=inputs, keepdim=True)


@api.hookimpl
def register_processors(register):
    register("Centralise", Centralise)
