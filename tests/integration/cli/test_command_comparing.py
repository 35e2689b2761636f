"""`diff` on contents, and on what a server gives anew whenever an object is made."""

from __future__ import annotations

import pytest

SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "wiki", "namespace": "shop"},
    "spec": {"selector": {"app": "wiki"}, "ports": [{"port": 80}]},
}
CLAIM = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "attic", "namespace": "shop"},
    "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
}


class TestContents:
    """A database that changed is a difference, although every object is the same."""

    @pytest.fixture
    def edited(self, library):
        """A second point, between whose objects and the first's there is no difference."""
        library.write("a longer page than before")
        assert library("capture", "shop").code == 0
        return library

    def test_a_changed_content_is_named(self, edited):
        """The volume is named with both sizes, counted, and the end is 1."""
        points = [f"shop/_/{edited.slot(number)}" for number in (0, 1)]
        answer = edited("diff", *points)
        items = edited.json("diff", *points)["items"]

        assert answer.code == 1
        assert "~ changed  volume/pages" in answer.out
        assert "sizeBytes: 9 → 26" in answer.out
        assert "0 objects and 1 content differ" in answer.err
        assert [(one["object"], one["change"]) for one in items] == [("volume/pages", "changed")]
        assert edited("diff", points[0], points[0]).code == 0

    def test_a_content_that_came_or_went(self, library):
        """A content that only one of the points has is added, or removed."""
        library.town.delete("apps/v1", "Deployment", "wiki")
        library.town.delete("v1", "PersistentVolumeClaim", "pages")
        assert library("capture", "shop").code == 0
        points = [f"shop/_/{library.slot(number)}" for number in (0, 1)]

        assert "- removed  volume/pages" in library("diff", *points).out
        assert "+ added    volume/pages" in library("diff", *reversed(points)).out

    def test_the_cluster_is_not_asked_for_contents(self, edited):
        """`--live` says which contents it does not compare."""
        assert "not compared: the contents of volume/pages" in edited("diff", "shop", "--live").err


class TestLive:
    """What a restore would not change is no difference."""

    def test_what_the_server_allocates(self, hall):
        """A Service and a claim that were made anew, with another address and volume, do not differ."""
        hall.world.objects(SERVICE, CLAIM)
        assert hall("capture", "shop").code in (0, 3)
        before = allocated(hall)
        for kind, name in (("Service", "wiki"), ("PersistentVolumeClaim", "attic")):
            found = hall.world.cluster.discover().find("", kind)
            hall.world.cluster.delete(found, name, namespace="shop")
        hall.world.objects({**SERVICE, "metadata": {"name": "first", "namespace": "shop"}})
        hall.world.objects(SERVICE, CLAIM)
        answer = hall("diff", "shop", "--live")

        assert all(old != new for old, new in zip(before, allocated(hall), strict=True))
        assert "+ added    Service shop/first" in answer.out
        assert answer.out.count("\n") == 1, answer.out

    def test_what_a_person_changed_shows(self, hall):
        """A port of the Service that was changed by hand does differ, and nothing else of it."""
        hall.world.objects(SERVICE)
        assert hall("capture", "shop").code == 0
        kind = hall.world.cluster.discover().find("", "Service")
        patch = {"spec": {"ports": [{"port": 80, "targetPort": 8080}]}}
        hall.world.cluster.patch(kind, "wiki", patch, namespace="shop", manager="t")
        (item,) = hall.json("diff", "shop", "--live")["items"]

        assert item["object"] == "/Service/shop/wiki"
        assert all("targetPort" in field["path"] for field in item["fields"])


def allocated(hall):
    """What the server gave the Service and the claim."""
    discovery = hall.world.cluster.discover()
    service = hall.world.cluster.get(discovery.find("", "Service"), "wiki", namespace="shop")
    claims = discovery.find("", "PersistentVolumeClaim")
    claim = hall.world.cluster.get(claims, "attic", namespace="shop")
    return service["spec"]["clusterIP"], claim["spec"]["volumeName"]
