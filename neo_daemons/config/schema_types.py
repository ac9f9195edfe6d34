"""Analyses the types of the schema: unions, lists, tables and their fields."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec
from msgspec import Struct, UnsetType


def fits(value: Any, kind: Any) -> bool:
    """Return whether `value` can be converted to the type `kind`."""
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def unconstrained(kind: Any) -> Any:
    """Return a type without its constraints."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def alternatives(kind: Any) -> list[Any]:
    """Return the types of a union, without None, which TOML cannot express."""
    if get_origin(kind) in (Union, UnionType):
        return [member for part in get_args(kind) for member in alternatives(part)]
    return [] if kind in (NoneType, UnsetType) else [kind]


def element_types(kind: Any, container: type[Any]) -> tuple[Any, ...]:
    """Return the types of the items in a list, or of the names and values in a table."""
    return get_args(next(one for one in map(unconstrained, alternatives(kind)) if get_origin(one) is container))


def structure_of(kind: Any, value: Any) -> type[Struct]:
    """Return the structure that `value` was meant to be, by its ``type`` key if it has one."""
    structs = [k for k in alternatives(kind) if isinstance(k, type) and issubclass(k, Struct)]
    return next((s for s in structs if s.__struct_config__.tag == value.get("type")), structs[0])


def keys_of(struct: type[Struct]) -> list[str]:
    """Return the keys of the table that describes a `struct`."""
    tag = struct.__struct_config__.tag_field
    return [*([tag] if tag else []), *(f.encode_name for f in msgspec.structs.fields(struct))]


def is_required(struct: type[Struct], name: str) -> bool:
    """Return whether the table that describes a `struct` must have the key `name`."""
    return any(field.encode_name == name and field.required for field in msgspec.structs.fields(struct))
