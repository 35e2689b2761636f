"""A world whose application has contents: files in a claim that nobody mounts, rows of a data service in another.

Containers are real processes, so that claims are filled and contents loaded by the streams that the product uses.
What lies in the claims is read and written on disk, past the cluster, by who checks it.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from pathlib import Path

from reconciler.blueprint.pods import is_ready
from reconciler.cluster import claimpod
from reconciler.kinds.writer import to_yaml
from reconciler.store.content import open_store
from tests.support.service import kv_blueprint, stateful_set
from tests.support.shop import CLAIM
from tests.support.world import PASSPHRASE, World

PAGES, ROWS = "pages", "data-kv-0"
FILES = {"home": b"welcome", "sub/a b": b"deep" * 5000}
TABLE = {"table": b"a=1\nb=2\n"}
PATIENCE = 1500


class FurnishedWorld(World):
    """The world of `shop`, with a blueprint for its data service."""

    def furnish(self) -> None:
        """Make the application and put something into it."""
        self.write("blueprints/kv.yaml", to_yaml(kv_blueprint()))
        self.merge("know the service")
        self.settle("shop", count=1)
        self.objects(bare(CLAIM), bare(stateful_set()))
        self.wait(lambda: self._pod() is not None, "the service is Ready")
        self.fill(FILES, TABLE)

    def fill(self, files: dict[str, bytes], table: dict[str, bytes]) -> None:
        """Make the contents of both claims these."""
        for claim, contents in ((PAGES, files), (ROWS, table)):
            for path, data in contents.items():
                place = self._folder(claim) / path
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)

    def contents(self) -> dict[str, dict[str, bytes]]:
        """Claim → path → bytes."""
        found = {}
        for claim in (PAGES, ROWS):
            folder = self._folder(claim)
            files = sorted(path for path in folder.rglob("*") if path.is_file())
            found[claim] = {str(path.relative_to(folder)): path.read_bytes() for path in files}
        return found

    def captured(self) -> dict[str, dict[str, bytes]]:
        """The contents of the newest point, as the store gives them."""
        store = open_store(self.storage, PASSPHRASE, clock=self.clock)
        name = max(store.points(), key=lambda point: point.slot)
        roots = {content.name: content.root for content in store.point(name)[0].contents}
        tree = store.tree(name.domain, roots[f"volume/{PAGES}"])
        files = {one.path: b"".join(one.content()) for one in tree if one.type == "file"}
        stream = store.stream(name.domain, roots["content/kv/StatefulSet.kv/table"])
        return {PAGES: files, ROWS: {"table": b"".join(stream)}}

    def leftovers(self) -> list[str]:
        """Names of our own pods that are still there."""
        kind = self.cluster.discover().find("", "Pod")
        pages = self.cluster.pages(kind, namespace="shop")
        names = [pod["metadata"]["name"] for page in pages for pod in page.items]
        return [name for name in names if name.startswith("reconciler-")]

    def wait(self, condition, what: str) -> None:
        """Wait for something real, bounded."""
        for _ in range(PATIENCE):
            if condition():
                return
            threading.Event().wait(0.02)
        raise AssertionError(f"waited in vain: {what}")

    def _pod(self):
        kind = self.cluster.discover().find("", "Pod")
        pod = self.cluster.get(kind, "kv-0", namespace="shop")
        return pod if pod is not None and is_ready(pod) else None

    def _folder(self, claim: str) -> Path:
        kind = self.cluster.discover().find("", "PersistentVolumeClaim")
        volume = self.cluster.get(kind, claim, namespace="shop")["spec"]["volumeName"]
        return self.sandbox.directory / "volumes" / volume


@contextmanager
def process(word: str):
    """What is made in here is of a process of its own: it is told apart from what others have left behind."""
    before = claimpod._PROCESS
    claimpod._PROCESS = word
    try:
        yield
    finally:
        claimpod._PROCESS = before


def bare(manifest: dict) -> dict:
    """A manifest as a person writes it."""
    metadata = {
        k: v for k, v in manifest["metadata"].items() if k not in ("uid", "resourceVersion")
    }
    return {**manifest, "metadata": metadata}
