"""The engine's own samplings, criteria, gradient processors and traces, through the same hooks as anyone else's."""

from __future__ import annotations

from typing import Any

from ganglion.engine.criteria import CRITERIA
from ganglion.engine.hookspecs import hookimpl
from ganglion.engine.lines import LinesTrace
from ganglion.engine.links import LINKS
from ganglion.engine.methods import METHODS
from ganglion.engine.pictures import PicturesTrace
from ganglion.engine.samplers import SAMPLINGS
from ganglion.engine.tensorboard import TensorBoardTrace
from ganglion.engine.terminal.trace import TerminalTrace


@hookimpl
def register_samplers(register: Any) -> None:
    """UNIFORM, SEQUENTIAL, PERMUTATION, WEIGHTED, UNIFORMCLASS."""
    for name, sampling in SAMPLINGS.items():
        register(name, sampling)


@hookimpl
def register_criteria(register: Any) -> None:
    """MSE, NLL, ABS, BCE, HUB, GAU, GKL."""
    for name, criterion in CRITERIA.items():
        register(name, criterion)


@hookimpl
def register_processors(register: Any) -> None:
    """The methods (optimisers) and the other links of the chain."""
    for name, processor in {**METHODS, **LINKS}.items():
        register(name, processor)


@hookimpl
def register_traces(register: Any) -> None:
    """terminal, lines, pictures, tensorboard."""
    register("terminal", TerminalTrace)
    register("lines", LinesTrace)
    register("pictures", PicturesTrace)
    register("tensorboard", TensorBoardTrace)
