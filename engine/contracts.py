"""Every interface that a plugin implements, and the values that cross between plugins and the engine."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ganglion.engine.decay import Span
from ganglion.engine.errors import ConfigError, DataError, PluginError
from ganglion.engine.processes import Part, gathered
from ganglion.engine.settings import Settings, setting

if TYPE_CHECKING:
    from ganglion.engine.processors import ProcessorChain
    from ganglion.engine.streams import RandomStream

Kind = Literal["image", "vector", "sequence", "noise", "score", "classes"]
Range = tuple[float, float]


class NoSettings(Settings):
    """For components without settings."""


# --- data ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DataSpec:
    """What one sample of a data set is.

    `shape` is (channels, height, width) for an image, (features,) for a vector, (steps, features) for a sequence.
    `value_range` is the closed interval of the training rows' values, None where unbounded. `classes` names the classes
    when targets are class indices; `target_shape` is the shape of a numeric target, None where there is none.
    `text` says that each step of a sequence is one character, one-hot, and `features` are the characters.
    """

    kind: Kind
    shape: tuple[int, ...]
    value_range: Range | None = None
    classes: tuple[str, ...] = ()
    target_shape: tuple[int, ...] | None = None
    features: tuple[str, ...] = ()
    sampling_rate: float | None = None
    text: bool = False

    def texts(self, samples: Tensor) -> list[str]:
        """What samples (count, steps, features) of text say: in each step the character with the largest value."""
        return ["".join(self.features[place] for place in row) for row in samples.argmax(2).tolist()]


@dataclass(frozen=True)
class Batch:
    """Rows of a data set, in tensors whose first dimension is the batch.

    `input` is (batch, *shape), `target` (batch,) int64 class indices or (batch, *target_shape); more `fields` by name.
    """

    input: Tensor
    target: Tensor | None = None
    fields: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.input.shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with `function` applied to every tensor."""
        target = None if self.target is None else function(self.target)
        return Batch(function(self.input), target, {name: function(value) for name, value in self.fields.items()})

    def rows(self, start: int, stop: int) -> Batch:
        """Rows start..stop (half-open), as views."""
        return self.map(lambda tensor: tensor[start:stop])

    def parts(self, size: int) -> list[Batch]:
        """All rows in batches of `size`, as views; the last may be smaller."""
        inputs = self.input.split(size)
        targets = repeat(None) if self.target is None else self.target.split(size)
        if not self.fields:
            return [Batch(*each) for each in zip(inputs, targets, strict=False)]
        columns = zip(*(value.split(size) for value in self.fields.values()), strict=True)
        named = (dict(zip(self.fields, values, strict=True)) for values in columns)
        return [Batch(*each) for each in zip(inputs, targets, named, strict=False)]

    def with_input(self, value: Tensor) -> Batch:
        """The same rows with another input."""
        return replace(self, input=value)

    def gather(self) -> Batch:
        """The batch of all processes, differentiable; in one process the batch itself. For losses that mix samples."""
        return self.map(gathered)


class Dataset(ABC):
    """Rows that can be fetched by index. `resident` data are tensors in memory and are moved to the device once."""

    spec: DataSpec
    resident: bool = True
    batches_at_once: int = 1  # of data that are not resident: so many batches' rows are asked for in one call, if small

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def rows(self, indices: Tensor) -> Batch:
        """The rows at `indices` (int64, 1-D). Raises DataError for a row that cannot be read."""

    def targets(self) -> Tensor | None:
        """All targets, where they are at hand without reading every row (needed by UNIFORMCLASS)."""
        return None

    def to(self, device: torch.device) -> Dataset:
        """The data set on `device`; only resident data moves."""
        return self

    def streamed(self) -> StreamedDataset | None:
        """The streamed data whose rows these are, by the same numbers; None where any row is at hand."""
        return None

    def sample(self) -> Dataset:
        """Rows for what only looks at some (pictures, health, evaluation): all of them, but of streamed data."""
        return self


class RowOrder(Protocol):
    """The rows of one epoch in their order; stretches of it are worked out when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Tensor: ...


class StreamedDataset(Dataset):
    """Rows that do not fit into memory and come fast only in the order that the data set itself gives.

    Sampling STREAM asks for it; the data set can read ahead, as it knows what comes. Its factory's `preset` names it.
    """

    resident = False

    def streamed(self) -> StreamedDataset:
        return self

    @abstractmethod
    def order(self, seed: int, epoch: int, batch_size: int, part: Part) -> RowOrder:
        """A random order of an epoch's rows, from the first three alone: that of all processes, of which `part` is one.

        `batch_size` counts the rows of all processes.
        """

    @abstractmethod
    def taken(self, rows: Tensor) -> Dataset:
        """Some of the rows, streamed as well; their order does not matter."""

    @abstractmethod
    def sample(self) -> Dataset:
        """A bounded number of rows, always the same."""

    @abstractmethod
    def digest(self) -> str:
        """What changes when the data do, without reading them all."""


class Splits(NamedTuple):
    """The parts of a data set, each with the same spec; chronological for series."""

    train: Dataset
    validation: Dataset | None = None
    test: Dataset | None = None


class DataContext(NamedTuple):
    """What a data set may use while it loads: folders to look in and to cache in, its seed, a way to tell the user."""

    folders: Sequence[Path]
    cache: Path
    seed: int
    notify: Callable[[str], None]


class DatasetFactory(ABC):
    """A named data set: its settings, how it is loaded, and how samples are judged where its distribution is known."""

    Settings: ClassVar[type[Settings]] = NoSettings
    preset: ClassVar[Mapping[str, Any]] = {}  # defaults of the job that such data need; a strategy's are stronger

    def __init__(self, settings: Any, context: DataContext) -> None:
        self.settings = settings
        self.context = context

    @abstractmethod
    def load(self) -> Splits:
        """Read or make the data. Raises DataError where that is not possible."""

    def assess(self, samples: Tensor) -> Mapping[str, float]:
        """Figures on `samples` (count, *shape) that follow from the known distribution; empty where it is unknown."""
        return {}

    def told(self) -> list[str]:
        """What has happened to the data since the last call, for the user and the run's record: skipped files, say."""
        return []


class Adapter(ABC):
    """Changes rows as they are fetched. `random` adapters draw anew for every batch and apply to training rows only."""

    random: ClassVar[bool] = False

    def spec(self, spec: DataSpec) -> DataSpec:
        """The spec of adapted rows. Raises ConfigError where the adapter does not fit the data."""
        return spec

    @abstractmethod
    def apply(self, batch: Batch, stream: RandomStream | None) -> Batch:
        """The adapted rows; `stream` is given to random adapters."""


class Sampling(ABC):
    """Which rows come next: one epoch's order, a pure function of the generator seeded with (seed, epoch)."""

    Settings: ClassVar[type[Settings]] = NoSettings

    def __init__(self, settings: Any, dataset: Dataset) -> None:
        self.settings = settings
        self.dataset = dataset

    @abstractmethod
    def order(self, generator: torch.Generator) -> Tensor:
        """Row indices of one epoch (int64, 1-D, at least one)."""

    def streamed_order(self, seed: int, epoch: int, batch_size: int, part: Part) -> RowOrder | None:
        """The order that streamed data give themselves; None: `order` says which rows come next."""
        return None


# --- networks -----------------------------------------------------------------------------------------------------


class Port(NamedTuple):
    """What goes into or comes out of a role's network, without the batch dimension."""

    kind: Kind
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of values."""
        return int(torch.Size(self.shape).numel())


class RoleShape(NamedTuple):
    """Input and output of a role's network, as the strategy wants them."""

    input: Port
    output: Port


@dataclass(frozen=True)
class NetworkContext:
    """What a network factory is given: its role, the shapes wanted, the data's spec, and its own settings.

    `overrides` are `Layer.argument` values from the command line; they apply to layered (YAML) definitions only.
    """

    role: str
    input: Port
    output: Port
    data: DataSpec
    settings: Any = None
    overrides: Mapping[str, Any] = field(default_factory=dict)


class NetworkFactory(Protocol):
    """Any callable from a NetworkContext to a module; it may carry a `Settings` class.

    Where settings depend on the kind of the data, `settings_for(kind)` gives the class for it.

    It may name the `roles` it is made for: named for another role of a strategy that has such a role, it is refused as
    being in the wrong place.
    The module may declare `output_range` (the interval of its values: data are scaled to it) and
    `outputs = "probability"` (a discriminator that ends in a Sigmoid).
    """

    def __call__(self, context: NetworkContext, /) -> nn.Module: ...


# --- learning -----------------------------------------------------------------------------------------------------


class Loss(NamedTuple):
    """What a loss function returns: a 0-d tensor to minimise and named 0-d terms to report."""

    total: Tensor
    terms: Mapping[str, Tensor] = {}


class LearnProgress(NamedTuple):
    """What one iteration reports: detached 0-d tensors, still on their device."""

    iteration: int
    values: Mapping[str, Tensor]


class Batches(Protocol):
    """Where a strategy's rows come from: a batch sampler. `batch_size` counts the rows of this process."""

    batch_size: int
    dataset: Dataset

    @property
    def whole_batch_size(self) -> int:
        """Rows of a batch of all processes together."""

    def next_batch(self, size: int | None = None) -> Batch:
        """The next `size` rows; by default a batch."""


@dataclass(frozen=True)
class LearningContext:
    """What a strategy works with. `sampler` and `processors` are absent when the strategy only generates."""

    settings: Any
    spec: DataSpec
    networks: Mapping[str, nn.Module]
    devices: Mapping[str, torch.device]
    random: Callable[..., RandomStream]
    sampler: Batches | None = None
    processors: Mapping[str, ProcessorChain] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)
    # The iterations between which whatever falls does; an immutable tuple may be a default.
    span: Span = Span(0, 0)  # noqa: RUF009
    notify: Callable[[str], None] = lambda sentence: None  # tells the user something in one sentence, in `setup`


class NoisePart(NamedTuple):
    """Some of the numbers that `noise` draws, as those who run an exported strategy give them.

    `width` is how many of the last dimension they are, and `content` says in a few words what they mean. `form`:
    `values` are the numbers themselves, `row` those of every step, once, `count` a whole number per sample, and `class`
    an index per sample, which stands in the noise as one-hot numbers. `drawn` is how they are drawn, where they are
    random: `uniform` is in [-1, 1), `unit` in [0, 1). With `rows` they are values of the data, in their scale.
    """

    name: str
    width: int
    content: str
    form: Literal["values", "row", "count", "class"] = "values"
    drawn: Literal["", "normal", "uniform", "unit"] = ""
    rows: bool = False


class LearningStrategy(ABC):
    """How networks learn: set up once, then asked for one iteration at a time.

    `roles` names the networks in command-line order; `preset` holds published defaults in command-line form;
    `parts` maps a settings field that names a component to its kind (`{"criterion": "criterion"}`): the engine builds
    it with its own settings into `context.parts`; a field that lists several names becomes a tuple there.
    `narrowed` maps a key to the one role it means when it has no prefix.
    Tensors, plain numbers, strings, and objects with a `state_dict`,
    that are attributes of the strategy are its state: saved and restored by the engine. Those that `lasting` names
    (tensors and numbers) are given back to a strategy that is only to generate, after `bind`.
    """

    roles: ClassVar[tuple[str, ...]]
    Settings: ClassVar[type[Settings]] = NoSettings
    preset: ClassVar[Mapping[str, Any]] = {}
    parts: ClassVar[Mapping[str, str]] = {}
    narrowed: ClassVar[Mapping[str, str]] = {}
    data_role: ClassVar[str | None] = None  # on whose device batches arrive; None: the last role's
    learnt_role: ClassVar[str | None] = None  # whose weights initTag gives where that run has one network of any role
    lasting: ClassVar[tuple[str, ...]] = ()  # attributes made in `setup` that `noise` and `generate` need too
    whole_batch: ClassVar[bool] = False  # of several processes each computes with all rows, where it cannot take a part
    retells: ClassVar[bool] = False  # whether samples hold parts of the data as they are, a history for example
    context: LearningContext

    @classmethod
    @abstractmethod
    def shapes(cls, settings: Any, spec: DataSpec) -> Mapping[str, RoleShape]:
        """Input and output per role. Raises ConfigError where the data do not fit the strategy."""

    @classmethod
    def defaults(cls, spec: DataSpec) -> Mapping[str, Any]:
        """Defaults that depend on the data, in command-line form; weaker than `preset`."""
        return {}

    def bind(self, context: LearningContext) -> None:
        """Called by the engine before `setup`, and alone when the strategy is only to generate."""
        self.context = context

    def setup(self, context: LearningContext) -> None:
        """Prepare for learning: called once, on a fresh start and before a resumed state is loaded."""

    @abstractmethod
    def process_iteration(self, i: int) -> LearnProgress:
        """Carry out iteration `i` (0-based). Never waits for the device."""

    def validate(self, batch: Batch) -> Mapping[str, Tensor]:
        """Per-sample figures (batch,) by name on unseen rows; "loss" chooses the best checkpoint."""
        return {}

    def appraise(self, batch: Batch, stream: RandomStream) -> tuple[Tensor, Tensor] | None:
        """Raw scores (rows, ...) of the real rows of `batch` and of as many samples, the higher the more real.

        None where nothing is scored. It learns nothing and changes nothing; `stream` is all that it draws from.
        """
        return None

    def noise(self, count: int, stream: RandomStream) -> Tensor | None:
        """What `generate` starts from: None for a strategy that makes no samples."""
        return None

    def noise_parts(self) -> tuple[NoisePart, ...]:
        """What `noise` consists of, in the order of its last dimension: the inputs of an exported strategy by name.

        Without any, all of it is one input, `noise`.
        """
        return ()

    def generate(self, noise: Tensor) -> Tensor:
        """Samples (count, *spec.shape), made from `noise` in evaluation mode."""
        raise NotImplementedError

    def forecast(self, history: Tensor, stream: RandomStream) -> Tensor:
        """What follows histories (count, steps, features): (count, further steps, features), from one call."""
        raise NotImplementedError

    def history_steps(self) -> int:
        """How many steps `forecast` wants to know."""
        raise NotImplementedError

    @classmethod
    def forecasts(cls) -> bool:
        """Whether the strategy continues series."""
        return cls.forecast is not LearningStrategy.forecast

    def requested(self, noise: Tensor) -> Tensor | None:
        """The classes (count,) that `generate(noise)` is asked for; None for a strategy that takes none."""
        return None

    @classmethod
    def generates(cls) -> bool:
        """Whether the strategy makes samples."""
        return cls.generate is not LearningStrategy.generate

    def random(self, name: str, role: str | None = None) -> RandomStream:
        """The random stream `name`, on `role`'s device where one is named; strategies draw from these only."""
        return self.context.random(name, self.context.devices[role] if role else None)

    def state_dict(self) -> dict[str, Any]:
        """State gathered from the attributes."""
        from ganglion.engine.state import gather

        return gather(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        from ganglion.engine.state import restore

        restore(self, state)


class Criterion(ABC):
    """A loss per sample: mean over the event dimensions (all but the first), weighted by `mask` where given."""

    Settings: ClassVar[type[Settings]] = NoSettings
    takes_classes: ClassVar[bool] = False  # whether class indices are a target as they are; otherwise one-hot

    def __init__(self, settings: Any = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Loss (batch,) of `output` (batch, ...) against `target`."""


class Objective(ABC):
    """What both players minimise, given raw scores; both methods are pure functions of their arguments."""

    Settings: ClassVar[type[Settings]] = NoSettings
    reads_real: ClassVar[bool] = False  # whether the generator's loss uses real scores

    def __init__(self, settings: Any = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor | None]:
        """The real half and the fake half of the discriminator's loss, each 0-d; None for a loss without halves."""

    @abstractmethod
    def generator(self, real: Tensor | None, fake: Tensor) -> Tensor:
        """The generator's loss, 0-d."""


class PenaltySettings(Settings):
    """Settings that every penalty has."""

    weight: float = setting(1.0, "multiplies the term", also=("penaltyWeight",), ge=0, lt=math.inf)
    final_weight: float | None = setting(None, "the weight at decayIterations; none: it stays", ge=0, lt=math.inf)
    fall: Literal["cosine", "exponential"] = setting(
        "cosine", "how the weight gets from decayStart to there: half a cosine, or the same factor in every iteration"
    )
    every: int = setting(
        1, "lazy: the term counts in every n-th discriminator update, n times as much", unit="updates", ge=1
    )

    def without_effect(self) -> Mapping[str, str]:
        return {"fall": "it has no effect without finalWeight"} if self.final_weight is None else {}


class Penalty(ABC):
    """A term added to the discriminator's loss."""

    Settings: ClassVar[type[PenaltySettings]] = PenaltySettings
    differentiates: ClassVar[bool] = True  # whether it takes gradients of scores, which no divided network can (shard)

    def __init__(self, settings: Any = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()
        if not isinstance(self.settings, PenaltySettings):
            raise PluginError(f"{type(self).__name__}.Settings must be a subclass of PenaltySettings, which has weight")
        start, end = self.settings.weight, self.settings.final_weight
        if self.settings.fall == "exponential" and end is not None and not (start and end):
            raise ConfigError(
                f"{type(self).__name__}: fall=exponential never reaches 0; give weight and finalWeight above 0"
            )

    def draw(self, stream: RandomStream, rows: Tensor) -> Tensor | None:
        """The random numbers that `penalty` needs for `rows`, drawn outside of the loss; None: it needs none."""
        return None

    @abstractmethod
    def penalty(self, scores: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, drawn: Tensor | None) -> Tensor:
        """The term before its weight, 0-d; `scores` maps samples to raw scores, `drawn` comes from `draw`."""

    def factor(self, update: int, done: float) -> float:
        """What multiplies the term in the discriminator's update number `update` (0-based); 0: it is not due.

        `done` is the share of the way from `decayStart` to `decayIterations` that is over.
        """
        if update % self.settings.every:
            return 0.0
        start, end = self.settings.weight, self.settings.final_weight
        if end is None:
            weight = start
        elif self.settings.fall == "exponential":
            weight = start * (end / start) ** done
        else:
            weight = end + (start - end) * (1 + math.cos(math.pi * done)) / 2
        return float(weight * self.settings.every)


class GradientProcessor(ABC):
    """One link of a role's chain. `before` may change `parameter.grad`, `after` the parameters that were updated.

    `key` names the setting whose presence makes the link part of the chain, `position` its place in the usual order.
    """

    Settings: ClassVar[type[Settings]] = NoSettings
    key: ClassVar[str | None] = None
    position: ClassVar[int] = 50
    # Whether it works as well on some rows of every parameter (shard=true), `network` holding these, and keeps whatever
    # it remembers of a parameter in that parameter's shape, by its name.
    divisible: ClassVar[bool] = False

    def __init__(self, settings: Any, network: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
        self.settings = settings
        self.network = network
        self.parameters = list(parameters)

    def before(self, step: int) -> None:
        """Change the gradients before update number `step` (0-based, counted per chain)."""

    def after(self, step: int) -> None:
        """Change the parameters after update number `step`."""

    def state_dict(self) -> dict[str, Any]:
        """What the link must remember between updates."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""


class Method(GradientProcessor):
    """The one link that updates the parameters: an optimiser."""

    position: ClassVar[int] = 40

    @abstractmethod
    def update(self, step: int, learning_rate: float) -> None:
        """Update the parameters from their gradients; called without gradient recording."""


# --- judging and telling ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationContext:
    """What a metric may use of a run.

    `spec` is the data's as the networks see them; `splits` reads the data set (in the networks' scale), `factory` gives
    the data set itself, `samples(count)` draws in the data's own scale (`labelled(count)` with the classes asked for),
    `run(tag)` opens another run, a classifier that judges, for example. Each may raise DataError or ConfigError.
    """

    strategy: LearningStrategy
    spec: DataSpec
    device: torch.device
    seed: int
    own_scale: Callable[[Tensor], Tensor]
    splits: Callable[[], Splits]
    factory: Callable[[], DatasetFactory]
    samples: Callable[[int], Tensor]
    labelled: Callable[[int], tuple[Tensor, Tensor]]
    run: Callable[[str], EvaluationContext]

    def unseen(self) -> Dataset:
        """The test part, or the validation part where there is no other. Raises DataError where there is neither."""
        splits = self.splits()
        part = splits.test if splits.test is not None else splits.validation
        if part is None:
            raise DataError("the data have no test part; name rows with testSet=START,END")
        return part


class Evaluation(NamedTuple):
    """Named figures, details (tables, lists) that go into the record but not onto one line, and pictures.

    `pictures` are PNG files by name (`pca.png`): the engine writes them beside the record, and names them there.
    """

    metric: str
    values: Mapping[str, float]
    details: Mapping[str, Any] = {}
    pictures: Mapping[str, bytes] = {}


class Metric(ABC):
    """Judges a finished or running strategy. Its registered name ends in a version once it is quoted anywhere."""

    Settings: ClassVar[type[Settings]] = NoSettings

    def __init__(self, settings: Any = None) -> None:
        self.settings: Any = settings if settings is not None else self.Settings()

    @abstractmethod
    def applies(self, context: EvaluationContext) -> bool:
        """Whether this metric says something about such a strategy and data."""

    @abstractmethod
    def evaluate(self, context: EvaluationContext) -> Evaluation:
        """Judge. Raises DataError or ConfigError where something it needs is missing."""


class Trace(ABC):
    """Receives the events of a run, in order (`engine.trace` declares them). One that `shows` is read by a person."""

    Settings: ClassVar[type[Settings]] = NoSettings
    shows: ClassVar[bool] = False

    @abstractmethod
    def receive(self, event: Any) -> None:
        """Handle one event; events of unknown type are ignored."""

    def close(self) -> None:
        """Flush and release; called once, also after a failure."""


Register = Callable[..., None]
