"""What every cluster does with objects that are written: create, replace, patch, own, delete, finalize."""

from __future__ import annotations

import pytest

from reconciler.cluster.port import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)
from reconciler.objects import duplicate
from tests.support.clusters import MANAGER, WITHIN_S, config_map
from tests.support.sandbox import eventually


def deployment(name, *, replicas=0):
    """A Deployment that starts nothing."""
    labels = {"app": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "main", "image": "none"}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def owners(manifest):
    """(manager, operation) of the managedFields that are not of a subresource."""
    return [
        (entry["manager"], entry["operation"])
        for entry in manifest["metadata"]["managedFields"]
        if not entry.get("subresource")
    ]


def test_a_created_object_is_complete_and_owned(bench):
    """The answer to a create has uid, version, kind, and the given manager as the one owner of its fields."""
    made = bench.make(config_map("made", key="value"), manager="somebody")

    assert made["metadata"]["uid"] and made["metadata"]["resourceVersion"]
    assert (made["apiVersion"], made["kind"], made["data"]) == ("v1", "ConfigMap", {"key": "value"})
    assert owners(made) == [("somebody", "Update")]
    assert bench.read("ConfigMap", "made") == made


def test_managed_fields_of_a_create_are_ignored(bench):
    """Ownership cannot be claimed for others in a create."""
    manifest = config_map("claimed", key="value")
    entry = {
        "manager": "other",
        "operation": "Apply",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:key": {}}},
    }
    manifest["metadata"]["managedFields"] = [entry]

    assert owners(bench.make(manifest, manager="somebody")) == [("somebody", "Update")]


def test_a_patch_of_managed_fields_is_taken_whole(bench):
    """Afterwards ownership is as the patch says, and the captured Apply manager can drop its own field."""
    bench.make(config_map("owned", kept="1", dropped="2"))
    kind = bench.type("ConfigMap")
    entry = {
        "manager": "gitops",
        "operation": "Apply",
        "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:kept": {}, "f:dropped": {}}},
    }
    patched = bench.cluster.patch(
        kind,
        "owned",
        {"metadata": {"managedFields": [entry]}},
        namespace=bench.namespace,
        manager=MANAGER,
    )

    applied = bench.cluster.patch(
        kind,
        "owned",
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "owned"},
            "data": {"kept": "1"},
        },
        namespace=bench.namespace,
        style="apply",
        manager="gitops",
    )

    assert owners(patched) == [("gitops", "Apply")]
    assert applied["data"] == {"kept": "1"}


def test_an_apply_creates_and_owns(bench):
    """Server-side apply of an absent object creates it under an Apply manager; odd characters survive."""
    kind = bench.type("ConfigMap")
    text = 'tab\t nel\x85 del\x7f ls\u2028 quote" emoji\U0001f600 bom\ufeff end'
    manifest = config_map("applied", text=text)

    made = bench.cluster.patch(
        kind, "applied", manifest, namespace=bench.namespace, style="apply", manager="gitops"
    )

    assert owners(made) == [("gitops", "Apply")]
    assert made["data"] == {"text": text}


def test_a_forced_apply_takes_fields_over(bench):
    """With force another manager's field changes its value and its owner."""
    bench.make(config_map("taken", key="theirs"), manager="them")
    kind, manifest = bench.type("ConfigMap"), config_map("taken", key="ours")
    if bench.is_real:  # differences.APPLY_CONFLICTS
        with pytest.raises(ConflictError):
            bench.cluster.patch(
                kind, "taken", manifest, namespace=bench.namespace, style="apply", manager="us"
            )

    made = bench.cluster.patch(
        kind, "taken", manifest, namespace=bench.namespace, style="apply", manager="us", force=True
    )

    assert made["data"] == {"key": "ours"}
    assert ("us", "Apply") in owners(made)


def test_a_second_create_says_that_it_exists(bench):
    """409 on create is AlreadyExistsError, and the object is untouched."""
    first = bench.make(config_map("twice", key="first"))

    with pytest.raises(AlreadyExistsError):
        bench.make(config_map("twice", key="second"))
    assert bench.read("ConfigMap", "twice") == first


def test_a_create_without_its_namespace_is_told(bench):
    """A namespace that is not there is NotFoundError."""
    manifest = config_map("lost")
    manifest["metadata"]["namespace"] = "no-such-namespace"

    with pytest.raises(NotFoundError, match="no-such-namespace"):
        bench.cluster.create(bench.type("ConfigMap"), manifest, manager=MANAGER)


def test_an_object_that_is_wrong_is_invalid(bench):
    """What the server does not accept is InvalidError."""
    with pytest.raises(InvalidError):
        bench.make(config_map("Not_A_Name"))


def test_generated_names_are_fresh(bench):
    """generateName gives two objects two names with that start."""
    manifests = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "some-"}}
        for _ in range(2)
    ]

    names = {bench.make(manifest)["metadata"]["name"] for manifest in manifests}

    assert len(names) == 2
    assert all(name.startswith("some-") and len(name) > 5 for name in names)


def test_a_replace_takes_away_what_it_lacks(bench):
    """After a replace the object is as given: fields that it lacks are gone."""
    live = bench.make(config_map("replaced", old="1", kept="2"))
    wanted = duplicate(live)
    wanted["data"] = {"kept": "3"}

    made = bench.cluster.replace(bench.type("ConfigMap"), wanted, manager=MANAGER)

    assert made["data"] == {"kept": "3"}
    assert made["metadata"]["uid"] == live["metadata"]["uid"]


def test_a_replace_is_guarded(bench):
    """Another resourceVersion or another uid than the live one is ConflictError, and nothing is written."""
    kind = bench.type("ConfigMap")
    stale = bench.make(config_map("guarded", key="1"))
    live = bench.cluster.patch(
        kind, "guarded", {"data": {"key": "2"}}, namespace=bench.namespace, manager=MANAGER
    )
    foreign = duplicate(live)
    foreign["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"

    for wanted in (stale, foreign):
        wanted["data"] = {"key": "3"}
        with pytest.raises(ConflictError):
            bench.cluster.replace(kind, wanted, manager=MANAGER)
    assert bench.read("ConfigMap", "guarded") == live


def test_a_replace_of_nothing_is_told(bench):
    """A missing object is NotFoundError to writes."""
    manifest = config_map("nobody")
    manifest["metadata"]["namespace"] = bench.namespace

    with pytest.raises(NotFoundError):
        bench.cluster.replace(bench.type("ConfigMap"), manifest, manager=MANAGER)
    with pytest.raises(NotFoundError):
        bench.cluster.patch(
            bench.type("ConfigMap"),
            "nobody",
            {"data": {}},
            namespace=bench.namespace,
            manager=MANAGER,
        )
    with pytest.raises(NotFoundError):
        bench.cluster.delete(bench.type("ConfigMap"), "nobody", namespace=bench.namespace)


def test_merge_and_json_patches(bench):
    """A merge patch sets and removes by null; a JSON patch edits by path and refuses a failed test."""
    kind = bench.type("ConfigMap")
    bench.make(config_map("patched", a="1", b="2"))

    merged = bench.cluster.patch(
        kind, "patched", {"data": {"a": None, "c": "3"}}, namespace=bench.namespace, manager=MANAGER
    )
    edited = bench.cluster.patch(
        kind,
        "patched",
        [{"op": "replace", "path": "/data/b", "value": "9"}, {"op": "remove", "path": "/data/c"}],
        namespace=bench.namespace,
        style="json",
        manager=MANAGER,
    )

    assert merged["data"] == {"b": "2", "c": "3"}
    assert edited["data"] == {"b": "9"}
    with pytest.raises(InvalidError):
        bench.cluster.patch(
            kind,
            "patched",
            [{"op": "test", "path": "/data/b", "value": "no"}],
            namespace=bench.namespace,
            style="json",
            manager=MANAGER,
        )


def test_a_dry_run_stores_nothing(bench):
    """A dry run answers as the real one would, and leaves no trace."""
    kind = bench.type("ConfigMap")
    manifest = config_map("dry", key="1")
    manifest["metadata"]["namespace"] = bench.namespace

    made = bench.cluster.create(kind, manifest, manager=MANAGER, dry_run=True)
    assert made["metadata"]["uid"]
    assert bench.read("ConfigMap", "dry") is None

    live = bench.make(config_map("dry", key="1"))
    wanted = duplicate(live)
    wanted["data"] = {"key": "2"}
    assert bench.cluster.replace(kind, wanted, manager=MANAGER, dry_run=True)["data"] == {
        "key": "2"
    }
    assert bench.read("ConfigMap", "dry") == live


def test_status_does_not_change_the_generation(bench):
    """The generation counts changes of the spec; a status write changes neither it nor the spec."""
    made = bench.make(deployment("counted"))
    kind = bench.type("Deployment", "apps")
    before = made["metadata"]["generation"]

    status = bench.cluster.patch(
        kind,
        "counted",
        {
            "status": {"conditions": [{"type": "Contract", "status": "True"}]},
            "spec": {"replicas": 9},
        },
        namespace=bench.namespace,
        manager=MANAGER,
        subresource="status",
    )
    changed = bench.cluster.patch(
        kind, "counted", {"spec": {"paused": True}}, namespace=bench.namespace, manager=MANAGER
    )

    assert status["metadata"]["generation"] == before
    assert status["spec"]["replicas"] == 0
    assert changed["metadata"]["generation"] == before + 1


def test_a_delete_is_guarded_by_uid(bench):
    """Only the object with the given uid is deleted, another one is ConflictError."""
    made = bench.make(config_map("deleted"))
    kind = bench.type("ConfigMap")

    with pytest.raises(ConflictError):
        bench.cluster.delete(
            kind, "deleted", namespace=bench.namespace, uid="00000000-0000-0000-0000-000000000000"
        )
    assert bench.read("ConfigMap", "deleted") == made

    bench.cluster.delete(kind, "deleted", namespace=bench.namespace, uid=made["metadata"]["uid"])
    bench.gone("ConfigMap", "deleted")


def owned_by(owner, name):
    """A ConfigMap that goes when `owner` goes."""
    reference = {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "blockOwnerDeletion": True,
    }
    manifest = config_map(name)
    manifest["metadata"]["ownerReferences"] = [reference]
    return manifest


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
def test_deleting_an_owner_takes_its_dependents(bench, propagation):
    """Dependents go with their owner, before or after it."""
    owner = bench.make(config_map("owner"))
    bench.make(owned_by(owner, "dependent"))

    bench.cluster.delete(
        bench.type("ConfigMap"), "owner", namespace=bench.namespace, propagation=propagation
    )

    bench.gone("ConfigMap", "owner")
    bench.gone("ConfigMap", "dependent")


def test_orphans_stay(bench):
    """With Orphan the dependents stay, without the reference."""
    owner = bench.make(config_map("owner"))
    bench.make(owned_by(owner, "orphan"))

    bench.cluster.delete(
        bench.type("ConfigMap"), "owner", namespace=bench.namespace, propagation="Orphan"
    )

    bench.gone("ConfigMap", "owner")
    bench.seen("ConfigMap", "orphan", lambda found: not found["metadata"].get("ownerReferences"))


def test_a_finalizer_holds_an_object(bench):
    """A deleted object with a finalizer stays, marked, until the finalizer is taken away."""
    manifest = config_map("held")
    manifest["metadata"]["finalizers"] = ["example.com/hold"]
    bench.make(manifest)
    kind = bench.type("ConfigMap")

    bench.cluster.delete(kind, "held", namespace=bench.namespace)
    marked = bench.read("ConfigMap", "held")
    assert marked["metadata"]["deletionTimestamp"]

    bench.cluster.patch(
        kind, "held", {"metadata": {"finalizers": None}}, namespace=bench.namespace, manager=MANAGER
    )
    bench.gone("ConfigMap", "held")


def test_a_namespace_goes_with_its_contents(bench):
    """A terminating namespace refuses new objects, shows what holds it, and goes when nothing does."""
    manifest = config_map("last")
    manifest["metadata"]["finalizers"] = ["example.com/hold"]
    bench.make(manifest)
    bench.make(config_map("first"))
    kind = bench.type("Namespace")

    bench.cluster.delete(kind, bench.namespace)
    bench.gone("ConfigMap", "first")
    ending = bench.cluster.get(kind, bench.namespace)
    with pytest.raises(ForbiddenError, match="being terminated"):
        bench.make(config_map("late"))

    assert ending["status"]["phase"] == "Terminating"
    bench.cluster.patch(
        bench.type("ConfigMap"),
        "last",
        {"metadata": {"finalizers": None}},
        namespace=bench.namespace,
        manager=MANAGER,
    )
    eventually(lambda: bench.cluster.get(kind, bench.namespace) is None, within_s=WITHIN_S)
