"""Files made to hurt: each is answered quickly, with findings, in bounded memory."""

from __future__ import annotations

import time

import pytest

from reconciler.kinds.document import DEPTH_MAX, NODES_MAX, read_documents
from reconciler.kinds.loader import FILE_BYTES_MAX, load

OURS = "apiVersion: backup.reconciler.dev/v1alpha1\nkind: TransformSet\nmetadata: {name: a}\nspec:\n  params:\n    x: "
SIZE = FILE_BYTES_MAX - len(OURS) - 1
LAUGHS = (
    "apiVersion: backup.reconciler.dev/v1alpha1\nkind: Hold\na: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
)


def nested(opening: str, closing: str, depth: int) -> str:
    return opening * depth + closing * depth


@pytest.mark.parametrize(
    "text",
    [
        "[" * SIZE,
        "{a: " * (SIZE // 4),
        "- " * (SIZE // 2),
        "? " * (SIZE // 2),
        "- ? " * (SIZE // 4),
        "[" + "a," * (SIZE // 2 - 1),
        "[" + "{}," * (SIZE // 3 - 1) + "]",
        "a: [" * (SIZE // 4),
        "&a " * (SIZE // 3),
        "!" * SIZE,
        "*" * SIZE,
        '"' + "\\n" * (SIZE // 2 - 2) + '"',
        "'" * SIZE,
        "9" * SIZE,
        "-" * SIZE,
        "0x" + "f" * (SIZE - 2),
        "1." * (SIZE // 2),
        "#" * SIZE,
        "|\n" + "      a\n" * (SIZE // 8),
        "a\n" + "--- a\n" * (SIZE // 6),
        "a\n" + "%a\n" * (SIZE // 3),
        "a\n" + ("%a\n" * 10 + "---\n") * (SIZE // 34),
        "a\n" + "...\n" * (SIZE // 4),
        "\n" + "\n".join(" " * n + "a:" for n in range(6, 700)),
        "\n" + "".join(f"      k{n}: v\n" for n in range(SIZE // 16)),
        "\n" + "      a: b\n" * (SIZE // 11),
        nested("[", "]", 900),
        nested("{a: ", "}", 900),
        "{" * (SIZE // 2) + "}" * (SIZE // 2),
        "\u2028" * (SIZE // 3),
        "\r" * SIZE,
        "\t" * SIZE,
        "\ufeff" * (SIZE // 3),
    ],
    ids=lambda text: repr(text[:6]),
)
def test_a_file_of_the_largest_size_is_answered_within_seconds(text):
    """No 256 KiB file takes more than a few seconds or raises, whatever it is made of."""
    started = time.monotonic()

    loaded = load("p.yaml", (OURS + text).encode()[:FILE_BYTES_MAX])

    assert time.monotonic() - started < 60
    assert len(loaded.findings) <= 201


def test_a_bomb_of_aliases_stays_a_few_findings():
    """Aliases are refused where they stand and never followed."""
    loaded = load("p.yaml", LAUGHS.encode())

    assert loaded.manifests == ()
    assert {f.rule for f in loaded.findings} == {"alias", "unknown-field", "missing-field"}
    assert len(loaded.findings) <= 201


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_the_depth_is_bounded_to_the_level(opening, closing):
    """64 levels are read, 65 are a fault; blocks and flows alike."""
    fits = read_documents(nested(opening, closing, DEPTH_MAX))[0]
    assert fits.faults == ()

    (fault,) = read_documents(nested(opening, closing, DEPTH_MAX + 1))[0].faults
    assert fault.message == "deeper than 64 levels"

    block = "\n".join(" " * n + "a:" for n in range(DEPTH_MAX + 1)) + " 1"
    assert [f.message for f in read_documents(block)[0].faults] == ["deeper than 64 levels"]
    assert read_documents(block.rsplit("\n", 1)[0])[0].faults == ()


def test_the_number_of_values_is_bounded():
    """A document has at most 100,000 values."""
    fits = "[" + "a," * (NODES_MAX - 1) + "]"
    assert read_documents(fits)[0].faults == ()
    (fault,) = read_documents("[" + "a," * NODES_MAX + "]")[0].faults
    assert fault.rule == "size"


def test_what_lies_deep_does_not_hide_other_faults():
    """A branch that is too deep is left out; the rest of the document is checked."""
    deep = "\n".join(" " * n + "a:" for n in range(6, 80)) + " 1"

    loaded = load("p.yaml", (OURS + "\n" + deep + "\n  nonsense: 1\n").encode())

    assert {f.rule for f in loaded.findings} == {"depth", "unknown-field"}
