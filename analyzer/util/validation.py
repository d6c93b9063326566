"""Check plain values (JSON, TOML, keyword arguments) against Python types.

Settings, jobs files, messages between processes, model descriptions and ``run.json`` are checked here, so
that all of them are equally strict and say the same about a wrong value. docs/design.md says why this is not
pydantic.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import sys
import types
import typing
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, NotRequired, Required

from analyzer.util.text import one_line
from analyzer.util.urls import redacted_text

__all__ = [
    "ANY_NUMBER",
    "InvalidValueError",
    "Limits",
    "brief",
    "conform",
    "number",
    "one_of",
    "range_text",
]


class InvalidValueError(ValueError):
    """A value has the wrong type or is out of range. The message names it and says what it must be."""


@dataclass(frozen=True)
class Limits:
    """Bounds of all numbers and texts of a document, for documents from untrusted sources."""

    low: float | None = None
    high: float | None = None
    longest_text: int | None = None
    """Longer texts are cut to this many characters."""
    known_keys_only: bool = False
    """Whether unknown keys of a typed dictionary are an error. Unknown fields of a dataclass always are."""
    missing_keys: bool = False
    """Whether keys of a typed dictionary may be missing, as in documents of older versions."""


ANY_NUMBER = Limits()
"""No bounds at all."""


def conform(value: object, form: Any, name: str, limits: Limits = ANY_NUMBER) -> Any:
    """Return a JSON value in the form of a type.

    Args:
        value: As `json.loads` or `tomllib.loads` returns it.
        form: A type: bool, int, float, str, None, an enumeration, a dataclass, a TypedDict, or a Literal,
            Union, Annotated, list, tuple or dict of such.
        name: The value's name in error messages, such as ``counts.people``.
        limits: Bounds of all numbers and texts in it.

    Returns:
        The value: whole numbers as float where `form` says float, dataclasses and enumerations built, a
        TypedDict as a dictionary.

    Raises:
        InvalidValueError: It has another form.

    >>> conform([1, 2.5], tuple[float, ...], "pause")
    (1.0, 2.5)
    >>> conform({"a": "x"}, dict[str, int], "counts")
    Traceback (most recent call last):
    analyzer.util.validation.InvalidValueError: counts.a must be a whole number, not 'x'
    """
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if form is Any or form is object:
        return value
    if origin in (typing.Annotated, Required, NotRequired):
        return conform(value, arguments[0], name, limits)
    if origin in (typing.Union, types.UnionType):
        return _one_form(value, arguments, name, limits)
    if origin is Literal:
        return one_of(value, arguments, name)
    if origin in (list, tuple, dict):
        return _items(value, origin, arguments, name, limits)
    if typing.is_typeddict(form):
        return _entries(value, form, name, limits)
    if dataclasses.is_dataclass(form):
        return _fields(value, form, name, limits)
    if isinstance(form, type) and issubclass(form, Enum):
        return form(one_of(value, [one.value for one in form], name))
    return _scalar(value, form, name, limits)


def _one_form(value: object, forms: tuple[Any, ...], name: str, limits: Limits) -> Any:
    if value is None and types.NoneType in forms:
        return None
    others = [form for form in forms if form is not types.NoneType]
    for form in others[:-1]:
        try:
            return conform(value, form, name, limits)
        except InvalidValueError:
            continue
    return conform(value, others[-1], name, limits)


def _items(value: object, origin: type, forms: tuple[Any, ...], name: str, limits: Limits) -> Any:
    if origin is dict:
        if not isinstance(value, dict):
            raise InvalidValueError(f"{name} must be an object with keys, not {brief(value)}")
        form = forms[1] if forms else Any
        return {str(key): conform(item, form, f"{name}.{key}", limits) for key, item in value.items()}
    if not isinstance(value, list | tuple):
        raise InvalidValueError(f"{name} must be a list, not {brief(value)}")
    if origin is tuple and forms and forms[-1] is not Ellipsis:
        if len(value) != len(forms):
            raise InvalidValueError(f"{name} must have {len(forms)} items, not {len(value)}")
    else:
        forms = (forms[0] if forms else Any,) * len(value)
    return origin(
        conform(item, form, f"{name}[{at}]", limits)
        for at, (item, form) in enumerate(zip(value, forms, strict=True))
    )


@functools.cache
def _hints(form: Any) -> dict[str, Any]:
    return typing.get_type_hints(form, include_extras=True)


@functools.cache
def _required(form: Any) -> frozenset[str]:
    # `__required_keys__` misses NotRequired in annotations that are text.
    hints = _hints(form).items() if form.__total__ else ()
    return frozenset(key for key, hint in hints if typing.get_origin(hint) is not NotRequired)


def _entries(value: object, form: Any, name: str, limits: Limits) -> dict[str, Any]:
    hints = _hints(form)
    if not isinstance(value, dict):
        raise InvalidValueError(f"{name} must be an object with keys, not {brief(value)}")
    missing = () if limits.missing_keys else _required(form) - value.keys()
    unknown = value.keys() - hints.keys() if limits.known_keys_only else ()
    _check_keys(name, missing, unknown)
    prefix = f"{name}." if name else ""
    return {key: conform(item, hints.get(key, Any), f"{prefix}{key}", limits) for key, item in value.items()}


def _fields(value: object, form: Any, name: str, limits: Limits) -> Any:
    if not isinstance(value, dict):
        raise InvalidValueError(f"{name} must be an object with keys, not {brief(value)}")
    hints, fields = _hints(form), {field.name: field for field in dataclasses.fields(form)}
    required = {
        name
        for name, field in fields.items()
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    }
    _check_keys(name, required - value.keys(), value.keys() - fields.keys())
    return form(**{key: conform(item, hints[key], f"{name}.{key}", limits) for key, item in value.items()})


def _check_keys(name: str, missing: Collection[str], unknown: Collection[str]) -> None:
    of = f" of {name}" if name else ""
    if missing:
        raise InvalidValueError(f"the key {min(missing)}{of} is missing")
    if unknown:
        raise InvalidValueError(f"{brief(min(unknown, key=str))} is no key{of or ' of it'}")


_NAMES: dict[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    None: "null",
    types.NoneType: "null",
}


def _scalar(value: object, form: Any, name: str, limits: Limits) -> Any:
    if form in (int, float):
        return number(value, form, name, limits.low, limits.high)
    if form is str and isinstance(value, str):
        # Half a surrogate pair, which JSON can hold, cannot be stored anywhere.
        return value[: limits.longest_text].encode("utf-8", "replace").decode()
    if isinstance(value, form or types.NoneType):
        return value
    raise InvalidValueError(f"{name} must be {_NAMES.get(form, str(form))}, not {brief(value)}")


def number(
    value: object,
    kind: type[int] | type[float],
    name: str,
    low: float | None = None,
    high: float | None = None,
    *,
    words: Collection[str] = (),
) -> Any:
    """Return a finite number of `kind` between two bounds, both allowed, or one of `words`.

    Raises:
        InvalidValueError: It is something else.

    >>> number(5, float, "fps", 0.01, 240)
    5.0
    >>> number(True, int, "every")
    Traceback (most recent call last):
    analyzer.util.validation.InvalidValueError: every must be a whole number, not True
    """
    if isinstance(value, str) and value in words:
        return value
    converted: float = math.nan
    right = False
    if isinstance(value, int | float) and not isinstance(value, bool):
        # Infinity and NaN are no whole numbers; an integer may be too large for a float.
        with contextlib.suppress(ValueError, OverflowError):
            converted, right = kind(value), True
    if not right or (kind is int and converted != value):
        raise InvalidValueError(f"{name} must be {' or '.join((_NAMES[kind], *words))}, not {brief(value)}")
    outside = (low is not None and converted < low) or (high is not None and converted > high)
    if outside or (kind is float and not math.isfinite(converted)):
        raise InvalidValueError(f"{name} must be {range_text(low, high)}, not {brief(value)}")
    if kind is int and abs(converted) > sys.maxsize:
        raise InvalidValueError(f"{name} is too large")
    return converted


def one_of(value: object, choices: Collection[Any], name: str) -> Any:
    """Return the value if it is one of the choices, of the same type.

    Raises:
        InvalidValueError: It is not.
    """
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = ", ".join(map(str, choices))
        raise InvalidValueError(f"{name} must be one of {listed}, not {brief(value)}")
    return value


def range_text(low: float | None, high: float | None) -> str:
    """A range in words.

    >>> range_text(0.01, 240), range_text(1, None)
    ('between 0.01 and 240', 'at least 1')
    """
    if low is not None and high is not None:
        return f"between {low:.10g} and {high:.10g}"
    if low is not None:
        return f"at least {low:.10g}"
    return f"at most {high:.10g}" if high is not None else "a finite number"


def brief(value: object, longest: int = 60) -> str:
    """Write a value for an error message: printable, short, without the logins of addresses.

    >>> brief("a" * 100, 10), brief("https://user:secret@example.org/a")
    ("'aaaaaaaa…", "'https://example.org/a'")
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # Python does not write out integers of thousands of digits
        return "such a value"
    return one_line(redacted_text(text), longest)
