"""Text becomes values by the declared type, and keys find their components: precedence, roles, mistakes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import pytest

from ganglion.engine.errors import ConfigError
from ganglion.engine.job import JobSettings, parse_job, parse_tokens, request
from ganglion.engine.registry import Registry
from ganglion.engine.resolution import Plan, Resolver
from ganglion.engine.settings import (
    Level,
    Owner,
    Settings,
    Unknown,
    describe,
    format_value,
    parse_value,
    refuse_unknown,
    resolve,
    setting,
)

REGISTRY = Registry().load()


def plan(
    strategy: str = "NSGAN",
    networks: str = "Generator,Discriminator",
    dataset: str = "Circle",
    job: Mapping[str, Any] | None = None,
    **given: Any,
) -> Plan:
    """Keys with a role are written `generator__learningRate`."""
    keys = {key.replace("__", "."): value for key, value in given.items()}
    return Resolver(REGISTRY, request(networks, dataset, {"strategy": strategy, **keys}, job)).plan()


def rates(made: Plan) -> dict[str, float]:
    return {role: entry.method_settings.learning_rate for role, entry in made.roles.items()}


def refused(sentence: str, strategy: str = "NSGAN", **given: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(sentence)}$"):
        plan(strategy, **given)


# --- values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        (float, "1e-3", 0.001),
        (float, " 2 ", 2.0),
        (int, "1e4", 10_000),
        (int, "0123", 123),
        (int, "-1", -1),
        (int, 3.0, 3),
        (bool, "true", True),
        (bool, "No", False),
        (bool, "off", False),
        (str, "no", "no"),
        (str, "1:30", "1:30"),
        (str, "0123", "0123"),
        (str, "1e-3", "1e-3"),
        (str, "none", "none"),
        (str, 5, "5"),
        (str, True, "true"),
        (str | None, "none", None),
        (str | None, "", None),
        (int | None, "None", None),
        (int | None, "7", 7),
        (tuple[int, ...], "[1,2]", (1, 2)),
        (tuple[int, ...], "1,2", (1, 2)),
        (tuple[int, ...], "(1, 2,)", (1, 2)),
        (tuple[int, ...], 4, (4,)),
        (tuple[int, ...], [1, "2"], (1, 2)),
        (tuple[str, ...], "", ()),
        (tuple[str, ...] | None, "none", None),
        (bool | float, "0.25", 0.25),
        (bool | tuple[float, ...], "1.5,2", (1.5, 2.0)),
        (Literal["sum", "mean"], "Mean", "mean"),
        (Literal[1, 2], "2", 2),
    ],
)
def test_text_is_read_by_the_declared_type(annotation: Any, text: Any, value: Any) -> None:
    parsed = parse_value(annotation, text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, True),
        (int, "true"),
        (int, "1.5"),
        (int, "1:30"),
        (int, "inf"),
        (int, "nan"),
        (int, float("nan")),
        (int, ""),
        (float, "fast"),
        (float, "1,5"),
        (bool, "2"),
        (bool, 1),
        (tuple[int, ...], "1,x"),
        (Literal["sum", "mean"], "median"),
        (int | None, "some"),
    ],
)
def test_what_does_not_fit_the_type_is_refused(annotation: Any, text: Any) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_value(annotation, text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "none"), (True, "true"), ((1, 2.5, "a"), "1,2.5,a"), (2e-4, "0.0002"), (10_000, "10000"), ("x", "x")],
)
def test_values_are_written_as_the_command_line_takes_them(value: Any, text: str) -> None:
    assert format_value(value) == text


class Sample(Settings):
    """Settings for these tests."""

    first_key: float = setting(0.5, "the first one", unit="rows", also=("oldName",), gt=0, le=1)
    many: tuple[int, ...] | None = setting(None, "the second one")


def test_a_declaration_describes_itself() -> None:
    first, many = describe(Sample)
    assert (first.key, first.name, first.type, first.default) == ("firstKey", "first_key", "float", 0.5)
    assert (first.bounds, first.unit, first.help, first.also) == ("> 0 <= 1", "rows", "the first one", ("oldName",))
    assert (many.key, many.type, many.bounds) == ("many", "list of int or none", "")


# --- keys and components ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["batchSize", "batch_size", "BATCHSIZE", "batch-size", "job.batchSize"])
def test_keys_are_found_in_every_spelling(key: str) -> None:
    assert plan(**{key: "7"}).job.batch_size == 7


def test_other_names_are_accepted() -> None:
    assert plan(maxIterations="12").job.iterations == 12
    assert plan(Diterations="3").strategy_settings.discriminator_iterations == 3


def test_a_plain_key_reaches_every_role_and_a_prefixed_one_its_own() -> None:
    assert rates(plan(learningRate="1e-3")) == {"generator": 1e-3, "discriminator": 1e-3}
    assert rates(plan(Generator__learningRate="1e-3")) == {"generator": 1e-3, "discriminator": 2e-4}


@pytest.mark.parametrize(
    "order", [("learningRate", "generator.learningRate"), ("generator.learningRate", "learningRate")]
)
def test_a_prefixed_key_beats_a_plain_one_at_the_same_level(order: tuple[str, str]) -> None:
    values = {"learningRate": "0.1", "generator.learningRate": "0.2"}
    assert rates(plan(**{key: values[key] for key in order})) == {"generator": 0.2, "discriminator": 0.1}


def test_precedence_of_the_levels() -> None:
    default, preset = JobSettings().batch_size, plan().roles["generator"].method_settings.beta1
    assert (default, preset) == (64, 0.5)
    file = {"settings": {"beta1": "0.6", "seed": "5", "generator.beta2": "0.9"}}
    from_file = plan(job=file)
    assert [entry.method_settings.beta1 for entry in from_file.roles.values()] == [0.6, 0.6]
    assert (from_file.job.seed, from_file.job.batch_size) == (5, 64)
    both = plan(job=file, beta1="0.7", beta2="0.8")
    assert [(each.method_settings.beta1, each.method_settings.beta2) for each in both.roles.values()] == [
        (0.7, 0.8)
    ] * 2
    assert both.job.seed == 5


def clamps(made: Plan) -> dict[str, float | None]:
    return {
        role: settings.clamp
        for role, entry in made.roles.items()
        for link, settings in entry.links
        if link.name == "Clamp"
    }


def test_a_plain_key_replaces_a_presets_value_for_one_role_and_says_so() -> None:
    preset = plan("WGAN")
    assert clamps(preset) == {"generator": None, "discriminator": 0.01} and preset.replaced == ()
    made = plan("WGAN", clamp="0.5")
    assert clamps(made) == {"generator": None, "discriminator": 0.5}
    ((key, old, new),) = made.replaced
    assert (key, old, float(new)) == ("discriminator.clamp", 0.01, 0.5)
    assert plan("WGAN", discriminator__clamp="0.5").replaced == ()
    assert clamps(plan("WGAN", generator__clamp="0.5")) == {"generator": 0.5, "discriminator": 0.01}


def test_another_method_drops_the_presets_values_for_the_one_before() -> None:
    made = plan("NSGAN", method="RMSPROP")
    assert {entry.method.name for entry in made.roles.values()} == {"RMSPROP"}
    assert rates(made) == {"generator": 0.001, "discriminator": 0.001}
    assert made.notices == (
        "method=RMSPROP for the generator and the discriminator: "
        "the NSGAN preset's values for another method are dropped",
    )
    assert rates(plan("NSGAN", method="adam")) == {"generator": 2e-4, "discriminator": 2e-4}
    assert rates(plan("NSGAN", method="RMSPROP", learningRate="0.3")) == {"generator": 0.3, "discriminator": 0.3}


def test_another_method_for_one_role_leaves_the_other_alone() -> None:
    made = plan("NSGAN", generator__method="SGD", learningRate="0.3", discriminator__beta2="0.9")
    assert [entry.method.name for entry in made.roles.values()] == ["SGD", "ADAM"]
    assert rates(made) == {"generator": 0.3, "discriminator": 0.3}
    assert made.roles["discriminator"].method_settings.beta1 == 0.5
    assert made.roles["discriminator"].method_settings.beta2 == 0.9


def test_a_job_files_method_drops_the_presets_values_too() -> None:
    made = plan("NSGAN", job={"settings": {"method": "SGD", "momentum": "0.9"}}, learningRate="0.2")
    assert [entry.method_settings.momentum for entry in made.roles.values()] == [0.9, 0.9]


def test_a_components_own_prefix() -> None:
    made = plan("GAN", penalty="R1", R1__weight="5", labelled__realTarget="0.9")
    assert made.parts["penalty.0"][1].weight == 5.0
    assert made.parts["objective"][1].real_target == 0.9


def test_layer_arguments_go_to_the_networks_that_have_the_layer() -> None:
    both = plan(dataset="Digits", Dropout__p="0.3")
    assert [dict(entry.overrides) for entry in both.roles.values()] == [{"Dropout.p": "0.3"}] * 2
    one = plan(dataset="Digits", discriminator__Dropout__p="0.3")
    assert [dict(entry.overrides) for entry in one.roles.values()] == [{}, {"Dropout.p": "0.3"}]


def test_all_values_in_full_mean_the_same_when_read_again() -> None:
    made = plan("WGAN", generator__method="ADAM", penalty="R1", weight="3", traces="lines,pictures", seed="4")
    again = plan("WGAN", job={"settings": {key: format_value(value) for key, value in made.values.items()}})
    assert again.values == made.values
    assert [entry.method_settings for entry in again.roles.values()] == [
        entry.method_settings for entry in made.roles.values()
    ]


# --- mistakes -----------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_answered_with_the_nearest_and_its_owner() -> None:
    refused("unknown key 'batchsze'; did you mean 'batchSize' of the job?", batchsze="3")
    refused(
        "unknown key 'generator.lerningRate'; did you mean 'generator.learningRate' of generator's method ADAM?",
        generator__lerningRate="3",
    )
    refused("unknown key 'genrator.learningRate'; did you mean 'generator.learningRate'?", genrator__learningRate="3")
    refused(
        "unknown key 'Dropot.p'; did you mean 'Dropout.p' of generator's network Generator?",
        dataset="Digits",
        Dropot__p="0.1",
    )
    refused("unknown key 'xyzzy': nothing in this job takes it; 'ganglion show KIND NAME' lists the keys", xyzzy="3")
    refused(
        "unknown key 'batchsze' (from the job file); did you mean 'batchSize' of the job?",
        job={"settings": {"batchsze": "3"}},
    )


def test_a_key_of_another_method_is_unknown() -> None:
    with pytest.raises(ConfigError, match=r"^unknown key 'alpha'"):
        plan("NSGAN", alpha="0.9")


def test_a_bad_value_is_answered_with_key_value_and_type() -> None:
    refused("batchSize=many: the job expects int >= 1 (rows per batch)", batchSize="many")
    refused("batchSize=0: the job expects int >= 1 (rows per batch)", batchSize="0")
    refused("batchSize=true: the job expects int >= 1 (rows per batch)", batchSize=True)
    choices = "collapse|coverage|overpowering|blind|vanishing|divergence|clipping|range|stalled"
    sentence = f"the job expects list of {choices} (the alarms of the run's health that stop the run)"
    refused(f"stopOn=range,colapse: {sentence}; did you mean 'collapse'?", stopOn="range,colapse")
    refused(f"stopOn=xyz: {sentence}", stopOn="xyz")
    refused(
        "discriminator.learningRate=-1: discriminator's method ADAM expects float > 0 (size of the steps)",
        discriminator__learningRate="-1",
    )
    refused(
        "halves=product: strategy NSGAN expects sum|mean (how the real and the fake half of the discriminator's loss "
        "combine)",
        halves="product",
    )


@pytest.mark.parametrize("networks", ["Generator", "Generator,MLP,CNN"])
def test_the_number_of_networks_follows_the_roles(networks: str) -> None:
    named = {"Generator": "1 is named: Generator", "Generator,MLP,CNN": "3 are named: Generator, MLP, CNN"}[networks]
    refused(f"strategy NSGAN takes 2 networks (generator, discriminator), and {named}", networks=networks)


def test_a_link_is_no_method() -> None:
    refused(
        "method=clamp: Clamp is a link of the chain, not a method; "
        "there are: ADADELTA, ADAGRAD, ADAM, ADAMW, RMSPROP, SGD",
        method="clamp",
    )


class Other(Settings):
    """Shares a key with Sample."""

    first_key: int = setting(1, "another one")


def test_a_key_of_two_components_is_refused_until_it_says_which() -> None:
    owners = [Owner("objective A", Sample, prefix="A"), Owner("penalty B", Other, prefix="B")]
    with pytest.raises(
        ConfigError,
        match=r"^key 'firstKey' belongs to objective A and to penalty B; write 'A\.firstKey' or 'B\.firstKey'$",
    ):
        resolve(owners, [Level("command line", {"firstKey": "1"})], ())
    made = resolve(owners, [Level("command line", {"A.firstKey": "0.25", "b.first_key": "3"})], ())
    assert [settings.first_key for settings in made.settings] == [0.25, 3]


def test_a_key_of_two_components_is_not_one_that_was_given_twice() -> None:
    owners = [Owner("strategy A", Sample, prefix="A"), Owner("penalty B", Other, prefix="B")]
    both = {"firstKey": "1", "B.firstKey": "2"}
    with pytest.raises(ConfigError, match=r"^key 'firstKey' belongs to strategy A and to penalty B; write 'A\.first"):
        resolve(owners, [Level("command line", both)], ())
    with pytest.raises(ConfigError, match=r"^'firstKey' and 'B\.firstKey' are one key of penalty B: give it once$"):
        resolve(owners[1:], [Level("command line", both)], ())


def test_a_key_of_the_job_and_of_a_role_clashes_but_two_roles_do_not() -> None:
    roles = ("one", "two")
    levels = [Level("command line", {"firstKey": "1"})]
    owners = [Owner("one's X", Sample, role="one", prefix="X"), Owner("two's Y", Other, role="two", prefix="Y")]
    assert [settings.first_key for settings in resolve(owners, levels, roles).settings] == [1, 1]
    with pytest.raises(ConfigError, match=r"^key 'firstKey' belongs to the job and to X; write 'job\.firstKey' or 'X"):
        resolve([Owner("the job", Sample, prefix="job"), *owners], levels, roles)


def test_what_nothing_takes_is_told_with_its_level() -> None:
    owners, levels = (
        [Owner("it", Sample)],
        [Level("preset", {"a": 1}), Level("command line", {"oldName": "0.5", "b": 2})],
    )
    made = resolve(owners, levels, ())
    assert made.unknown == [Unknown("a", 0), Unknown("b", 1)] and made.settings[0].first_key == 0.5
    with pytest.raises(ConfigError, match=r"^unknown key 'a' \(from the preset\)"):
        refuse_unknown(made.unknown, owners, levels, ())


def test_tokens_are_split_at_the_first_equals_sign() -> None:
    assert parse_tokens(["a=1", "path=x=y", "empty="]) == {"a": "1", "path": "x=y", "empty": ""}


def test_two_spellings_of_one_key_are_refused() -> None:
    refused("'batchSize' and 'batch_size' are one key of the job: give it once", batchSize="3", batch_size="4")


@pytest.mark.parametrize("text", ["inf", "-inf", "nan", "1_000", "\u0661"])
def test_numbers_are_finite_and_in_plain_digits(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"^learningRate={text}: generator's method ADAM expects float > 0 \("):
        plan(learningRate=text)


def test_a_token_without_equals_and_a_repeated_key_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^'batchSize': expected key=value after the data set, e\.g\. batchSize=64$"):
        parse_tokens(["seed=1", "batchSize"])
    with pytest.raises(ConfigError, match=r"^'=3': expected key=value"):
        parse_tokens(["=3"])
    with pytest.raises(ConfigError, match=r"^'seed=2': the key 'seed' is given twice, first as 'seed=1'$"):
        parse_tokens(["seed=1", "seed=2"])


def test_a_job_file_is_read_as_text_not_by_yamls_rules() -> None:
    job = parse_job("networks: A,B\nsettings: {path: no, out: 0123, when: 1:30, rate: 1e-3, flag: true}\n", "x.yaml")
    assert job["settings"] == {"path": "no", "out": "0123", "when": "1:30", "rate": "1e-3", "flag": "true"}


@pytest.mark.parametrize("text", ["R1,,R2", ",", "[,R1]", "R1,,"])
def test_a_list_has_no_empty_places(text: str) -> None:
    with pytest.raises(ValueError, match="without empty places"):
        parse_value(tuple[str, ...], text)
    assert parse_value(tuple[str, ...], "") == () and parse_value(tuple[str, ...], "[R1, R2]") == ("R1", "R2")
