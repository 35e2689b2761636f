"""What the README quotes, and whether it is what is really printed."""

from __future__ import annotations

import re
from itertools import groupby

from tests.support.command import ROOT

CUT = "…"


def blocks(language=""):
    """The fenced blocks of the README in a language, as lists of lines; without one, those in none."""
    found, block = [], None
    for line in (ROOT / "README.md").read_text().splitlines():
        if not line.startswith("```"):
            if block is not None:
                block.append(line)
        elif block is None:
            block, is_wanted = [], line == f"```{language}"
        else:
            found += [block] if is_wanted else []
            block = None
    return found


def plain(line):
    """A line without what differs from run to run: numbers, digests, the width of columns."""
    line = re.sub(r"\b[0-9a-f]{40}\b", "HASH", line)
    line = re.sub(r"\d+(\.\d+)?", "N", line)
    line = re.sub(r"N (B|KiB|MiB)", "N SIZE", line)
    return " ".join(line.split())


def ordered(lines):
    """Captures of a pass end in any order: those that follow each other are sorted."""
    found = []
    for is_capture, group in groupby(lines, key=lambda line: line.startswith("✔")):
        found += sorted(group) if is_capture else group
    return found


def missing(block, printed):
    """The first line of a block that is not printed where it should be: right after the one before, unless cut."""
    said = ordered([text for line in printed.splitlines() if (text := plain(line))])
    place, is_free = 0, True
    for line in ordered([text for line in block if (text := plain(line))]):
        if line == CUT:
            is_free = True
            continue
        found = [i for i in range(place, len(said)) if said[i] == line] if is_free else [place]
        if not found or said[found[0]] != line:
            return line
        place, is_free = found[0] + 1, False
    return None
