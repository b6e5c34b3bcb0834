"""What Optuna does for a sweep: it draws values, decides which trials stop early, and weighs the keys."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ganglion.engine.errors import ConfigError
from ganglion.engine.streams import stream_seed
from ganglion.engine.sweeps.ranges import Drawn, Range
from ganglion.engine.sweeps.space import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial

STARTUP = 5  # finished trials before the first is stopped for being worse than the median
ENOUGH = 4  # finished trials of which the weight of keys says anything
State = Literal["running", "finished", "pruned", "failed"]


@dataclass
class Trial:
    """One trial: what was drawn for it, and what became of it; `steps` are the values that it told as it learnt."""

    number: int
    drawn: dict[str, Drawn]
    state: State = "running"
    value: float | None = None
    steps: dict[int, float] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)  # iteration, seconds, error, notices, evaluations
    marks: dict[str, Any] = field(default_factory=dict)  # what the pruner remembers of it

    @property
    def tag(self) -> str:
        """The name of its run."""
        return f"trial-{self.number}"


def require_optuna() -> None:
    """Raises ConfigError where Optuna is not installed."""
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ConfigError(
            "'ganglion sweep' needs the optuna package, which is not installed: pip install ganglion[sweep]"
        ) from None


@contextmanager
def quietly() -> Iterator[None]:
    """Without Optuna's own messages and its warnings of what is new in it."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


class Grid:
    """The combinations of a space, made when they are asked for, each once."""

    def __init__(self, space: Space) -> None:
        self._rest = space.combinations()
        self._made: list[dict[str, Drawn]] = []

    def first_but(self, before: Sequence[Trial]) -> dict[str, Drawn] | None:
        """The first that none of these trials has; None where all have been there."""
        had = {frozenset(each.drawn.items()) for each in before}
        found = (drawn for drawn in itertools.chain(self._made, self._more()) if frozenset(drawn.items()) not in had)
        return next(found, None)

    def _more(self) -> Iterator[dict[str, Drawn]]:
        for drawn in self._rest:
            self._made.append(drawn)
            yield drawn


@dataclass(frozen=True)
class Drawing:
    """How a sweep draws and stops: a trial depends on the seed, its number, and the trials that it is given."""

    space: Space
    seed: int
    sampler: str
    lower: bool  # whether a lower one of the figure searched for is better
    pruner: str = "none"
    prune_lower: bool = True  # the same for the figure that trials tell while they learn
    prune_after: int = 0

    def draw(self, number: int, before: Sequence[Trial]) -> dict[str, Drawn] | None:
        """The values of trial `number`; None where every combination has been there."""
        if self.sampler == "grid":
            return self._grid.first_but(before)
        with quietly():
            trial = self.study(before, self._sampler(stream_seed(self.seed, f"trial {number}") % 2**32)).ask()
            return self.space.draw(lambda each: self._suggested(trial, each))

    @cached_property
    def _grid(self) -> Grid:
        return Grid(self.space)

    def _suggested(self, trial: Any, each: Range) -> Drawn:
        if each.kind == "choice":
            chosen: Drawn = trial.suggest_categorical(each.key, each.choices)
        elif each.kind == "int":
            chosen = trial.suggest_int(each.key, int(each.low), int(each.high))
        else:
            chosen = trial.suggest_float(each.key, each.low, each.high, log=each.kind == "log")
        return chosen

    def _sampler(self, seed: int) -> BaseSampler:
        from optuna import samplers

        if self.sampler == "tpe":
            return samplers.TPESampler(seed=seed)
        return samplers.RandomSampler(seed)

    def study(self, trials: Iterable[Trial], sampler: BaseSampler | None = None, pruned: bool = False) -> Study:
        """A study in memory that has seen these trials; what failed counts as worse than all others.

        A study has one direction: that of the figure that trials tell where it is for the pruner (`pruned`), else that
        of the figure searched for, in which pruned trials are weighed by what they told.
        """
        import optuna

        lower = self.prune_lower if pruned else self.lower
        made = optuna.create_study(
            direction="minimize" if lower else "maximize", sampler=sampler, pruner=self._pruner()
        )
        made.add_trials([self.frozen(each, lower != self.prune_lower) for each in trials])
        return made

    def _pruner(self) -> BasePruner:
        from optuna import pruners

        if self.pruner == "median":
            return pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=self.prune_after)
        if self.pruner == "halving":
            return pruners.SuccessiveHalvingPruner(min_resource=max(1, self.prune_after))
        return pruners.NopPruner()

    def frozen(self, trial: Trial, negated: bool = False) -> FrozenTrial:
        """A trial as Optuna has it; `negated` is what it told, for a study of the other direction."""
        from optuna.trial import TrialState, create_trial

        told = {step: -value if negated else value for step, value in trial.steps.items()}
        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.PRUNED}
        distributions = self.distributions()
        return create_trial(
            state=states.get(trial.state, TrialState.RUNNING),
            value=trial.value if trial.state == "finished" else None,
            params=dict(trial.drawn),
            distributions={key: distributions[key] for key in trial.drawn},
            intermediate_values={} if trial.state == "failed" else told,
            system_attrs=dict(trial.marks),
        )

    def distributions(self) -> dict[str, BaseDistribution]:
        """The ranges as Optuna has them."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        made: dict[str, BaseDistribution] = {}
        for each in self.space.ranges:
            if each.kind == "choice":
                made[each.key] = CategoricalDistribution(each.choices)
            elif each.kind == "int":
                made[each.key] = IntDistribution(int(each.low), int(each.high))
            else:
                made[each.key] = FloatDistribution(each.low, each.high, log=each.kind == "log")
        return made


class Review:
    """Looks at what one trial tells while it learns, step by step, and says where it is to stop."""

    def __init__(self, drawing: Drawing, before: Sequence[Trial]) -> None:
        with quietly():
            self._trial = drawing.study(before, pruned=True).ask()
        self.steps: dict[int, float] = {}
        self.stop_at: int | None = None

    def look(self, told: Iterable[tuple[int, float]]) -> int | None:
        """The iteration at which the trial stops, None while it may go on. What was told before is not asked again."""
        for step, value in told:
            if self.stop_at is not None:
                break
            if math.isnan(value) or step <= max(self.steps, default=-1):
                continue
            self.steps[step] = value
            with quietly():
                self._trial.report(value, step)
                if self._trial.should_prune():
                    self.stop_at = step
        return self.stop_at

    @property
    def marks(self) -> dict[str, Any]:
        """What the pruner has noted of the trial, for those that come later."""
        return dict(self._trial.study.get_trials(deepcopy=False)[-1].system_attrs)


def importances(drawing: Drawing, trials: Sequence[Trial]) -> dict[str, float]:
    """How much of the figure's variance goes with each key that all finished trials have; nothing for too few."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    done = [each for each in trials if each.state == "finished"]
    if len(done) < ENOUGH or len({each.value for each in done}) == 1:
        return {}
    with quietly():
        try:
            evaluator = FanovaImportanceEvaluator(n_trees=32, seed=0)
            found = get_param_importances(drawing.study(done), evaluator=evaluator)
        except (ImportError, RuntimeError, ValueError):  # nothing can be said of such values
            return {}
    return {key: float(share) for key, share in found.items()}
