"""A message of Caffe: fields by name. Road: caffe, after the schema; what both file forms are read into.

Knows no files, no torch.
"""

from __future__ import annotations

import copy
from typing import Any

from fullconv.caffe.schema import MESSAGES, Field


class Message:
    """One message. Fields that are absent have their defaults; absent messages are empty ones, absent lists ().

    Enums are names. Blobs' numbers are NumPy arrays.

    Args:
        kind: its name in the schema.
        fields: what is set.
    """

    __slots__ = ("_set", "kind")

    def __init__(self, kind: str, **fields: Any) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "_set", {})
        for name, value in fields.items():
            setattr(self, name, value)

    kind: str
    _set: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "kind":  # asked of one that is not made yet, and by copy and pickle
            raise AttributeError(name)
        field = _field(self, name)
        if name in self._set:
            return self._set[name]
        if field.repeated:
            return ()
        return Message(field.kind) if field.is_message else field.default

    def __setattr__(self, name: str, value: Any) -> None:
        _field(self, name)
        self._set[name] = value

    def __delattr__(self, name: str) -> None:
        self._set.pop(name, None)

    def __getstate__(self) -> tuple[str, dict[str, Any]]:
        return self.kind, dict(self._set)

    def __setstate__(self, state: tuple[str, dict[str, Any]]) -> None:
        for name, value in zip(self.__slots__, state[::-1], strict=True):
            object.__setattr__(self, name, value)

    def has(self, name: str) -> bool:
        """Whether a field is there; of a list, whether it has an entry."""
        found = self._set.get(name)
        return found is not None and not (isinstance(found, list) and not found)

    def add(self, name: str, value: Any) -> None:
        """Append to a list."""
        self._set.setdefault(name, []).append(value)

    def names(self) -> tuple[str, ...]:
        """Fields that are set, in their order of setting."""
        return tuple(self._set)

    def copied(self) -> Message:
        """Another one, with blobs shared."""
        found = Message(self.kind)
        for name, value in self._set.items():
            found._set[name] = [_copied(one) for one in value] if isinstance(value, list) else _copied(value)
        return found

    def merge(self, other: Message) -> None:
        """Take the other's fields: single ones replace, lists grow."""
        for name, value in other._set.items():
            if isinstance(value, list):
                self._set.setdefault(name, []).extend(value)
            elif isinstance(value, Message) and name in self._set:
                self._set[name].merge(value)
            else:
                self._set[name] = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Message) and self.kind == other.kind and self._set == other._set

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.kind}({', '.join(f'{name}={value!r}' for name, value in self._set.items())})"


def _copied(value: Any) -> Any:
    return value.copied() if isinstance(value, Message) else copy.copy(value) if isinstance(value, list) else value


def _field(message: Message, name: str) -> Field:
    try:
        return MESSAGES[message.kind][name]
    except KeyError:
        raise AttributeError(f"{message.kind} has no field {name}") from None
