"""The table of tiny jobs: a new strategy adds one row and is covered by every test that runs over all strategies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ganglion.engine.launch import Learnt, learn


class Tiny(NamedTuple):
    """A job of a second or so."""

    networks: str
    dataset: str
    keys: Mapping[str, Any]
    fixed_roles: tuple[str, ...] = ()  # networks that a strategy leaves alone


POINTS = {"size": 256, "testSize": 32, "batchSize": 8}
SERIES = {"size": 64, "testSize": 16, "length": 8, "batchSize": 8, "hidden": 4}
TWO = {**SERIES, "channels": 2}
PAIR = "Recurrent,Recurrent"
TINY: dict[str, Tiny] = {
    "GAN": Tiny(
        "Generator,Discriminator", "Circle", {**POINTS, "method": "SGD", "momentum": 0.9, "learningRate": 0.01}
    ),
    "Minimax": Tiny("Generator,Discriminator", "Circle", POINTS),
    "NSGAN": Tiny("Generator,Discriminator", "Ring", {**POINTS, "generator.ema": 0.9}),
    "WGAN": Tiny(
        "Generator,Discriminator", "Circle", {**POINTS, "initDiscriminatorIterations": 3, "initIterations": 2}
    ),
    "LSGAN": Tiny("Generator,Discriminator", "Circle", POINTS),
    "WGAN_GP": Tiny("Generator,Discriminator", "Circle", {**POINTS, "discriminatorIterations": 2}),
    "WGAN_LP": Tiny(
        "Generator,Discriminator",
        "Circle",
        {**POINTS, "discriminatorIterations": 2, "initDiscriminatorIterations": 3, "initIterations": 2},
    ),
    "DRAGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "labelNoise": 0.1}),
    "HingeGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "penalty": "R1", "R1.every": 3}),
    "RpGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "instanceNoise": 0.1}),
    "RaGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "penalty": "consistency"}),
    "PacGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "penalty": "R1", "instanceNoise": 0.1}),
    "FeatureMatchingGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "adversarialWeight": 0.5}),
    "UnrolledGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "unroll": 2, "generatorDim": 4}),
    "SNGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "discriminatorIterations": 2}),
    "R3GAN": Tiny("Generator,Discriminator", "Circle", POINTS),
    "CGAN": Tiny("Generator,Discriminator", "Ring", {**POINTS, "penalty": "R1", "generatorLabels": "uniform"}),
    "ACGAN": Tiny("Generator,Discriminator", "Ring", {**POINTS, "penalty": "GP", "labelNoise": 0.1}),
    "ProjectionGAN": Tiny("Generator,Discriminator", "Ring", {**POINTS, "discriminatorIterations": 2}),
    "InfoGAN": Tiny("Generator,Discriminator", "Circle", {**POINTS, "categories": 3, "penalty": "R1,R2"}),
    "BEGAN": Tiny("Generator,Autoencoder", "Circle", {**POINTS, "lambdaK": 0.5}),
    "EBGAN": Tiny("Generator,Autoencoder", "Circle", {**POINTS, "instanceNoise": 0.1}),
    "VAE": Tiny(
        "Encoder,Decoder",
        "Digits",
        {"batchSize": 8, "sampleSize": 2, "validationSet": "0,100", "validationInterval": 2},
    ),
    "FlowMatching": Tiny(
        "MLP",
        "AR",
        {"size": 64, "testSize": 16, "length": 8, "channels": 2, "batchSize": 8, "solverSteps": 2, "whiten": 1},
    ),
    "Target": Tiny("MLP,MLP", "Digits", {"batchSize": 8}, fixed_roles=("teacher",)),
    "RGAN": Tiny("Generator,Discriminator", "AR", {**TWO, "discriminatorIterations": 2, "penalty": "R1"}),
    "RCGAN": Tiny(PAIR, "Sine", {**SERIES, "classes": 2, "generatorIterations": 2}),
    "CurveGAN": Tiny(PAIR, "AR", {**TWO, "showDelta": True, "deltaStep": "alternating"}),
    "FinGAN": Tiny(PAIR, "Sine", SERIES),
    "CRNNGAN": Tiny(
        PAIR, "MadeMusic", {**SERIES, "generator.freeRunning": True, "pretrainIterations": 2, "matching": True}
    ),
    "TimeGAN": Tiny(
        ",".join(["Recurrent"] * 5),
        "AR",
        {**TWO, "hiddenDim": 4, "autoencoderIterations": 1, "supervisorIterations": 1},
    ),
    "RTSGAN": Tiny(
        "MLP,MLP,Recurrent,Recurrent",
        "AR",
        {**TWO, "codeDim": 4, "pretrainIterations": 2, "pretrainBatch": "none", "discriminatorIterations": 2},
    ),
    "TimeVAE": Tiny("Recurrent,Recurrent", "AR", TWO),
    "ForecastGAN": Tiny(PAIR, "Sine", {**SERIES, "history": 5, "supervisedWeight": 1}),
    "ImputationGAN": Tiny(PAIR, "AR", TWO),
    "BPTT": Tiny("Recurrent", "AR", TWO),
    "FeedForward": Tiny("MLP", "Digits", {"batchSize": 8, "validationSet": "0,100", "validationInterval": 2}),
}
QUIET = {"traces": "lines", "threads": 1, "traceInterval": 2, "storeSeconds": 0, "sampleInterval": 0}


def learn_tiny(row_of: str, runs: Path, tag: str | None = "tiny", **keys: Any) -> Learnt:
    """Carry out the tiny job of a strategy; keys win over the table's."""
    row = TINY[row_of]
    return learn(row.networks, row.dataset, {**QUIET, **row.keys, "strategy": row_of, "tag": tag, **keys}, runs=runs)


def weights_of(learnt: Learnt) -> dict[str, bytes]:
    """The bytes of every file of the last checkpoint that holds weights or state tensors."""
    folder = learnt.directory / "checkpoints" / str(learnt.outcome.iteration)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}
