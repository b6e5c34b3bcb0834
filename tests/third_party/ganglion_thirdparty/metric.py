"""echo-spectrum-v1: do samples have the spectrum of the data?"""

import torch

from ganglion.engine.api import DataError, Evaluation, Metric, Settings, setting


class EchoSpectrum(Metric):
    """The greatest difference between the mean amplitude spectra of the samples and of the test part."""

    class Settings(Settings):
        """Settings of echo-spectrum-v1."""

        spectra: int = setting(64, "how many samples are drawn", ge=1)

    def applies(self, context):
        return context.strategy.generates() and context.spec.kind == "vector" and len(context.spec.features) > 2

    def evaluate(self, context):
        if not self.applies(context):
            raise DataError("metric echo-spectrum-v1 needs a strategy that makes samples, and vectors with names")
        test = context.splits().test
        real = context.own_scale(test.rows(torch.arange(len(test))).input)
        spectra = [
            torch.fft.rfft(rows.double()).abs().mean(0) for rows in (context.samples(self.settings.spectra), real)
        ]
        difference = (spectra[0] - spectra[1]).abs()
        table = {"columns": ["frequency", "difference"], "rows": [[i, float(x)] for i, x in enumerate(difference)]}
        return Evaluation("echo-spectrum-v1", {"difference": float(difference.max())}, {"spectrum": table})
