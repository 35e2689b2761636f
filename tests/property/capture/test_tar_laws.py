"""Laws of reading archives and of feeding several readers."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.capture.fanout import fan_out
from reconciler.capture.tarstream import ArchiveError, TarReader
from reconciler.errors import TerminalError, TransientError

names = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=150
).filter(lambda n: n not in (".", ".."))
files = st.dictionaries(names, st.binary(max_size=3000), max_size=8)


def pack(contents, form):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, data in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


@settings(max_examples=60, deadline=None)
@given(
    contents=files,
    form=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    piece=st.integers(1, 5000),
)
def test_reading_gives_back_what_was_packed(contents, form, piece):
    """For any names and bytes, in any cut: the same names, the same bytes."""
    data = pack(contents, form)
    reader = TarReader(data[at : at + piece] for at in range(0, len(data), piece))

    assert {e.path: b"".join(e.content()) for e in reader} == contents


@settings(max_examples=60, deadline=None)
@given(contents=files.filter(bool), share=st.floats(0, 0.99))
def test_a_prefix_is_never_whole(contents, share):
    """Any prefix that lacks the end mark is an error."""
    data = pack(contents, tarfile.PAX_FORMAT)
    end = len(data.rstrip(b"\0"))

    with pytest.raises(ArchiveError):
        for entry in TarReader(iter([data[: int(end * share)]])):
            for _ in entry.content():
                pass


@settings(max_examples=40, deadline=None)
@given(pieces=st.lists(st.binary(max_size=50), max_size=40), readers=st.integers(1, 4))
def test_every_reader_sees_every_byte(pieces, readers):
    """All readers get the source's bytes, in order."""
    assert fan_out(iter(pieces), [b"".join] * readers) == [b"".join(pieces)] * readers


@pytest.mark.parametrize("others", [0, 1, 3])
def test_a_reader_that_fails_does_not_stop_the_others(others):
    """Its error is its result; more pieces than the queue holds still reach the rest."""

    def broken(pieces):
        next(pieces)
        raise TerminalError("full")

    results = fan_out(iter([b"x"] * 100), [broken, *[lambda got: sum(map(len, got))] * others])

    assert isinstance(results[0], TerminalError)
    assert results[1:] == [100] * others


@pytest.mark.parametrize("count", [1, 2])
def test_a_source_that_fails_fails_everywhere(count):
    """No reader takes a broken source for a short one, and the source's error comes out."""
    finished = []

    def source():
        yield b"x"
        raise TransientError("cut")

    def reader(pieces):
        finished.append(b"".join(pieces))

    with pytest.raises(TransientError, match="cut"):
        fan_out(source(), [reader] * count)
    assert finished == []


def test_a_bug_in_a_reader_is_not_a_result():
    """An unexpected error comes out as it is."""

    def bug(pieces):
        raise KeyError("x")

    with pytest.raises(KeyError):
        fan_out(iter([b"x"]), [bug, b"".join])
