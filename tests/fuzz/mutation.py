"""Inputs made from others: a few changes at random places, to bytes and to the pieces that a form is made of.

A parser of a text form sees little of inputs whose bytes alone were changed: they fail at its first test. So pieces are
moved, too: elements, attributes and texts of XML, values of JSON, cells, the DER inside base64.
"""

import base64
import binascii
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LONGEST = 48 * 1024
"""Bytes; longer inputs show little more and cost their time."""
_MOST_CHANGES = 5
_NUMBERS = (
    b"0",
    b"1",
    b"-1",
    b"00",
    b"255",
    b"256",
    b"65536",
    b"2147483648",
    b"4294967296",
    b"9999999999",
    b"1e999",
    b"1" * 400,
    "٣".encode(),
    b"1.5",
    b"NaN",
)
_ODD = (
    b"",
    b" ",
    b"\0",
    b"\r\n",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xe2\x80\xae",
    b"\x1b[2J",
    b"%00",
    b"A" * 5000,
    "é".encode(),
    "\U0001d518".encode(),
    b"../",
    b"'",
    b'"',
    b"&",
    b"<",
    b"\\",
    b"0001-01-01T00:00:00+14:00",
    b"9999-12-31T23:59:59-14:00",
    b"2026-02-30",
    b"2026-11-25",
)
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}[A-Za-z0-9+/\s]*={0,2}")
_NUMBER = re.compile(rb"\d+")


@dataclass(frozen=True, slots=True)
class Form:
    """What a kind of input is made of: patterns of its pieces, and values to put in place of one."""

    pieces: tuple[re.Pattern[bytes], ...] = (re.compile(rb"\S+"),)
    values: tuple[bytes, ...] = ()
    holds_base64: bool = False


PLAIN = Form()
XML = Form(
    (
        re.compile(rb"<([\w:.-]+)(?:\s[^<>]*)?>[^<>]*</\1\s*>", re.DOTALL),
        re.compile(rb"<([\w:.-]+)(?:\s[^<>]*)?>.*?</\1\s*>", re.DOTALL),
        re.compile(rb"<[^<>]*>"),
        re.compile(rb'\s[\w:.-]+\s*=\s*(?:"[^"<]*"|\'[^\'<]*\')'),
        re.compile(rb'(?<==")[^"<>]*(?=")'),
        re.compile(rb"(?<=>)[^<>]+(?=<)"),
    ),
    (
        b"<!-- a comment -->",
        b"<?a b?>",
        b"<![CDATA[<a>&]]>",
        b"&#13;",
        b"&#x0;",
        b"&a;",
        b"<a/>",
        b' Id="a"',
        b' id="a"',
        b' xmlns="urn:a"',
        b' xmlns:a="urn:a"',
        b' xmlns=""',
        b' xmlns:a="a&amp;b"',
        b' xmlns:a="relative"',
        b"a:b",
        b'<!DOCTYPE a [<!ENTITY b "c">]>',
        b'<?xml version="1.1"?>',
        b'<?xml version="1.0" encoding="UTF-16"?>',
        b' xml:id="a"',
        b' xsi:type="a:b"',
        b"E2014",
        b"true",
        b"http://www.w3.org/2000/09/xmldsig#sha1",
    ),
    holds_base64=True,
)
JSON = Form(
    (
        re.compile(rb'"[\w.-]+"\s*:\s*(?:"[^"]*"|[\w.+-]+|\{[^{}]*\}|\[[^\[\]]*\])'),
        re.compile(rb'"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|true|false|null'),
        re.compile(rb"\{[^{}]*\}|\[[^\[\]]*\]"),
        re.compile(rb"[{}\[\]:,]"),
    ),
    (
        b"null",
        b"true",
        b"[]",
        b"{}",
        b'""',
        b'"\\u0000"',
        b'"\\ud800"',
        b'"\\u001b"',
        b"[[[[",
        b'{"a":1,"a":2}',
        b"1e400",
        b"-0",
        b"NaN",
        b"Infinity",
        b'"x"',
        b'{"a":',
        b"0.1",
        b'"file:///etc/passwd"',
    ),
)
TABLE = Form(
    (re.compile(rb"[^\n]*\n"), re.compile(rb'(?<=,)(?:"[^"]*"|[^,\n]*)(?=,)'), re.compile(rb"[\w.-]+")),
    (
        b"",
        b'"',
        b'""',
        b'"a\nb"',
        b",",
        b"\n",
        b"true",
        b"0.005",
        b"-1",
        b"1e9",
        b"=1+1",
        b"2026-11-25",
        b"\xef\xbb\xbf",
    ),
)
TOML = Form(
    (re.compile(rb"[^\n]*\n"), re.compile(rb'"[^"\n]*"|(?<== )[^\n]+'), re.compile(rb"\[+[^\[\]]*\]+")),
    (
        b"true",
        b"0",
        b"-1",
        b"1.5",
        b"inf",
        b"nan",
        b"[]",
        b"{}",
        b'""',
        b'"PT0S"',
        b'"-P1D"',
        b'"https://["',
        b"1979-05-27",
    ),
)
DER = Form(
    (re.compile(rb"[\x00-\x06\x0c\x13\x17\x30\x31\xa0-\xa3][\x00-\x40]", re.DOTALL),),
    (b"\x30\x80", b"\0\0", b"\xa0\x80"),
)


def mutated(data: bytes, others: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    """A few changes to `data`; what is borrowed comes from `others`."""
    for _ in range(chance.randint(1, _MOST_CHANGES)):
        data = _changed(data, others, form, chance)[:LONGEST]
    return data


def _changed(data: bytes, others: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    kind = chance.random()
    if form.holds_base64 and kind < 0.15:
        return _in_base64(data, others, chance)
    if kind < 0.7:
        return chance.choice(_OF_PIECES)(data, others, form, chance)
    return _of_bytes(data, chance)


def _in_base64(data: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """One change to what is encoded: keys, certificates, digests. Half of them leave every length in it as it is."""
    start, end = _piece(data, (_BASE64,), chance)
    try:
        inside = base64.b64decode(b"".join(data[start:end].split()), validate=True)
    except binascii.Error:
        return data
    changed = _in_place(inside, chance) if chance.random() < 0.5 else _changed(inside, others, DER, chance)
    return data[:start] + base64.b64encode(changed) + data[end:]


def _in_place(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return data
    place = chance.randrange(len(data))
    return data[:place] + bytes((chance.randrange(256),)) + data[place + 1 :]


def _of_bytes(data: bytes, chance: random.Random) -> bytes:
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((1, 1, 1, 2, 4, 16, 200)))
    match chance.randrange(7):
        case 0:
            made = bytes((chance.randrange(256),))
        case 1:
            made = b""
        case 2:
            made = chance.choice(_ODD) + data[start:end]
        case 3:
            end, made = len(data), b""
        case 4:
            made = data[start:end] * chance.choice((2, 3, 50))
        case 5:
            start, end = _piece(data, (_NUMBER,), chance)
            made = chance.choice(_NUMBERS)
        case _:
            made = bytes(one ^ 1 << chance.randrange(8) for one in data[start:end])
    return data[:start] + made + data[end:]


_Change = Callable[[bytes, Sequence[bytes], Form, random.Random], bytes]


def _left_out(data: bytes, _: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    start, end = _piece(data, form.pieces, chance)
    return data[:start] + data[end:]


def _moved(data: bytes, _: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    start, end = _piece(data, form.pieces, chance)
    rest = data[:start] + data[end:]
    place = _piece(rest, form.pieces, chance)[chance.randrange(2)]
    return rest[:place] + data[start:end] + rest[place:]


def _doubled(data: bytes, _: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    start, end = _piece(data, form.pieces, chance)
    times = chance.choice((1, 1, 1, 1, 3, 60, 300))
    return data[:end] + data[start:end] * times + data[end:]


def _wrapped(data: bytes, _: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    """A piece put around another: `<a>` before, and whatever ends there after."""
    start, end = _piece(data, form.pieces, chance)
    first, last = _piece(data, form.pieces, chance)
    return data[:start] + data[first:last] + data[start:end] + data[first:last] + data[end:]


def _replaced(data: bytes, _: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    start, end = _piece(data, form.pieces, chance)
    return data[:start] + chance.choice((*form.values, *_ODD)) + data[end:]


def _inserted(data: bytes, _: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    place = _piece(data, form.pieces, chance)[chance.randrange(2)]
    return data[:place] + chance.choice((*form.values, *_ODD)) + data[place:]


def _borrowed(data: bytes, others: Sequence[bytes], form: Form, chance: random.Random) -> bytes:
    start, end = _piece(data, form.pieces, chance)
    other = chance.choice(others) if others else data
    first, last = _piece(other, form.pieces, chance)
    return data[:start] + other[first:last] + data[chance.choice((start, end)) :]


_OF_PIECES: tuple[_Change, ...] = (_left_out, _moved, _doubled, _wrapped, _replaced, _inserted, _borrowed)


def _piece(data: bytes, patterns: Sequence[re.Pattern[bytes]], chance: random.Random) -> tuple[int, int]:
    """Where some piece begins and ends; nothing, at a random place, where there is none."""
    place = chance.randint(0, len(data))
    pattern = chance.choice(patterns)
    found = pattern.search(data, place) or pattern.search(data)
    return found.span() if found is not None else (place, place)
