"""A town that was captured, and what brings it back: for tests of restores."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime

from reconciler.capture.capture import capture
from reconciler.capture.observe import observe_cluster
from reconciler.kinds.effective import Application
from reconciler.kinds.request import RestoreSpec
from reconciler.objects import ObjectKey, project
from reconciler.restore.execute.execution import Bounds, Execution
from reconciler.restore.execute.filling import PointContents
from reconciler.restore.plan.build import build_plan
from reconciler.restore.plan.request import RestoreRequest, find_point
from reconciler.restore.plan.strip import strip

SLOT = datetime(2026, 11, 23, 11, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
BOUNDS = Bounds(definitions_s=10, claims_s=10, gone_s=10, ready_s=15)
IMAGE = "example/helper:1"


def request(
    point="shop/_/latest", *, name="again", namespace="", transforms=(), break_glass=False, **spec
):
    """A Restore, from what stands under `spec` beside the usual."""
    given = {
        "cluster": "town",
        "reason": "a test",
        "notAfter": "2026-11-24T00:00:00Z",
        "from": {"point": point, **spec.pop("origin", {})},
        "onConflict": "update",
        "transforms": [one.metadata.name for one in transforms],
        **spec,
    }
    parsed = RestoreSpec.model_validate(given)
    return RestoreRequest(
        source="main",
        namespace=namespace,
        name=name,
        attempt=parsed.attempt,
        spec=parsed,
        revision="a" * 40,
        break_glass=break_glass,
        transforms=tuple(transforms),
    )


class Rescue:
    """Captures from a town, and plans and runs restores into it (or into another one)."""

    def __init__(self, town, store, clock):
        self.town = town
        self.store = store
        self.clock = clock
        self.domain = town.cluster.uid()

    def capture(self, name="shop", *, blueprints=(), slot=SLOT, origin=None, policy=None):
        """Make a restore point of an application, which must succeed."""
        cluster = (origin or self.town).cluster
        discovery = cluster.discover()
        with self.store.session(self.domain) as session:
            done = capture(
                Application.parse(name),
                cluster=cluster,
                discovery=discovery,
                observation=observe_cluster(cluster, discovery, clock=self.clock),
                policy=policy,
                blueprints=blueprints,
                sessions={"primary": (session, self.store)},
                previous={"primary": None},
                slot=slot,
                clock=self.clock,
                helper_image=IMAGE,
            )
        assert done.record.phase == "Succeeded", done.record.outcomes
        return done

    def stores(self, _request=None):
        """The locations, as a runner asks for them."""
        return [("primary", self.store)]

    def find(self, asked, *, resolved=""):
        """The point that a request means."""
        return find_point(
            asked, stores=self.stores(), cluster="town", cluster_uid=self.domain, resolved=resolved
        )

    def plan(self, asked, **kwargs):
        """The live plan."""
        cluster = self.town.cluster
        return build_plan(
            asked,
            found=self.find(asked),
            cluster=cluster,
            discovery=cluster.discover(),
            now=NOW,
            **kwargs,
        )

    def execution(self, asked, plan, *, cluster=None, **kwargs):
        """A run of a plan that has not begun."""
        cluster = cluster or self.town.cluster
        discovery = cluster.discover()
        contents = PointContents(
            self.find(asked), cluster=cluster, discovery=discovery, image=IMAGE, clock=self.clock
        )
        kwargs = {"stop": threading.Event(), "bounds": BOUNDS, "restore": asked.title} | kwargs
        return Execution(
            plan=plan, cluster=cluster, discovery=discovery, contents=contents, **kwargs
        )

    def restore(self, asked, **kwargs):
        """Plan and run; gives the result."""
        return self.execution(asked, self.plan(asked), **kwargs).run()

    def delete_namespace(self, name="shop"):
        """Delete a namespace and wait until it is gone."""
        self.town.delete("v1", "Namespace", name, namespace="")
        self.town.wait(
            lambda: self.town.get("v1", "Namespace", name, namespace="") is None, f"{name} gone"
        )


def verdicts(plan):
    """`Kind/name` → (verdict, reason)."""
    return {f"{e.target.kind}/{e.target.name}": (e.verdict, e.reason) for e in plan.entries}


def as_captured(manifest, *, namespace=None):
    """An object without what a server owns, for comparing before and after."""
    bare = strip(project(manifest))
    bare["metadata"].pop("annotations", None)
    if namespace:
        bare["metadata"]["namespace"] = namespace
    return bare


def moved(key: ObjectKey, namespace: str) -> ObjectKey:
    """The key in another namespace."""
    return replace(key, namespace=namespace) if key.namespace else key


class Killed(BaseException):
    """The process that called the cluster is dead: nothing of it runs any more."""


class Looking:
    """A cluster whose caller is stopped for a look before each of its effects on objects of some kinds."""

    def __init__(self, cluster, look, *, kinds=("ConfigMap",), effects=None):
        self._cluster = cluster
        self._look = look
        self._kinds = kinds
        self._effects = effects or Dying.EFFECTS

    def __getattr__(self, name):
        inner = getattr(self._cluster, name)
        if name not in self._effects:
            return inner

        def call(kind, *args, **kwargs):
            is_seen = self._kinds is None or getattr(kind, "kind", "") in self._kinds
            if is_seen and not kwargs.get("dry_run"):
                self._look()
            return inner(kind, *args, **kwargs)

        return call


class Dying:
    """A cluster whose caller dies right after its n-th effect; whatever it tries afterwards is not done."""

    EFFECTS = frozenset({"create", "replace", "patch", "delete", "execute"})

    def __init__(self, cluster, *, after):
        self._cluster = cluster
        self._after = after
        self._lock = threading.Lock()
        self.effects = 0
        self.is_dead = False

    def __getattr__(self, name):
        inner = getattr(self._cluster, name)
        if not callable(inner):
            return inner

        def call(*args, **kwargs):
            with self._lock:
                if self.is_dead:
                    raise Killed
                result = inner(*args, **kwargs)
                if name in self.EFFECTS and not kwargs.get("dry_run"):
                    self.effects += 1
                    self.is_dead = self.effects == self._after
                if self.is_dead:
                    raise Killed
            return result

        return call
