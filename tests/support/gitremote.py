"""A real bare repository on disk, made and inspected with the `git` program alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from reconciler.git.remote import DirectoryRemote, RemoteUnreachableError

_ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Dev",
    "GIT_AUTHOR_EMAIL": "dev@example.org",
    "GIT_COMMITTER_NAME": "Dev",
    "GIT_COMMITTER_EMAIL": "dev@example.org",
    "LC_ALL": "C",
}


def git(directory: Path, *words: str, data: bytes | None = None) -> str:
    """Run `git` in a directory; what it printed."""
    done = subprocess.run(
        ["git", "-C", str(directory), *words],
        input=data,
        capture_output=True,
        check=False,
        env=_ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


class GitRemote:
    """A bare repository at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.exists():
            path.mkdir(parents=True)
            git(path, "init", "--quiet", "--bare", "--initial-branch=main", ".")

    @property
    def url(self) -> str:
        return self.path.as_uri()

    def tip(self, branch: str = "main") -> str | None:
        found = git(
            self.path, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}"
        ).strip()
        return found or None

    def commit(
        self, files: dict[str, str | bytes | None], *, branch: str = "main", orphan: bool = False
    ) -> str:
        """Commit edits (None removes a file) on top of a branch; the commit's id."""
        parent = None if orphan else self.tip(branch)
        stream = [f"commit refs/heads/{branch}\n".encode()]
        if orphan:
            stream = [f"reset refs/heads/{branch}\n".encode(), *stream]
        stream.append(b"committer Dev <dev@example.org> 1795000000 +0000\ndata 7\nchange\n\n")
        if parent:
            stream.append(f"from {parent}\n".encode())
        for path, text in files.items():
            if text is None:
                stream.append(f"D {path}\n".encode())
            else:
                data = text.encode() if isinstance(text, str) else text
                stream.append(f"M 100644 inline {path}\ndata {len(data)}\n".encode() + data + b"\n")
        git(self.path, "fast-import", "--quiet", "--force", data=b"".join(stream))
        tip = self.tip(branch)
        assert tip is not None
        return tip

    def roll_back(self, commit: str, *, branch: str = "main") -> None:
        """Put a branch back."""
        git(self.path, "update-ref", f"refs/heads/{branch}", commit)

    def hook(self, script: str, *, name: str = "pre-receive") -> None:
        """Install a hook."""
        path = self.path / "hooks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("#!/bin/sh\n" + script)
        path.chmod(0o755)

    def unhook(self, *, name: str = "pre-receive") -> None:
        (self.path / "hooks" / name).unlink()

    def hide(self) -> None:
        """Take the repository away, as an unreachable server is."""
        self.path.rename(self.path.with_suffix(".away"))

    def show(self) -> None:
        """Bring it back."""
        self.path.with_suffix(".away").rename(self.path)

    def log(self, branch: str, form: str = "%s") -> list[str]:
        """`git log` of a branch, newest first, one entry for each commit."""
        return git(self.path, "log", "-z", f"--format={form}", branch).rstrip("\0\n").split("\0")

    def files(self, branch: str) -> list[str]:
        return git(self.path, "ls-tree", "-r", "--name-only", branch).splitlines()

    def read(self, branch: str, path: str) -> str:
        return git(self.path, "show", f"{branch}:{path}")


def fsck(directory: Path) -> None:
    """Fail unless `git fsck` finds every object sound and in place."""
    git(directory, "fsck", "--strict", "--full", "--no-dangling", "--no-progress")


class FlakyRemote:
    """The real remote, failing on request: before an operation, or after it has happened."""

    def __init__(self) -> None:
        self.inner = DirectoryRemote()
        self.fetches = 0
        self.pushes = 0
        self.before_push = lambda: None
        self.after_push = lambda result: result
        self.fail_fetch = False

    def fetch(self, clone, *, url, ref):
        self.fetches += 1
        if self.fail_fetch:
            raise RemoteUnreachableError("fetch: away")
        return self.inner.fetch(clone, url=url, ref=ref)

    def push(self, clone, *, url, commit, ref, expected):
        self.pushes += 1
        self.before_push()
        return self.after_push(
            self.inner.push(clone, url=url, commit=commit, ref=ref, expected=expected)
        )
