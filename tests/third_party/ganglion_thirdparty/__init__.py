"""What this package adds to Ganglion; the entry point in pyproject.toml names this module."""

from ganglion.engine.api import hookimpl
from ganglion_thirdparty.dataset import EchoWaves
from ganglion_thirdparty.metric import EchoSpectrum
from ganglion_thirdparty.network import EchoNet
from ganglion_thirdparty.parts import Centralize, EverySecond, LogCosh, Margin
from ganglion_thirdparty.strategy import EchoGAN

GANGLION_API = 1


@hookimpl
def register_strategies(register):
    register("EchoGAN", EchoGAN, aliases=["echo"])


@hookimpl
def register_networks(register):
    register("EchoNet", EchoNet())


@hookimpl
def register_datasets(register):
    register("EchoWaves", EchoWaves)


@hookimpl
def register_samplers(register):
    register("EVERYSECOND", EverySecond)


@hookimpl
def register_criteria(register):
    register("LOGCOSH", LogCosh)


@hookimpl
def register_processors(register):
    register("Centralize", Centralize)


@hookimpl
def register_objectives(register):
    register("margin", Margin)


@hookimpl
def register_metrics(register):
    register("echo-spectrum-v1", EchoSpectrum)
