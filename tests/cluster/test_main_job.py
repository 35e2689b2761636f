"""The main job on real Kubernetes: captured, changed, captured again, destroyed, back, and on another cluster."""

from __future__ import annotations

import pytest

from tests.cluster.applications import ALL


@pytest.fixture
def deployed(request, outpost):
    """An application in a namespace of its own, with its workloads Ready."""
    application = request.param
    namespace = f"{application.name}-{outpost.mark}"
    outpost.settle(namespace, **dict(application.labels))
    application.deploy(outpost, namespace)
    outpost.ready(namespace)
    yield application, namespace
    names = {"outpost", "harbor"} & set(request.fixturenames)
    for place in map(request.getfixturevalue, sorted(names)):
        application.clean(place, namespace)


@pytest.mark.parametrize("deployed", ALL, ids=str, indirect=True)
def test_an_application_comes_back(outpost, deployed):
    """What was captured last is back after everything was destroyed: objects, contents, and it works.

    A second restore of it would have nothing to do.
    """
    application, namespace = deployed
    first = outpost.capture().captured[0]
    application.change(outpost, namespace)
    outpost.ready(namespace)
    second = outpost.capture().captured[0]
    before = outpost.look(namespace), application.state(outpost, namespace)
    application.destroy(outpost, namespace)

    outpost.restore(namespace)

    outpost.ready(namespace)
    after = outpost.look(namespace), application.state(outpost, namespace)
    assert after[0].keys() == before[0].keys()
    assert {k: v for k, v in after[0].items() if v != before[0][k]} == {}
    assert after == before
    assert outpost.what_differs(namespace) == {}
    application.works(outpost, namespace)
    assert second.application == first.application


@pytest.mark.parametrize("deployed", [a for a in ALL if a.moves], ids=str, indirect=True)
def test_an_application_moves(outpost, harbor, deployed):
    """A point of one API server is restored on another one, where nothing of it was before."""
    application, namespace = deployed
    outpost.capture()
    before = outpost.look(namespace), application.state(outpost, namespace)

    harbor.restore(namespace)

    harbor.ready(namespace)
    after = harbor.look(namespace), application.state(harbor, namespace)
    assert after[0].keys() == before[0].keys()
    assert {k: v for k, v in after[0].items() if v != before[0][k]} == {}
    assert after == before
    assert harbor.what_differs(namespace) == {}
    application.works(harbor, namespace)
