"""A strategy from nothing: learn --plugin squeeze.py MLP,MLP Ring strategy=Squeeze"""

from ganglion.engine import api


class Squeeze(api.LearningStrategy):
    """An encoder makes a few numbers of each sample, and a decoder makes the sample of them again."""

    class Settings(api.Settings):
        code: int = api.setting(2, "numbers that a sample is squeezed into", ge=1)

    roles = ("encoder", "decoder")
    preset = {"method": "ADAM", "learningRate": 1e-3}

    @classmethod
    def shapes(cls, settings, spec):
        sample, code = api.Port(spec.kind, spec.shape), api.Port("vector", (settings.code,))
        return {"encoder": api.RoleShape(sample, code), "decoder": api.RoleShape(code, sample)}

    def error(self, batch):
        networks = self.context.networks
        return (networks["decoder"](networks["encoder"](batch.input)) - batch.input).square().flatten(1).mean(1)

    def process_iteration(self, i):
        chains = [self.context.processors[role] for role in self.roles]
        loss = api.update_together(chains, self.loss, self.context.sampler.next_batch())
        return api.LearnProgress(i, {"loss": loss.total})

    def loss(self, batch):
        return api.Loss(self.error(batch).mean())

    def validate(self, batch):
        return {"loss": self.error(batch)}


@api.hookimpl
def register_strategies(register):
    register("Squeeze", Squeeze)
