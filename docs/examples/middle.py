"""A metric: ganglion evaluate TAG metric=middle-v1 --plugin middle.py"""

import torch

from ganglion.engine import api


class Middle(api.Metric):
    """How far the mean of the samples lies from that of unseen rows, in standard deviations of the rows."""

    class Settings(api.Settings):
        count: int = api.setting(1000, "samples, and at most as many unseen rows", ge=2)

    def applies(self, context):
        return context.strategy.generates() and context.spec.kind == "vector"

    def evaluate(self, context):
        samples = context.samples(self.settings.count).flatten(1)
        unseen = context.unseen()
        rows = unseen.rows(torch.arange(min(self.settings.count, len(unseen)))).input
        real = context.own_scale(rows).flatten(1)
        distance = ((samples.mean(0) - real.mean(0)) / real.std(0)).norm()
        return api.Evaluation("middle-v1", {"distance": float(distance)})


@api.hookimpl
def register_metrics(register):
    register("middle-v1", Middle)
