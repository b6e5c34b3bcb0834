"""One function per thing that is read from outside: command lines, networks, jobs, suites, data files, run directories.

Each takes bytes and either returns or raises an error of the engine; anything else is a crash.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from typing import Any
from unittest import mock

import click
import torch
from fuzz.filetargets import (
    CSV,
    PAIR,
    checkpoint_seeds,
    document_seeds,
    folder,
    idx_seeds,
    npz_seeds,
    picture_seeds,
    read_checkpoint,
    read_csv_file,
    read_documents,
    read_idx_file,
    read_npz_file,
    read_picture_file,
    registry,
    written,
)
from fuzz.running import Target

from ganglion.engine.cli import learn_command
from ganglion.engine.comparing import plan_comparison
from ganglion.engine.contracts import DataSpec, NetworkContext, Port
from ganglion.engine.errors import ConfigError, DataError, InputError
from ganglion.engine.job import parse_job, request
from ganglion.engine.resolution import Resolver
from ganglion.networks import building, single
from ganglion.networks.definition import parse_definition
from ganglion.networks.expressions import evaluate
from ganglion.strategies.acgan import head_sizes
from ganglion.strategies.schedule import parse_schedule

# --- command lines ------------------------------------------------------------------------------------------------

LINES = (
    f"{PAIR}\nCircle\nstrategy=GAN\nbatchSize=8\niterations=20\nthreads=1\ntraces=lines",
    f"{PAIR}\nRing\nstrategy=WGAN_GP\npenalty=R1,R2\nR1.weight=0.5\ngenerator.learningRate=1e-4\ndiscriminator.method=RMSPROP",
    "MLP\nDigits\nvalidationSet=0,100\nLinear.out_features=7\ndecayType=cosine\nclip=1\nlossThreshold=none\nfixed=network.layers.0",
    f"{PAIR}\nTable\npath=x.csv\ncolumns=a,b\ntarget=3\nseparator=tab\nscale=minmax\nrange=0,5\nhalves=mean\nsampling=WEIGHTED",
    "--job\npoints\nseed=3\ngenerator.ema=0.9\nnoise=uniform\ninit=he\nspectralNorm=true",
    f"{PAIR}\nRing\nstrategy=ACGAN\nheads=side:2,up:3\n"
    "schedule=discriminator*10 generator until 25, discriminator generator",
    "tag=a\nclean=true\n--runs\n/nowhere\n--json",
)  # fmt: skip


def read_tokens(data: bytes) -> None:
    """A command line, one word per line, up to the settings of everything that it names."""
    words = [word.decode("utf-8", "surrogateescape") for word in data.split(b"\n")]
    with mock.patch("ganglion.engine.launch.learn", _plan), contextlib.redirect_stdout(io.StringIO()):
        try:
            learn_command.main(args=words, prog_name="learn", standalone_mode=False)
        except click.ClickException as error:
            raise ConfigError(error.format_message()) from None
        except _Planned:
            return


class _Planned(Exception):
    """The command line is right, as far as this goes."""


def _plan(networks: Any, dataset: Any, keys: Any, *, job: Any, plugins: Any, **others: Any) -> Any:
    if plugins:  # a module of any name would be imported
        raise ConfigError("no plugins here")
    Resolver(registry(), request(networks, dataset, keys, job, plugins)).plan()
    raise _Planned


# --- networks -----------------------------------------------------------------------------------------------------

DEFINITIONS = (
    "name: Mine\ndoc: A test.\nroles: [generator]\nconstants: {width: 8, half: \"${width // 2}\"}\nblocks:\n  Step:\n"
    "    parameters: {out: null, slope: 0.2}\n    layers:\n      - Linear: ${out}\n      - LeakyReLU: ${slope}\n"
    "layers:\n  - Step: ${max(width, half * 2)}\n  - Residual:\n      layers: [{Linear: 8, name: inner}, ReLU]\n"
    "  - Concat: {branches: [[Tanh], [Sigmoid]], dim: 1}\n  - Linear: ${output.size}\n    spectral_norm: true\n",
    "name: Image\ndoc: x\nvariants:\n  image:\n    output_range: [-1, 1]\n    layers:\n"
    "      - Conv2d: {out_channels: 4, kernel_size: 3, padding: 1}\n      - BatchNorm2d\n      - Upsample: 2\n"
    "      - MaxPool2d: 2\n      - Flatten\n      - Linear: ${output.size}\n      - Reshape: ${output.shape}\n"
    "  vector:\n    outputs: probability\n    layers: [{Linear: 1}, Sigmoid]\n",
    "name: &a Aliases\ndoc: *a\nconstants: &c {n: 4}\nlayers:\n  - &l {Linear: 4}\n  - *l\n  - Dropout: {p: 0.5}\n"
    "  - Reshape: [2, 2]\n  - Linear: 3\n  - Multiply: [[Tanh], [Identity]]\n  - Linear: ${output.size}\n",
)  # fmt: skip
CONTEXTS = (
    NetworkContext("generator", Port("noise", (4,)), Port("vector", (2,)), DataSpec("vector", (2,))),
    NetworkContext("discriminator", Port("image", (1, 8, 8)), Port("score", (1,)), DataSpec("image", (1, 8, 8))),
)


def read_network(data: bytes) -> None:
    """A network definition, built for a point generator and for an image discriminator; its limits are small here."""
    definition = parse_definition(_text(data), "mine.yaml")
    small = (
        mock.patch.object(single, "PARAMETERS_LIMIT", 2**20),
        mock.patch.object(single, "ACTIVATIONS_LIMIT", 2**18),
        mock.patch.object(building, "ACTIVATIONS_LIMIT", 2**18),
    )
    refusals: list[InputError] = []
    with small[0], small[1], small[2]:
        for context in CONTEXTS:
            try:
                definition(context)
            except InputError as error:
                refusals.append(error)
    if len(refusals) == len(CONTEXTS):
        raise refusals[0]


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise DataError("not text") from None


EXPRESSIONS = (
    "latent * 2 + max(3, a.b // 4)",
    "-(input.size - 1) // 2",
    "min(1, 2.5) * ((3))",
    "output.shape",
    "9 * 9 * 9",
)


def read_expression(data: bytes) -> None:
    """What stands between `${` and `}`."""
    names = {"latent": 4, "a.b": 9, "input.size": 12, "output.shape": (2, 2), "flag": True}
    try:
        evaluate(_text(data), names)
    except ValueError as error:
        raise DataError(str(error) or "refused") from None


SCHEDULES = (
    "discriminator*5 generator",
    "discriminator*100 generator until 25, critic*5 generator until 500, discriminator generator*2",
    "side:2,up:3",
)


def read_schedule(data: bytes) -> None:
    """Who learns when, and the heads of a discriminator: settings with a small language of their own."""
    text = _text(data)
    try:
        head_sizes(text.split(","))
    except ConfigError:
        parse_schedule(text)


# --- jobs and suites ----------------------------------------------------------------------------------------------

JOBS = (
    f"format: 1\nnetworks: {PAIR}\ndataset: Circle\nstrategy: GAN\nplugins: []\nsettings:\n  batchSize: 8\n  seed: 3\n"
    "  generator.learningRate: 1e-3\n  traces: [lines, pictures]\n  size: '64'\n",
    "networks: [MLP]\ndataset: Digits\ndoc: >\n  words\n"
    "settings: {iterations: 20, method: ADAM, validationSet: [0, 9]}\n",
)
SUITES = (
    "format: 1\ndoc: x\ndataset: Ring\nnetworks: Generator,Discriminator\nseeds: '2'\nbudget: iterations:20\n"
    "against: A\nmetrics: points-v1\nfigures: points-v1.modes:higher\nevaluate: {points-v1.count: '50'}\n"
    "settings: {batchSize: '8'}\nentries:\n  A: {strategy: GAN}\n"
    "  B: {strategy: NSGAN, networks: [Generator, Discriminator], settings: {penalty: R1, R1.weight: '2'}}\n",
)  # fmt: skip


def read_job(data: bytes) -> None:
    """A job file, up to the settings of everything that it names."""
    job = parse_job(_text(data), "mine.yaml")
    Resolver(registry(), request(None, None, {}, job)).plan()


def read_suite(data: bytes) -> None:
    """A suite, up to the plans of its entries."""
    plan_comparison(registry(), str(written("suite.yaml", data)), None, {}, folder())


def _texts(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


TARGETS = {
    target.name: target
    for target in (
        Target("tokens", _texts(*LINES), read_tokens),
        Target("networks", _texts(*DEFINITIONS), read_network),
        Target("expressions", _texts(*EXPRESSIONS), read_expression),
        Target("schedules", _texts(*SCHEDULES), read_schedule),
        Target("jobs", _texts(*JOBS), read_job),
        Target("suites", _texts(*SUITES), read_suite),
        Target("idx", idx_seeds, read_idx_file),
        Target("npz", npz_seeds, read_npz_file),
        Target("csv", _texts(*CSV), read_csv_file),
        Target("pictures", picture_seeds, read_picture_file),
        Target("checkpoints", checkpoint_seeds, read_checkpoint),
        Target("documents", document_seeds, read_documents),
    )
}
torch.set_num_threads(1)
