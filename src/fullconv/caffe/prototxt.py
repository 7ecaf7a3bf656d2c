"""Read prototxt, the text form of Caffe's messages. Road: caffe, from a text to a Message.

Takes what protobuf's TextFormat takes, and refuses what it refuses: unknown fields, second values of a field that is
not repeated, numbers of another kind. Knows no torch.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from fullconv.base.errors import CaffeError
from fullconv.caffe.message import Message
from fullconv.caffe.schema import ENUMS, MESSAGES, Field

_TOKEN = re.compile(
    r"""(?P<space>(?:\s++|\#[^\n]*+)++)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?[fF]?|\d+[eE][+-]?\d+[fF]?|\d+[fF](?!\w))
    |(?P<int>0[xX][0-9a-fA-F]+|\d+)
    |(?P<string>"(?:[^"\\\n]++|\\.)*+"|'(?:[^'\\\n]++|\\.)*+')
    |(?P<symbol>[{}<>\[\]:;,-])""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_RANGES = {"int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "int64": (-(2**63), 2**63 - 1)}
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")  # bytes that no text has
_TRUE, _FALSE = ("true", "True", "t"), ("false", "False", "f")
_MOST_TEXT = 8 << 20  # bytes; the largest nets have some 300 KB
_MOST_WORDS = 1 << 19
_LONGEST = 1000  # letters of what an error shows
_DIGITS = 100  # of a whole number, zeros in front and all


class Token(NamedTuple):
    """A word of a prototxt and where it stands, counted from 1."""

    kind: str
    text: str
    line: int
    column: int


def read_prototxt(path: Path, kind: str = "NetParameter") -> Message:
    """Read a file.

    Args:
        kind: the message that it holds: "NetParameter" or "SolverParameter".
    Raises: CaffeError with line and column, as `parse_prototxt` does; or if there is no such file, or it is no text.
    """
    return parse_prototxt(read_text(path), kind, of=str(path))


def read_text(path: Path) -> str:
    """A prototxt's text: UTF-8, or else Latin-1, as comments are in old files. Raises: CaffeError if it is none."""
    try:
        if path.stat().st_size > _MOST_TEXT:
            raise CaffeError(f"a prototxt has at most {_MOST_TEXT >> 20} MB", f"{path} has more", f"ls -l {path}")
        if path.exists() and not path.is_file():
            raise CaffeError("a prototxt is a file", f"{path} is a folder, pipe or device", "check the path")
        data = path.read_bytes()
    except OSError as error:
        raise CaffeError("a prototxt can be read", f"{path}: {error.strerror}", "check the path") from None
    if data.startswith(_MARKS):
        raise CaffeError("a prototxt is UTF-8", f"{path} begins with a byte order mark", "save it as UTF-8 without one")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        if _CONTROL.search(data):
            raise CaffeError(
                "a prototxt is text",
                f"{path} is not; is it a .caffemodel?",
                "give the .prototxt first, then the weights",
            ) from None
    return data.decode("latin-1")


def parse_prototxt(text: str, kind: str = "NetParameter", *, of: str = "prototxt") -> Message:
    """Read a text.

    Args:
        of: what the text is called in errors.
    Raises: CaffeError with line and column.
    """
    reader = _Reader(text, of)
    found = reader.message(kind, end=None)
    return found


class _Reader:
    """Reads one text; `self.token` is the next word."""

    def __init__(self, text: str, of: str) -> None:
        self.of = of
        self.words = _tokens(text, of)
        self.token = next(self.words)

    # ---- messages ----

    def message(self, kind: str, *, end: str | None) -> Message:
        found = Message(kind)
        while not self._take(end):
            if self.token.kind == "end":
                self._fail(f"'{end}' closes {kind}", "the text ends")
            self._field(found)
        missing = [one.name for one in MESSAGES[kind].values() if one.required and not found.has(one.name)]
        if missing:
            self._fail(f"{kind} has {' and '.join(missing)}", "it has not")
        return found

    def _field(self, into: Message) -> None:
        at = self.token
        if at.kind != "name":
            self._fail("a field's name stands here", repr(at.text))
        field = MESSAGES[into.kind].get(at.text)
        if field is None:
            near = difflib.get_close_matches(at.text[:100], MESSAGES[into.kind], 3, 0.6)
            hint = (
                f"did you mean {' or '.join(near)}?" if near else "forks of Caffe have fields that BVLC Caffe has not"
            )
            self._fail(f"{into.kind} has a field '{at.text}'", "it has none of that name", hint)
        self._next()
        if field.is_message:
            self._take(":")
        elif not self._take(":"):
            self._fail(f"':' follows '{field.name}'", repr(self.token.text))
        if field.repeated and self._take("["):
            into.add(field.name, self._value(field)) if not self._is("]") else None
            while not self._take("]"):
                if not self._take(","):
                    self._fail("',' or ']' goes on with the list", repr(self.token.text))
                into.add(field.name, self._value(field))
        elif field.repeated:
            into.add(field.name, self._value(field))
        elif into.has(field.name):
            self._fail(f"'{field.name}' is given once", "it is there a second time", at=at)
        else:
            setattr(into, field.name, self._value(field))
        if self._is(";", ","):
            self._next()

    # ---- values ----

    def _value(self, field: Field) -> Any:
        if field.is_message:
            for opens, closes in (("{", "}"), ("<", ">")):
                if self._take(opens):
                    return self.message(field.kind, end=closes)
            self._fail(f"'{{' opens '{field.name}'", repr(self.token.text))
        if field.kind in ("string", "bytes"):
            return self._string(field)
        if field.is_enum:
            return self._enum(field)
        if field.kind == "bool":
            return self._bool(field)
        return self._float(field) if field.kind in ("float", "double") else self._int(field.name, *_RANGES[field.kind])

    def _string(self, field: Field) -> str | bytes:
        if self.token.kind != "string":
            self._fail(f"'{field.name}' is a quoted string", repr(self.token.text), f'{field.name}: "..."')
        begin = self.token
        parts = []
        while self.token.kind == "string":
            parts.append(_ESCAPE.sub(_unescaped, self._next().text[1:-1].encode()))
        whole = b"".join(parts)
        if len(whole) > field.longest:
            self._fail(f"'{field.name}' has at most {field.longest} bytes", f"{len(whole)} bytes", at=begin)
        if b"\0" in whole:
            self._fail(f"'{field.name}' has no zero bytes", repr(whole), at=begin)
        return whole if field.kind == "bytes" else whole.decode("utf-8", "replace")

    def _enum(self, field: Field) -> str:
        names = ENUMS[field.kind]
        if self.token.kind == "name":
            if self.token.text not in names:
                self._fail(f"'{field.name}' is one of {', '.join(names)}", repr(self.token.text))
            return self._next().text
        number = self._int(field.name, *_RANGES["int32"])
        by_number = {value: name for name, value in names.items()}
        if number not in by_number:
            self._fail(f"'{field.name}' is one of {', '.join(map(str, by_number))}", str(number))
        return by_number[number]

    def _bool(self, field: Field) -> bool:
        if self.token.kind == "int":
            return bool(self._int(field.name, 0, 1))
        if self.token.text not in (*_TRUE, *_FALSE) or self.token.kind != "name":
            self._fail(f"'{field.name}' is true or false", repr(self.token.text))
        return self._next().text in _TRUE

    def _int(self, name: str, low: int, high: int) -> int:
        negative = low < 0 and self._take("-")
        if self.token.kind != "int":
            self._fail(f"'{name}' is a whole number" + (" from 0 on" if low == 0 else ""), repr(self.token.text))
        text = self.token.text
        if len(text) > _DIGITS:
            self._fail(f"'{name}' is from {low} to {high}", text)
        try:
            octal = len(text) > 1 and text.isdigit() and text[0] == "0"
            number = int(text, 8) if octal else int(text, 0)
        except ValueError:
            self._fail(f"'{name}' is a whole number; what begins with 0 is octal", repr(text))
        number = -number if negative else number
        if not low <= number <= high:
            self._fail(f"'{name}' is from {low} to {high}", str(number))
        self._next()
        return number

    def _float(self, field: Field) -> float:
        sign = -1.0 if self._take("-") else 1.0
        kind, text = self.token.kind, self.token.text
        if kind == "int" and (text == "0" or text[0] != "0"):
            value = float(text)
        elif kind == "float":
            value = float(text.rstrip("fF"))
        elif kind == "name" and text.lower() in ("inf", "infinity", "nan"):
            value = float(text)
        else:
            self._fail(f"'{field.name}' is a number", repr(text))
        self._next()
        return sign * value

    # ---- words ----

    def _next(self) -> Token:
        last, self.token = self.token, next(self.words)
        return last

    def _is(self, *symbols: str) -> bool:
        return self.token.kind == "symbol" and self.token.text in symbols

    def _take(self, symbol: str | None) -> bool:
        """Step over a symbol if it stands here; None is the end of the text."""
        here = self.token.kind == "end" if symbol is None else self._is(symbol)
        if here and symbol is not None:
            self._next()
        return here

    def _fail(
        self, must: str, found: str, try_: str = "mend that line of the file", at: Token | None = None
    ) -> NoReturn:
        at = at or self.token
        where = f"{self.of}, line {at.line}, column {at.column}"
        raise CaffeError(_short(must), f"{where}: {_short(found or 'nothing')}", try_)


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def _tokens(text: str, of: str) -> Iterator[Token]:
    place, line, begin, words = 0, 1, 0, 0
    before = ""  # the kind of the word that ends right here
    while place < len(text):
        match = _TOKEN.match(text, place)
        column = place - begin + 1
        kind = match.lastgroup if match else None
        if match is None or kind is None or (kind == "name" and before in ("int", "float")):
            raise CaffeError(
                "a prototxt is made of names, numbers, quoted strings and { } < > [ ] : ; , -",
                f"{of}, line {line}, column {column}: {text[place : place + 20]!r}",
                "mend that line of the file",
            )
        word = match.group()
        if kind != "space":
            words += 1
            if words > _MOST_WORDS:
                raise CaffeError(f"a prototxt has at most {_MOST_WORDS} words", f"{of} has more", "check the file")
            yield Token(kind, word, line, column)
        before = kind
        if newlines := word.count("\n"):
            line += newlines
            begin = place + word.rindex("\n") + 1
        place = match.end()
    while True:
        yield Token("end", "", line, place - begin + 1)


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, short, long, letter = match.groups()
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    if hexadecimal is not None:
        return bytes([int(hexadecimal, 16)])
    if short is not None or long is not None:
        return chr(min(int(short or long, 16), 0x10FFFF)).encode("utf-8", "replace")
    return _LETTERS.get(letter, letter)
