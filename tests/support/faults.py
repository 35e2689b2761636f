"""Every effect counted, and the process "killed" after any one of them.

`Effects` numbers the effects of a run in order. `Counting*` wrappers stand around the ports through which the product
changes the world: storage, cluster with the streams into its containers, the ledger's clone, its remote. With `crash_after=n` the n-th effect happens and then
`Crash` is raised — a BaseException, so no handler of the product can mistake it for an expected error. With
`kill=True` the process itself is killed by SIGKILL instead.
"""

from __future__ import annotations

import os
import signal
import threading


class Crash(BaseException):
    """The process is gone."""


class Effects:
    """Counts effects; after the one numbered `crash_after` nothing happens any more."""

    def __init__(self, *, crash_after=None, kill=False, meanwhile=None, at=None):
        self.crash_after = crash_after
        self.kill = kill
        self.meanwhile = meanwhile
        """Instead of a crash: what another process does right after that effect."""
        self.at = at
        """Instead of a number: the first effect of this name."""
        self.done: list[str] = []
        self._lock = threading.Lock()
        self._dead = False

    def check(self) -> None:
        """Nothing happens after a crash."""
        if self._dead:
            raise Crash

    def happened(self, name: str) -> None:
        """An effect has happened."""
        with self._lock:
            if self._dead:
                raise Crash
            self.done.append(name)
            if self.at is not None:
                is_due = self.done.count(self.at) == 1 and name == self.at
            else:
                is_due = len(self.done) == self.crash_after
            if not is_due:
                return
            if self.kill:
                os.kill(os.getpid(), signal.SIGKILL)
            if self.meanwhile is None:
                self._dead = True
                raise Crash(name)
        self.meanwhile()


class CountingStorage:
    """Storage whose writes are effects."""

    def __init__(self, inner, effects: Effects):
        self._inner = inner
        self._effects = effects

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def create(self, name, data):
        self._effects.check()
        self._inner.create(name, data)
        self._effects.happened(f"store.create {_shelf(name)}")

    def replace(self, name, data):
        self._effects.check()
        self._inner.replace(name, data)
        self._effects.happened(f"store.replace {_shelf(name)}")

    def delete(self, name):
        self._effects.check()
        self._inner.delete(name)
        self._effects.happened(f"store.delete {_shelf(name)}")


def _shelf(name: str) -> str:
    """`packs`, `index`, `points` or `sessions` of a domain; else the name's beginning."""
    parts = name.split("/")
    return parts[2] if parts[0] == "domains" else parts[0]


class CountingCluster:
    """A cluster whose writes are effects."""

    def __init__(self, inner, effects: Effects):
        self._inner = inner
        self._effects = effects

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def _effect(self, verb, kind, call):
        self._effects.check()
        result = call()
        self._effects.happened(f"cluster.{verb} {kind}")
        return result

    def create(self, kind, manifest, *, manager, dry_run=False):
        if dry_run:
            return self._inner.create(kind, manifest, manager=manager, dry_run=True)
        return self._effect(
            "create", kind.kind, lambda: self._inner.create(kind, manifest, manager=manager)
        )

    def replace(self, kind, manifest, *, manager, dry_run=False):
        if dry_run:
            return self._inner.replace(kind, manifest, manager=manager, dry_run=True)
        return self._effect(
            "replace", kind.kind, lambda: self._inner.replace(kind, manifest, manager=manager)
        )

    def patch(self, kind, name, body, **rest):
        return self._effect("patch", kind.kind, lambda: self._inner.patch(kind, name, body, **rest))

    def delete(self, kind, name, **rest):
        return self._effect("delete", kind.kind, lambda: self._inner.delete(kind, name, **rest))

    def execute(self, target, argv, *, stdin=False):
        self._effects.check()
        where = "claim" if target.pod.startswith("reconciler-claim-") else "service"
        session = CountingSession(
            self._inner.execute(target, argv, stdin=stdin), self._effects, where=where
        )
        try:
            self._effects.happened(f"cluster.exec {where}")
        except BaseException:
            session.close()
            raise
        return session


class CountingSession:
    """A stream whose pieces, on their way into a claim or a service, are effects."""

    def __init__(self, inner, effects: Effects, *, where):
        self._inner = inner
        self._effects = effects
        self._where = where

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def __enter__(self):
        self._inner.__enter__()
        return self

    def __exit__(self, *exc):
        return self._inner.__exit__(*exc)

    def send(self, chunk):
        self._effects.check()
        self._inner.send(chunk)
        self._effects.happened(f"stream.send {self._where}")

    def close_stdin(self):
        self._effects.check()
        self._inner.close_stdin()
        self._effects.happened(f"stream.end {self._where}")


class CountingClone:
    """A ledger's clone: what is written and which branch is moved are effects, named by the kind of record."""

    def __init__(self, inner, effects: Effects):
        self._inner = inner
        self._effects = effects
        self._subjects: dict[str, str] = {}

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def write(self, drafts, *, parent):
        self._effects.check()
        made = self._inner.write(drafts, parent=parent)
        words = [draft.message.partition("(")[0].split()[0].rstrip(":") for draft in drafts]
        self._subjects.update(zip(made, words, strict=True))
        self._effects.happened(f"ledger.write {words[-1]}")
        return made

    def move(self, ref, target, *, expected):
        self._effects.check()
        self._inner.move(ref, target, expected=expected)
        if not ref.startswith("refs/confirmed/"):
            self._effects.happened(f"ledger.commit {self._subjects.get(target, 'theirs')}")


class CountingRemote:
    """A Git remote whose pushes are effects."""

    def __init__(self, inner, effects: Effects):
        self._inner = inner
        self._effects = effects

    def fetch(self, clone, *, url, ref):
        self._effects.check()
        return self._inner.fetch(clone, url=url, ref=ref)

    def push(self, *argv, **rest):
        self._effects.check()
        result = self._inner.push(*argv, **rest)
        self._effects.happened("git.push")
        return result
