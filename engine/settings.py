"""Typed settings: declaring them, parsing `key=value` text by the declared type, and assigning keys to components."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Any, ClassVar, Literal, NamedTuple, Union

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel
from pydantic.fields import FieldInfo

from ganglion.engine.errors import ConfigError, fold, nearest

NONE_WORDS = ("none", "null", "")
FEW = 8  # keys that a sentence can list


class NotUsed(ConfigError):
    """A key that nothing in a job takes, or that changes nothing there."""

    key = ""


class Settings(BaseModel):
    """Base of every component's settings: frozen, unknown keys refused, camelCase outside and snake_case inside.

    `refused` holds keys that somebody may expect here, each with the reason why there is none: it is the answer to
    whoever gives one (`refused = {"epochs": "say how long by iterations="}`).
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )
    refused: ClassVar[Mapping[str, str]] = {}  # keys that may be expected here, each with why there is none

    def without_effect(self) -> Mapping[str, str]:
        """Fields that change nothing beside the others, each with the reason: giving one in a job is an error."""
        return {}


def setting(default: Any, help: str, *, unit: str = "", also: Sequence[str] = (), **bounds: Any) -> Any:
    """Declare one setting: default, one line of meaning, unit, other names, bounds (`ge`, `gt`, `le`, `lt`)."""
    return Field(default=default, description=help, json_schema_extra={"unit": unit, "also": list(also)}, **bounds)


class SettingInfo(NamedTuple):
    """One declared setting, as `ganglion show` and the documentation present it."""

    key: str
    name: str
    type: str
    default: Any
    bounds: str
    unit: str
    help: str
    also: tuple[str, ...]


def describe(model: type[BaseModel]) -> list[SettingInfo]:
    """All settings that a model declares, in the order of declaration."""
    return list(_described(model))


@cache
def _described(model: type[BaseModel]) -> tuple[SettingInfo, ...]:
    return tuple(_describe_field(name, info) for name, info in model.model_fields.items())


def _describe_field(name: str, info: FieldInfo) -> SettingInfo:
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    bounds = " ".join(
        f"{sign} {getattr(item, attribute)}"
        for item in info.metadata
        for attribute, sign in (("ge", ">="), ("gt", ">"), ("le", "<="), ("lt", "<"))
        if getattr(item, attribute, None) is not None
    )
    also = typing.cast("Sequence[str]", extra.get("also", ()))
    return SettingInfo(
        key=info.alias or to_camel(name),
        name=name,
        type=type_name(info.annotation),
        default=info.get_default(call_default_factory=True),
        bounds=bounds,
        unit=str(extra.get("unit", "")),
        help=info.description or "",
        also=tuple(also),
    )


def type_name(annotation: Any) -> str:
    """A type as a user reads it: `int`, `float or none`, `sum|mean`, `list of int`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "none"
    if origin in (Union, types.UnionType):
        return " or ".join(type_name(argument) for argument in arguments)
    if origin is Literal:
        return "|".join(str(argument) for argument in arguments)
    if origin in (list, tuple):
        return f"list of {type_name(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return "|".join(str(member.value) for member in annotation)
    return {"str": "text"}.get(getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation)))


def format_value(value: Any) -> str:
    """A value in the form in which the command line takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(format_value(item) for item in value)
    if isinstance(value, Enum):
        return str(value.value)
    return repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)  # every digit is kept


def parse_value(annotation: Any, value: Any) -> Any:
    """Read `value` (text, or an already typed value) as `annotation`; raises ValueError when it is not one.

    Text is read by the declared type alone, so `no`, `1:30` and `0123` never turn into something else.
    """
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _parse_union(arguments, value)
    if isinstance(value, str):
        value = value.strip()
    if origin in (list, tuple):
        return tuple(parse_value(arguments[0], item) for item in _items(value))
    if annotation in (int, float) and isinstance(value, str) and (not value.isascii() or "_" in value):
        raise ValueError("a number in plain digits")  # Python would read 1_0, and the digits of every script
    if annotation in (bool, int):
        return _parse_bool(value) if annotation is bool else _parse_int(value)
    if annotation is str and isinstance(value, (bool, int, float)):
        return format_value(value)
    if origin is Literal:
        return _parse_choice(arguments, value)
    try:
        return _adapter(annotation).validate_python(value)
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None


@cache
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    return TypeAdapter(annotation)  # making one takes longer than all the rest


def _parse_union(arguments: tuple[Any, ...], value: Any) -> Any:
    if type(None) in arguments and (value is None or (isinstance(value, str) and value.strip().lower() in NONE_WORDS)):
        return None
    for argument in arguments:
        if argument is type(None):
            continue
        try:
            return parse_value(argument, value)
        except ValueError:
            continue
    raise ValueError("no form fits")


def _items(value: Any) -> list[Any]:
    """The items of a list: nothing is `none`, one value is a list of it."""
    if value is None or (isinstance(value, str) and value.lower() in NONE_WORDS):
        return []
    return _split(value) if isinstance(value, str) else list(value) if isinstance(value, Iterable) else [value]


def _split(text: str) -> list[str]:
    inner = (text[1:-1] if text[:1] in "[(" and text[-1:] in "])" else text).strip()
    parts = [part.strip() for part in inner.split(",")] if inner else []
    parts = parts[:-1] if len(parts) > 1 and not parts[-1] else parts  # one comma may stand at the end
    if not all(parts):
        raise ValueError("a list without empty places")
    return parts


def _parse_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("true or false")


def _parse_int(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError("a whole number")
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            value = float(value)
    if (isinstance(value, float) and not math.isfinite(value)) or value != int(value):
        raise ValueError("a whole number")
    return int(value)


def _parse_choice(choices: tuple[Any, ...], value: Any) -> Any:
    for choice in choices:
        if fold(str(choice)) == fold(format_value(value)):
            return choice
    raise ValueError("one of the choices")


# --- keys -> components -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Owner:
    """A component that takes settings in a job.

    `label` names it in messages; `prefix` lets a key be written `prefix.key` (`R1.weight`); `layer_arguments` accepts
    `Layer.argument` keys (YAML networks). Keys of levels below `since` are ignored: they were meant for the component
    that this one replaced. `narrowed` keys reach it only with its role's prefix.
    """

    label: str
    model: type[Settings]
    role: str | None = None
    prefix: str | None = None
    layer_arguments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    since: int = 0
    narrowed: frozenset[str] = frozenset()

    @property
    def component(self) -> str:
        """The label without the role: the same for all roles' copies of one component."""
        return self.label.removeprefix(f"{self.role}'s ") if self.role else self.label


class Level(NamedTuple):
    """Keys given at one level of precedence (class default < preset < job file < command line)."""

    name: str
    keys: Mapping[str, Any]


class Replaced(NamedTuple):
    """A preset's value that an explicit key took the place of (shown in the start banner)."""

    key: str
    preset: Any
    value: Any


class Unknown(NamedTuple):
    """A key that no component took, and the number of its level."""

    key: str
    level: int


class Resolution(NamedTuple):
    """Settings and layer arguments by owner (in the order given), preset values replaced, keys that nothing took."""

    settings: list[Any]
    layer_arguments: list[dict[str, Any]]
    replaced: list[Replaced]
    unknown: list[Unknown]


class _Key(NamedTuple):
    text: str
    value: Any
    level: int
    role: str | None
    rest: str  # the key without its role


def resolve(owners: Sequence[Owner], levels: Sequence[Level], roles: Sequence[str]) -> Resolution:
    """Give every key to the components that declare it: the strongest level wins, then a role-prefixed key.

    Raises ConfigError for a bad value, for a key that two different components declare, and for one given twice.
    """
    keys = _ordered_keys(levels, roles)
    consumers: dict[tuple[int, str], list[Owner]] = {}
    twice: list[tuple[_Key, _Key, Owner]] = []
    settings, arguments, replaced = [], [], []
    for owner in owners:
        values: dict[str, tuple[Any, _Key]] = {}
        own_arguments: dict[str, Any] = {}
        for key in keys:
            if key.role is not None and key.role != owner.role:
                continue
            name = _field_for(owner, key)
            if name is None and not _layer_argument(owner, key.rest):
                continue
            consumers.setdefault((key.level, key.text), []).append(owner)
            if name is None:
                own_arguments[key.rest] = key.value
            elif key.level >= owner.since:
                before = values.get(name)
                if before is not None and (before[1].level, before[1].role) == (key.level, key.role):
                    twice.append((before[1], key, owner))
                if before is not None and _is_replaced(owner, name, before[1], key, levels):
                    replaced.append(Replaced(before[1].text, before[0], key.value))
                values[name] = (key.value, key)
        settings.append(_build(owner, values, levels))
        arguments.append(own_arguments)
    _refuse_clashes(consumers, roles)  # first: a key of two components looks like one that is given twice
    _refuse_twice(twice)
    unknown = [Unknown(key.text, key.level) for key in keys if (key.level, key.text) not in consumers]
    return Resolution(settings, arguments, replaced, unknown)


def refuse_unknown(
    unknown: Sequence[Unknown], owners: Sequence[Owner], levels: Sequence[Level], roles: Sequence[str]
) -> None:
    """Raise ConfigError for the first key that nothing consumed, naming the nearest key and its component."""
    for text, level in unknown:
        raise _not_used(_unknown_key(_split_role(text, None, level, roles), owners, roles, levels[level]), text)


def refuse_without_effect(
    owners: Sequence[Owner], settings: Sequence[Settings], presets: Sequence[Settings], roles: Sequence[str]
) -> None:
    """Raise ConfigError for a value that was given, so is not the preset's, and changes nothing.

    What does something for another role was given for all of them: it is accepted.
    """
    used: set[tuple[str, str, str]] = set()
    idle: dict[tuple[str, str, str], list[tuple[Owner, str]]] = {}
    for owner, own, preset in zip(owners, settings, presets, strict=True):
        reasons = own.without_effect()
        for name in type(own).model_fields:
            entry = (owner.component, name, format_value(getattr(own, name)))
            if name not in reasons:
                used.add(entry)
            elif getattr(own, name) != getattr(preset, name):
                idle.setdefault(entry, []).append((owner, reasons[name]))
    for entry, found in idle.items():
        if entry not in used:
            (owner, reason), (_, name, value) = found[0], entry
            role = f"{owner.role}." if owner.role and len(found) < len(roles) else ""
            key = next(info.key for info in describe(owner.model) if info.name == name)
            raise _not_used(f"{role}{key}={value}: {reason}", f"{role}{key}")


def _not_used(sentence: str, key: str) -> NotUsed:
    error = NotUsed(sentence)
    error.key = key
    return error


def winning(
    levels: Sequence[Level], roles: Sequence[str], names: Sequence[str], role: str | None
) -> list[tuple[int, Any]]:
    """Every (level, value) that a key called one of `names` is given for `role`, the strongest last."""
    folded = {fold(name) for name in names}
    return [
        (key.level, key.value)
        for key in _ordered_keys(levels, roles)
        if fold(key.rest) in folded and key.role in (None, role)
    ]


def _ordered_keys(levels: Sequence[Level], roles: Sequence[str]) -> list[_Key]:
    keys = [
        _split_role(text, value, number, roles)
        for number, level in enumerate(levels)
        for text, value in level.keys.items()
    ]
    return sorted(keys, key=lambda key: (key.level, key.role is not None))


def _is_replaced(owner: Owner, name: str, before: _Key, key: _Key, levels: Sequence[Level]) -> bool:
    """Whether a preset's value for one role is lost to a stronger key for all roles."""
    if before.level >= key.level or not before.role or key.role or levels[before.level].name == "job file":
        return False
    annotation = owner.model.model_fields[name].annotation
    with suppress(ValueError, TypeError, OverflowError):
        return bool(parse_value(annotation, before.value) != parse_value(annotation, key.value))
    return True


def _refuse_twice(twice: Sequence[tuple[_Key, _Key, Owner]]) -> None:
    """Two spellings of one key, or a name and another one for it: which of the two values is meant?"""
    for before, key, owner in twice:
        raise ConfigError(f"'{before.text}' and '{key.text}' are one key of {owner.label}: give it once")


def _refuse_clashes(consumers: Mapping[tuple[int, str], Sequence[Owner]], roles: Sequence[str]) -> None:
    """A key means one component; the components of two roles do not clash: a key without a role is for every role."""
    for (_, text), owners in consumers.items():
        for role in dict.fromkeys(owner.role for owner in owners):
            by_component = {owner.component: owner for owner in owners if owner.role in (role, None)}
            if len(by_component) > 1:
                forms = " or ".join(
                    f"'{_full_form(owner, text, roles)}'" for owner in by_component.values() if owner.prefix
                )
                raise ConfigError(f"key '{text}' belongs to {' and to '.join(by_component)}; write {forms}")


def _full_form(owner: Owner, text: str, roles: Sequence[str]) -> str:
    """A key that means this owner alone; `Generator.key` would be the role's, whatever network has that name."""
    key = _split_role(text, None, 0, roles)
    role = key.role or (owner.role if is_role(owner.prefix, roles) else None)
    return ".".join(part for part in (role, owner.prefix, key.rest) if part)


def is_role(name: str | None, roles: Sequence[str]) -> bool:
    """Whether a key that begins with `name` and a dot is a role's key."""
    return name is not None and fold(name) in {fold(role) for role in roles}


def _split_role(text: str, value: Any, level: int, roles: Sequence[str]) -> _Key:
    head, dot, rest = text.partition(".")
    for role in roles:
        if dot and fold(head) == fold(role):
            return _Key(text, value, level, role, rest)
    return _Key(text, value, level, None, text)


def _field_for(owner: Owner, key: _Key) -> str | None:
    text, (head, dot, rest) = key.rest, key.rest.partition(".")
    if dot:
        if owner.prefix is None or fold(head) != fold(owner.prefix):
            return None
        text = rest
    name = _names(owner.model).get(fold(text))
    return None if name in owner.narrowed and key.role is None else name


@cache
def _names(model: type[Settings]) -> dict[str, str]:
    """Every folded form under which a field may be written."""
    return {fold(form): info.name for info in describe(model) for form in (info.key, *info.also)}


def _layer_argument(owner: Owner, key: str) -> bool:
    layer, dot, argument = key.partition(".")
    return bool(dot) and argument in owner.layer_arguments.get(layer, ())


def _build(owner: Owner, values: Mapping[str, tuple[Any, _Key]], levels: Sequence[Level]) -> Settings:
    parsed = {}
    for name, (value, key) in values.items():
        info = owner.model.model_fields[name]
        try:
            parsed[name] = parse_value(info.annotation, value)
            _check_finite(parsed[name])
            _bounded(owner.model, name).validate_python(parsed[name])
        except (ValueError, TypeError, OverflowError):
            described = _describe_field(name, info)
            raise ConfigError(
                f"{key.text}={format_value(value)}{_from(levels[key.level])}: {owner.label} expects {described.type}"
                f"{' ' + described.bounds if described.bounds else ''} ({described.help})"
                f"{_meant(described.type, format_value(value))}"
            ) from None
    try:
        return owner.model(**parsed)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{owner.label}: {message}") from None


def _meant(choices: str, given: str) -> str:
    """Which of a setting's choices is near to what was given, where there is one."""
    known = choices.removeprefix("list of ").replace(" or ", "|").split("|")
    near = [nearest(word.strip(), known) for word in given.split(",") if word.strip() not in known]
    return next((f"; did you mean '{word}'?" for word in near if word), "") if len(known) > 1 else ""


@cache
def _bounded(model: type[BaseModel], name: str) -> TypeAdapter[Any]:
    """What checks a field's value by its type and its bounds."""
    info = model.model_fields[name]
    bounded: Any = typing.Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    return TypeAdapter(bounded)


def _check_finite(value: Any) -> None:
    """No setting means anything by infinity or not-a-number, and 1e400 is written by mistake."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, float) and not math.isfinite(item):
            raise ValueError("a finite number")


def _from(level: Level) -> str:
    return "" if level.name == "command line" else f" (from the {level.name})"


def _candidates(key: _Key, owners: Sequence[Owner], roles: Sequence[str]) -> dict[str, str]:
    """What could have been meant, without a role, and whose it is."""
    candidates: dict[str, str] = {}
    for owner in owners:
        if key.role is not None and owner.role != key.role:
            continue
        prefixed = "." in key.rest and owner.prefix and (key.role is not None or not is_role(owner.prefix, roles))
        for info in describe(owner.model):
            for name in (info.key, *info.also):
                candidates.setdefault(f"{owner.prefix}.{name}" if prefixed else name, owner.label)
        for layer, names in owner.layer_arguments.items():
            for name in names:
                candidates.setdefault(f"{layer}.{name}", owner.label)
    return candidates


def _unknown_key(key: _Key, owners: Sequence[Owner], roles: Sequence[str], level: Level) -> str:
    candidates = _candidates(key, owners, roles)
    head, dot, rest = key.text.partition(".")
    role = nearest(head, roles) if dot and key.role is None else None
    near = nearest(key.rest, candidates)
    where = _from(level)
    for owner in owners:
        for name, reason in owner.model.refused.items():
            if fold(name) == fold(key.rest):
                return f"unknown key '{key.text}'{where}: {reason}"
    if role is not None and fold(rest) in {name for owner in owners for name in _names(owner.model)}:
        return f"unknown key '{key.text}'{where}; did you mean '{role}.{rest}'?"
    if near is not None:
        prefix = f"{key.role}." if key.role else ""
        return f"unknown key '{key.text}'{where}; did you mean '{prefix}{near}' of {candidates[near]}?"
    if role is not None:
        return f"unknown key '{key.text}'{where}; did you mean the role '{role}'?"
    others = {form for owner in owners for info in describe(owner.model) for form in info.also}
    few = [name for name in candidates if name not in others]
    if len(few) <= FEW:
        return f"unknown key '{key.text}'{where}; there are: {', '.join(few)}"
    return f"unknown key '{key.text}'{where}: nothing in this job takes it; 'ganglion show KIND NAME' lists the keys"
