"""What the pages for plugin authors promise: examples compute what they say, mistakes name the plugin's line."""

from __future__ import annotations

import builtins
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from docpages import EXAMPLES
from torch import Tensor

from ganglion.engine import api
from ganglion.engine.assembly import assemble
from ganglion.engine.bugs import place
from ganglion.engine.cli import cli
from ganglion.engine.errors import ConfigError, PluginError
from ganglion.engine.folders import data_context
from ganglion.engine.job import request
from ganglion.engine.registry import Registry
from ganglion.engine.session import Session
from ganglion.engine.settings import Level, Owner, describe, refuse_unknown, resolve
from ganglion.strategies import api as strategies_api

PLUGINS = [str(EXAMPLES / name) for name in ("calm_gan.py", "fading_gan.py", "mixing_gan.py")]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry().load(PLUGINS)


def session(registry: Registry, strategy: str, **keys: Any) -> Session:
    small = {"size": 64, "testSize": 16, "batchSize": 8, "iterations": 10, "strategy": strategy, "threads": 1}
    asked = request("Generator,Discriminator", "Circle", {**small, **keys})
    return assemble(registry, asked, data_context(lambda sentence: None))


# --- the examples -------------------------------------------------------------------------------------------------


def test_the_fading_game_blurs_by_its_own_course(registry: Registry) -> None:
    live = session(registry, "FadingGAN", instanceNoise=0.4, fade=20, batchSize=32)
    strategy: Any = live.strategy
    assert [strategy.blur_deviation(i) for i in (0, 5, 20, 30)] == pytest.approx([0.4, 0.3, 0.0, 0.0])
    shown: list[Tensor] = []
    judge = strategy.discriminator_loss
    strategy.discriminator_loss = lambda batch, fake, drawn: shown.append(batch.input) or judge(batch, fake, drawn)
    for iteration, deviation in ((0, 0.4), (10, 0.2), (20, 0.0)):
        strategy._iteration, batch = iteration, strategy.real_batch()
        strategy.train_discriminator(batch)
        assert float((shown[-1] - batch.input).std()) == pytest.approx(deviation, rel=0.3)


def test_a_course_needs_no_instance_noise_and_no_end(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    fading = registry.get("strategy", "FadingGAN").thing
    monkeypatch.setattr(fading, "blur_deviation", lambda self, iteration: 3.0)
    live = session(registry, "FadingGAN", instanceNoise=0, iterations=-1)
    strategy: Any = live.strategy
    assert strategy._blurs and float(strategy._blur(1000).std()) == pytest.approx(3.0, rel=0.1)
    assert not any("never fall" in notice for notice in live.notices)


def test_the_margin_objective_by_hand(registry: Registry) -> None:
    margin = registry.get("objective", "margin").thing
    objective = margin(margin.Settings(margin=2.0))
    real, fake = torch.tensor([[3.0], [1.0]]), torch.tensor([[-5.0], [1.0]])
    assert [float(half) for half in objective.discriminator(real, fake)] == [0.5, 1.5]
    assert float(objective.generator(None, fake)) == 2.0


def test_the_mixing_game_judges_shares(registry: Registry) -> None:
    mixing = registry.get("strategy", "MixingGAN").thing
    seen: list[Tensor] = []
    own = SimpleNamespace(
        fake=lambda noise, batch: torch.zeros(2, 2),
        scores=lambda rows, batch: seen.append(rows) or torch.zeros(2, 1),
    )
    batch, shares = api.Batch(torch.ones(2, 2)), torch.tensor([[0.25], [0.75]])
    for mixed, rows in ((1.0, [0.25, 0.75]), (0.5, [0.125, 0.875]), (0.0, [0.0, 1.0])):
        loss = mixing.judge(own, batch, None, shares, mixed)
        assert seen[-1].tolist() == [[rows[0]] * 2, [rows[1]] * 2]
        assert float(loss.total) == pytest.approx(0.6931472)  # log 2, whatever the share, of a score of 0


def test_the_mixing_game_reports_and_counts_rows_as_it_says(registry: Registry) -> None:
    live = session(registry, "MixingGAN", mixing=4, accumulate=2)
    strategy: Any = live.strategy
    rows: list[int] = []
    made = strategy.fake
    strategy.fake = lambda noise, batch: rows.append(len(noise)) or made(noise, batch)
    values = strategy.process_iteration(1).values
    assert list(values) == ["discriminatorLoss", "meanScore", "generatorLoss", "mixed"]
    assert float(values["mixed"]) == 0.75
    assert rows == [4, 4, 8, 8]  # halves of 8 rows, and of twice as many


def test_what_has_no_rows_goes_to_every_part(registry: Registry) -> None:
    chain = session(registry, "MixingGAN", accumulate=4).chains["discriminator"]
    seen: list[tuple[int, float]] = []

    def loss(rows: Tensor, factor: Tensor) -> Tensor:
        seen.append((len(rows), float(factor)))
        return sum(parameter.sum() for parameter in chain.parameters) * rows.mean() * factor

    chain.update(loss, torch.ones(8, 1), torch.tensor(0.5))
    assert seen == [(2, 0.5)] * 4


# --- mistakes -----------------------------------------------------------------------------------------------------

WRONG = '''"""A game whose methods take too little."""
import torch
from ganglion.engine import api
from ganglion.strategies.api import AdversarialStrategy

class Short(AdversarialStrategy):
    """It takes no blur."""
    preset = {"objective": "nonsaturating"}

    def generator_loss(self, noise, batch):
        return api.Loss(self.context.parts["objective"].generator(None, self.scores(self.fake(noise, batch), batch)))

class Torn(AdversarialStrategy):
    """It gives torch what is none of its."""
    def generator_contest(self, fake, batch):
        return torch.nn.functional.softmax(5, 1)
'''


def told(registry: Registry, file: Path, name: str, **keys: Any) -> tuple[Exception, str]:
    strategy: Any = session(registry, f"{file}:{name}", **keys).strategy
    with pytest.raises(Exception) as caught:
        strategy.process_iteration(0)
    return caught.value, place(caught.value, caught.value.__traceback__)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("wrong") / "short_gan.py"
    file.write_text(WRONG, encoding="utf-8")
    return file


def test_a_method_with_other_arguments_is_told_with_its_own_line(registry: Registry, wrong: Path) -> None:
    error, where = told(registry, wrong, "Short", instanceNoise=0.1)
    assert str(error) == "Short.generator_loss() takes 3 positional arguments but 4 were given"
    assert re.fullmatch(r" \(short_gan\.py, line 10, called in processors\.py, line \d+\)", where)


def test_a_mistake_inside_of_a_library_is_told_with_the_plugins_line(registry: Registry, wrong: Path) -> None:
    error, where = told(registry, wrong, "Torn")
    assert isinstance(error, AttributeError)
    assert where == f" ({wrong.name}, line 16)"


def test_a_mistake_without_a_plugin_is_told_with_the_last_line() -> None:
    written = (lambda: len(1)).__code__  # type: ignore[arg-type]
    with pytest.raises(TypeError) as caught:
        FunctionType(written, {"__name__": "ganglion.made_up", "__builtins__": builtins})()
    trace = caught.value.__traceback__
    assert trace is not None
    assert place(caught.value, trace.tb_next) == f" (test_writing_plugins.py, line {written.co_firstlineno})"


def test_an_objective_that_wants_real_scores_says_so(registry: Registry, wrong: Path) -> None:
    error, _ = told(registry, wrong, "Short", objective="relativisticPaired")
    assert isinstance(error, PluginError)
    assert "self.played(scores, batch)" in str(error) and "\n" not in str(error)


# --- settings -----------------------------------------------------------------------------------------------------


def test_show_lists_the_keys_of_a_presets_parts() -> None:
    words = ["show", "strategy", "FadingGAN", "--plugin", PLUGINS[1]]
    shown = CliRunner().invoke(cli, words).stdout
    assert re.search(r"^objective margin +margin=1 +\('ganglion show objective margin'\)$", shown, re.MULTILINE)
    parts = json.loads(CliRunner().invoke(cli, ["show", "strategy", "WGAN_LP", "--json"]).stdout)["parts"]
    assert parts["objective wasserstein"] == {}
    assert (parts["penalty LP"]["weight"], parts["penalty LP"]["every"]) == (5.0, 1)  # the preset's, the class's


def test_a_setting_that_is_declared_again_is_declared_whole() -> None:
    class Again(strategies_api.AdversarialSettings):
        discriminator_iterations: int = api.setting(1, "updates of the discriminator", also=("every",))

    (info,) = [info for info in describe(Again) if info.name == "discriminator_iterations"]
    assert (info.also, info.bounds) == (("every",), "")


def test_a_refused_key_is_answered_with_its_reason() -> None:
    class Own(api.Settings):
        refused = {"epochs": "say how long with iterations="}

        size: int = api.setting(1, "rows")

    owners, levels = [Owner("own", Own)], [Level("command line", {"epochs": "3"})]
    with pytest.raises(ConfigError, match=r"^unknown key 'epochs': say how long with iterations=$"):
        refuse_unknown(resolve(owners, levels, ()).unknown, owners, levels, ())


# --- public names -------------------------------------------------------------------------------------------------


def annotations(thing: type) -> Iterator[str]:
    """What a class declares of its fields and of the methods that others call or override, as it is written."""
    public = [getattr(value, "__func__", value) for name, value in vars(thing).items() if not name.startswith("_")]
    for declared in (thing, *filter(inspect.isfunction, public)):
        fields = inspect.get_annotations(declared)
        yield from (str(kind) for name, kind in fields.items() if not name.startswith("_"))


def test_every_class_that_stands_in_a_contract_is_public() -> None:
    public = {*api.__all__, *strategies_api.__all__}
    ours = {name for file, module in list(sys.modules.items()) if file.startswith("ganglion.")
            for name, thing in vars(module).items() if inspect.isclass(thing) and thing.__module__ == file}  # fmt: skip
    contracts = [getattr(api, name) for name in api.__all__ if getattr(api, name).__module__.endswith("contracts")]
    named = {
        word
        for thing in (*filter(inspect.isclass, contracts), api.ProcessorChain, strategies_api.AdversarialStrategy)
        for text in annotations(thing)
        for word in re.findall(r"\b[A-Z]\w+", text)
    }
    assert {"Batches", "ProcessorChain", "Span", "Part"} <= named & ours
    assert (named & ours) - {"Range"} <= public  # a pair of numbers in the contracts, a class elsewhere
