"""`reconciler demo --context`: the demo's story on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.applications.shop import POSTGRESQL
from tests.support.clusters import IMAGE, REAL_KUBECONFIG
from tests.support.command import reconciler

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def where(outpost):
    """Options that name the cluster and the images on it."""
    context = outpost.kubectl("config", "current-context").strip()
    images = ("--database-image", POSTGRESQL, "--tools-image", IMAGE)
    return ("--context", context, "--kubeconfig", str(Path(REAL_KUBECONFIG).absolute()), *images)


def test_the_story_holds_on_a_real_cluster(outpost, where):
    """Every proof of the story holds, and the namespaces are gone afterwards."""
    answer = reconciler("demo", *where, within_s=300)

    assert answer.code == 0, answer.out + answer.err
    for proof in (
        "objects and 150030 rows are equal to what was captured",
        "objects and 40 files are equal to what was captured",
        "nothing happens twice",
        "networking.k8s.io/v1beta1 → networking.k8s.io/v1",
    ):
        assert proof in answer.out, proof
    for namespace in ("shop", "wiki", "legacy"):
        outpost.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=90s")


def test_a_namespace_that_is_there_is_somebodys(outpost, where):
    """A cluster that has one of the namespaces is refused, and nothing of it is touched."""
    outpost.kubectl("create", "namespace", "wiki")
    try:
        answer = reconciler("demo", *where)

        assert answer.code == 6
        assert "namespace wiki already" in answer.err
        assert not outpost.kubectl.gone("namespace", "wiki")
        assert outpost.kubectl.gone("namespace", "shop")
    finally:
        outpost.kubectl("delete", "namespace", "wiki", "--wait")
