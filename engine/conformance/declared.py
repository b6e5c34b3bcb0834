"""Checks of what a plugin declares: its description and its settings. The same for every kind."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from ganglion.engine.conformance.results import Check, Failed, several
from ganglion.engine.errors import ConfigError
from ganglion.engine.resolution import settings_of
from ganglion.engine.settings import SettingInfo, Settings, describe, format_value, parse_value

FEWEST_WORDS = 2  # of a setting's meaning
NUMBERS = {"int", "float"}


def check_description(trial: Any) -> None:
    """It says in a sentence what it is."""
    subject = trial.subject
    text = (getattr(subject.thing, "doc", None) or getattr(subject.thing, "__doc__", None) or "").strip()
    if len(text.split()) < FEWEST_WORDS:
        raise Failed(f"{subject.name} does not say what it is: give it a docstring; 'ganglion list' shows the first")


def check_settings(trial: Any) -> None:
    """Every setting has a default that can be written and read back, a meaning, and a range or unit where a number."""
    try:
        model = settings_of(trial.subject.thing)
    except ConfigError as error:
        raise Failed(f"{error}; write 'class Settings(api.Settings)'") from error
    several([problem for info in describe_safely(model) for problem in _problems(model, info)])
    model()


def describe_safely(model: type[Settings]) -> list[SettingInfo]:
    """The declared settings. Raises Failed for one without a default."""
    required = [name for name, info in model.model_fields.items() if info.is_required()]
    if required:
        raise Failed(
            f"the setting '{required[0]}' of {model.__name__} has no default: declare it as "
            f"{required[0]}: TYPE = setting(DEFAULT, 'what it means')"
        )
    return describe(model)


def _problems(model: type[Settings], info: SettingInfo) -> list[str]:
    where, problems = f"the setting '{info.name}' of {model.__name__}", []
    if len(info.help.split()) < FEWEST_WORDS:
        problems.append(f"{where} has no meaning: give setting(...) one line of it")
    if NUMBERS & set(info.type.replace(" or ", " ").split()) and "list" not in info.type:
        if not info.bounds and not info.unit:
            problems.append(f"{where} is a number without range and unit: add ge=, gt=, le= or lt=, or unit=")
        problems += _out_of_range(model, info, where)
    elif not _comes_back(model, info):
        problems.append(f"{where}: its default {info.default!r} is not what {info.type} reads from its own text")
    return problems


def _out_of_range(model: type[Settings], info: SettingInfo, where: str) -> list[str]:
    """Pydantic does not look at defaults: here it does."""
    field = model.model_fields[info.name]
    bounds = tuple(field.metadata)
    if not bounds or info.default is None:
        return []
    try:
        form: Any = Annotated
        TypeAdapter(form[(field.annotation, *bounds)]).validate_python(info.default)
    except ValidationError as error:
        return [f"{where}: its default {info.default!r} is refused by its own range ({error.errors()[0]['msg']})"]
    return []


def _comes_back(model: type[Settings], info: SettingInfo) -> bool:
    annotation: Any = model.model_fields[info.name].annotation
    try:
        return bool(parse_value(annotation, format_value(info.default)) == info.default)
    except ValueError:
        return False


DECLARED: tuple[Check, ...] = (Check("description", check_description), Check("settings", check_settings))
