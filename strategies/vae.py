"""The variational autoencoder, with beta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from ganglion.engine.api import hookimpl
from ganglion.strategies.variational import VariationalStrategy


class VAE(VariationalStrategy):
    """Encoder and decoder maximise the evidence bound: reconstruction + beta * KL(code distribution || N(0, I)).

    Kingma & Welling 2013, https://arxiv.org/abs/1312.6114, equation 10; beta of Higgins et al. 2017
    (https://openreview.net/forum?id=Sy2fzU9gl). The encoder gives the means of the code, then the logarithms of its
    variances. The criterion counts as the sum over a row's values, so that beta means what it means in the papers. BCE
    takes what the decoder puts out as logits, unless it declares that its values lie in 0..1. MSE means a Gaussian of
    variance beta / 2 around the reconstruction, which samples are drawn without. With GAU the decoder gives twice the
    numbers in the last dimension, means, then deviations before a softplus; samples are the means. Where the target has
    the input's shape it is what is reconstructed: autoencode=true encoderNoise=0.1 learns to remove noise.

    Deviations: Adam 1e-3 (there Adagrad), batch 100 and one draw per row as there. DIANNE's
    VariationalAutoEncoderLearningStrategy has standard deviations in the encoder's second half, and its criterion
    averages MSE over a row.
    """

    preset: ClassVar[Mapping[str, Any]] = {"method": "ADAM", "learningRate": 1e-3, "batchSize": 100}


@hookimpl
def register_strategies(register: Any) -> None:
    """VAE."""
    register("VAE", VAE, aliases=("VariationalAutoEncoder", "betaVAE"))
