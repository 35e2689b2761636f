"""Our engine beside Kubernetes' own, as a MutatingAdmissionPolicy of 1.36 has it (`tests/cluster/parts/cel`).

The expressions are those of the library tests in the modules of Kubernetes and cel-go, and generated ones. Allowed is
only what `docs/limits.md` says: expressions that Kubernetes refuses to compile and we evaluate, and `format`.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from tests.cluster.node.build import module_folders, program
from tests.support import celgen, celgo

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(
        not program("cel").exists(),
        reason="Kubernetes' CEL is not built: python -c 'from tests.cluster.node.build import build; build([\"cel\"])'",
    ),
]
GENERATED = int(os.environ.get("RECONCILER_CEL_GENERATED", "3000"))
SEED = int(os.environ.get("RECONCILER_CEL_SEED", "1"))
CASE = re.compile(
    r'\bexpr:\s*(`[^`]*`|"(?:[^"\\]|\\.)*")|\{\s*(`[^`]*`|"(?:[^"\\]|\\.)*"),\s*(?:trueVal|falseVal|nil|intVal|"|types\.)'
)
REFUSED_THERE = (
    "found no matching overload",  # types that they check and we do not: ==, ?:, dyn that was guessed to be int
    "expected type",  # lists and maps of several types
    "undeclared reference",  # functions of ours
    "iteration variable overwrites accumulator",
)
GUESSED_THERE = re.compile(r"internal error|no such overload: (bytes|uint|double|max)\(|formatting")
"""Faults of calls on `dyn` that Kubernetes' checker took for another type, and of its older `format`."""
REFUSED_HERE = re.compile(
    r"no such overload: (\+ of (dyn|list), optional|optFlatMap of list)|more than 3 macros"
)
"""What is always wrong (a list and an optional added, `optFlatMap` without an optional), and loops too deep for us."""
DEAR = re.compile(r"\.sort(By)?\(|\.distinct\(\)|'(Europe|Asia)/|'[+-]\d\d:")
"""What costs more here: sorting a list of which nothing is known, a time zone that is read for the first time."""


def difference(text, theirs, given):
    """What differs and may not, and our answer."""
    ours = celgo.ours(text, given)
    words = theirs.get("error", "")
    if theirs["stage"] == "panic" or any(one in words for one in REFUSED_THERE):
        return "", ours
    if (theirs["stage"] == "value") != (ours["stage"] == "value"):
        is_known = GUESSED_THERE.search(words) or REFUSED_HERE.search(ours.get("error", ""))
        return ("" if is_known else f"{ours} beside {theirs}"), ours
    if json.loads(json.dumps(ours.get("value"))) != theirs.get("value"):
        return ("" if "format(" in text else f"{ours} beside {theirs}"), ours
    return "", ours


def library_cases():
    """The expressions of the tests in Kubernetes' and cel-go's libraries."""
    folders = module_folders("cel")
    found = []
    for folder in (
        Path(folders["k8s.io/apiserver"]) / "pkg/cel/library",
        Path(folders["github.com/google/cel-go"]) / "ext",
    ):
        for path in sorted(folder.glob("*_test.go")):
            for case in CASE.finditer(path.read_text()):
                text = case[1] or case[2]
                if text[0] == "`":
                    found.append(text[1:-1])
                else:
                    escaped = text.replace("\\a", "\\u0007").replace("\\v", "\\u000b")
                    found.append(json.loads(escaped.replace("\\x", "\\\\x")))
    return list(dict.fromkeys(found))


def test_the_cases_of_kubernetes_own_libraries():
    """Every expression of their tests gives the same value here, or an error in both."""
    texts = library_cases()
    answers = celgo.ask([(text, {}) for text in texts])
    wrong = {
        text: why
        for text, theirs in zip(texts, answers, strict=True)
        if (why := difference(text, theirs, {})[0])
    }
    assert wrong == {}
    assert sum(one["stage"] == "value" for one in answers) > 350


def test_generated_expressions():
    """Generated expressions give the same value or an error in both; of those with a value the cost is alike.

    `RECONCILER_CEL_GENERATED` and `RECONCILER_CEL_SEED` say how many and which.
    """
    maker = celgen.Maker(SEED)
    texts = [maker.expression() for _ in range(GENERATED)]
    texts = [text for text in texts if len(text.encode()) < 5000]
    answers = celgo.ask([(text, celgen.GIVEN) for text in texts])
    wrong, dear, stages = {}, {}, Counter()
    for text, theirs in zip(texts, answers, strict=True):
        why, ours = difference(text, theirs, celgen.GIVEN)
        if why:
            wrong[text] = why
        stages[ours["stage"], theirs["stage"]] += 1
        if ours["stage"] == theirs["stage"] == "value" and not DEAR.search(text):
            low, high = sorted((ours["cost"], theirs["cost"]))
            if high + 5 > 2 * (low + 5):
                dear[text] = (ours["cost"], theirs["cost"])
    print(stages, "cost not within twice:", len(dear), "least used:", min(maker.used.values()))
    assert wrong == {}
    assert stages["value", "value"] >= 0.6 * len(texts)
    assert len(dear) <= 0.01 * len(texts), dear
