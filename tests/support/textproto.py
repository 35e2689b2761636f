"""A reader of the text form of protocol buffers, without descriptors.

A message becomes `{field: [values in order]}`; every field is a list, because only a descriptor knows which are
repeated. Strings are bytes (the caller knows whether they are text), numbers int or float, words `Word`.
Source: protobuf.dev, "Text Format Language Specification"; left out is what no file here has (groups, `;`).
"""

import re

TOKEN = re.compile(
    r"""(?P<space>(?:[ \t\r\n]|\#[^\n]*)+)
    |(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<float>-?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][+-]?\d+)?[fF]?)
    |(?P<int>-?(?:0[xX][0-9a-fA-F]+|\d+))
    |(?P<word>-?[A-Za-z_][A-Za-z0-9_]*)
    |(?P<any>\[[A-Za-z0-9_./-]+\])
    |(?P<mark>[{}:<>,\[\];])""",
    re.VERBOSE,
)
SIMPLE = {
    b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v",
    b"\\": b"\\", b"'": b"'", b'"': b'"', b"?": b"?",
}  # fmt: skip
ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))"
)


class Word(str):
    """A name that is no string: an enum's value, `true`, `inf`."""

    __slots__ = ()


def parse(text):
    """Read one message."""
    tokens = []
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"no text proto at {text[at : at + 40]!r}")
        if found.lastgroup != "space":
            tokens.append((found.lastgroup, found[0]))
        at = found.end()
    tokens.append(("end", ""))
    message, at = _fields(tokens, 0, "end")
    return message


def _fields(tokens, at, end):
    fields = {}
    while tokens[at][1] != end and tokens[at][0] != end:
        kind, name = tokens[at]
        if kind not in ("word", "any"):
            raise ValueError(f"a field's name was expected, found {name!r}")
        at += 1
        if tokens[at][1] == ":":
            at += 1
        if tokens[at][1] == "[":
            at += 1
            while tokens[at][1] != "]":
                value, at = _value(tokens, at)
                fields.setdefault(name, []).append(value)
                if tokens[at][1] == ",":
                    at += 1
            at += 1
        else:
            value, at = _value(tokens, at)
            fields.setdefault(name, []).append(value)
        if tokens[at][1] in (",", ";"):
            at += 1
    return fields, at + 1


def _value(tokens, at):
    kind, text = tokens[at]
    if text in ("{", "<"):
        return _fields(tokens, at + 1, "}" if text == "{" else ">")
    if kind == "string":
        value = b""
        while tokens[at][0] == "string":
            value += ESCAPE.sub(_unescape, tokens[at][1][1:-1].encode())
            at += 1
        return value, at
    if kind == "float":
        return float(text.rstrip("fF")), at + 1
    if kind == "int":
        return _int(text), at + 1
    if kind == "word":
        return Word(text), at + 1
    raise ValueError(f"a value was expected, found {text!r}")


def _int(text):
    digits = text.lstrip("-")
    base = 16 if digits[:2].lower() == "0x" else 8 if len(digits) > 1 and digits[0] == "0" else 10
    return int(text, base)


def _unescape(found):
    octal, hexadecimal, short, long, simple = found.groups()
    if octal:
        return bytes([int(octal, 8)])
    if hexadecimal:
        return bytes([int(hexadecimal, 16)])
    if short or long:
        return chr(int(short or long, 16)).encode()
    return SIMPLE[simple]
