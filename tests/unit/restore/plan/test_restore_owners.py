"""Field managers get back what they owned, in the paths and versions of what is written."""

from reconciler.objects import FIELD_MANAGER
from reconciler.restore.plan.ownership import given_back, is_unsettled, ownership_of


def entry(manager, operation, owned, *, version="v1", **rest):
    return {
        "manager": manager,
        "operation": operation,
        "apiVersion": version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned,
        **rest,
    }


def captured(*entries, version="v1", metadata=None, **body):
    return {
        "apiVersion": version,
        "kind": "Thing",
        "metadata": {
            "name": "t",
            "uid": "u",
            "managedFields": list(entries),
            **(metadata or {}),
        },
        **body,
    }


def fields(ownership):
    """(manager, operation, version) → what it owns."""
    return {
        (e["manager"], e["operation"], e["apiVersion"]): e["fieldsV1"] for e in ownership.entries
    }


def test_an_applier_alone_needs_the_patch():
    """An object is created under our name, and the patch leaves the applier as the only owner."""
    was = captured(entry("helm", "Apply", {"f:spec": {"f:a": {}}}), spec={"a": 1})
    given = ownership_of(was, {**was, "metadata": {"name": "t"}})

    assert given.creator == FIELD_MANAGER
    assert fields(given) == {("helm", "Apply", "v1"): {"f:spec": {"f:a": {}}}}


def test_who_had_no_owners_gets_none():
    """An object whose fields nobody owned is not left to us; one that the plan itself adds is."""
    was = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "t", "uid": "u"}}

    assert given_back(ownership_of(was, was), was) == [{}]
    made_up = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "t"}}
    assert ownership_of(made_up, made_up).entries == ()


def test_entries_of_one_manager_become_one():
    """Two entries that the new version makes alike are joined: a server would keep the last only."""
    was = captured(
        entry("hand", "Update", {"f:spec": {"f:a": {}}}, version="x/v1"),
        entry("hand", "Update", {"f:spec": {"f:b": {}}}, version="x/v2"),
        version="x/v1",
        spec={"a": 1, "b": 2},
    )
    given = ownership_of(was, {**was, "apiVersion": "x/v3"}, served=["x/v3"])

    assert fields(given) == {("hand", "Update", "x/v3"): {"f:spec": {"f:a": {}, "f:b": {}}}}


def test_an_entry_of_another_served_version_stays():
    """Its paths are those of its version, so only the metadata is held against the object."""
    was = captured(
        entry(
            "team",
            "Apply",
            {"f:metadata": {"f:labels": {"f:gone": {}}}, "f:spec": {"f:percent": {}}},
            version="x/v1",
        ),
        entry("hand", "Update", {"f:spec": {"f:metrics": {}}}, version="x/v2"),
        version="x/v2",
        spec={"metrics": []},
    )
    desired = {**was, "metadata": {"name": "t"}}

    assert fields(ownership_of(was, desired, served=["x/v2", "x/v1"])) == {
        ("team", "Apply", "x/v1"): {"f:spec": {"f:percent": {}}},
        ("hand", "Update", "x/v2"): {"f:spec": {"f:metrics": {}}},
    }
    lost = fields(ownership_of(was, desired, served=["x/v2"]))
    assert ("team", "Apply", "x/v1") not in lost


def test_what_a_transform_made_goes_to_who_lost_its_place():
    """A moved field belongs to the manager of the old one, not to those who lost nothing near it."""
    was = captured(
        entry(
            "helm",
            "Apply",
            {"f:spec": {"f:backend": {"f:serviceName": {}, "f:servicePort": {}}, "f:kept": {}}},
            version="x/v1beta1",
        ),
        entry(
            "hand",
            "Update",
            {"f:metadata": {"f:annotations": {"f:old": {}}}, "f:spec": {"f:class": {}}},
            version="x/v1beta1",
        ),
        version="x/v1beta1",
        spec={"backend": {"serviceName": "s", "servicePort": 80}, "kept": 1, "class": "n"},
        metadata={"annotations": {"old": "1"}},
    )
    desired = {
        "apiVersion": "x/v1",
        "kind": "Thing",
        "metadata": {"name": "t"},
        "spec": {
            "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}},
            "kept": 1,
            "class": "n",
        },
    }
    given = fields(ownership_of(was, desired, served=["x/v1"]))

    assert given["helm", "Apply", "x/v1"]["f:spec"] == {
        "f:kept": {},
        "f:defaultBackend": {"f:service": {"f:name": {}, "f:port": {"f:number": {}}}},
    }
    assert given["hand", "Update", "x/v1"] == {"f:spec": {"f:class": {}}}


def test_a_field_that_nobody_owned_stays_nobodys():
    """What a rule adds, where no manager lost anything, has no owner; so has what had none."""
    was = captured(
        entry("helm", "Apply", {"f:spec": {"f:a": {}}}),
        entry("hand", "Update", {"f:spec": {"f:b": {}}}),
        spec={"a": 1, "b": 2, "unowned": 3},
    )
    desired = {**was, "metadata": {"name": "t"}, "spec": {**was["spec"], "added": 4}}

    assert fields(ownership_of(was, desired)) == {
        ("helm", "Apply", "v1"): {"f:spec": {"f:a": {}}},
        ("hand", "Update", "v1"): {"f:spec": {"f:b": {}}},
    }


def test_scale_entries_stay_and_status_entries_are_those_of_now():
    """Who scaled still owns replicas; captured status entries go, live ones are kept by the patch."""
    was = captured(
        entry("helm", "Update", {"f:spec": {"f:a": {}}}),
        entry("person", "Update", {"f:spec": {"f:replicas": {}}}, subresource="scale"),
        entry("kcm", "Update", {"f:status": {"f:old": {}}}, subresource="status"),
        spec={"a": 1, "replicas": 2},
    )
    given = ownership_of(was, {**was, "metadata": {"name": "t"}})
    status = entry("kcm", "Update", {"f:status": {"f:new": {}}}, subresource="status")
    written = captured(entry("helm", "Update", {"f:spec": {}}), status)
    back = given_back(given, written)

    assert [(e["manager"], e.get("subresource")) for e in back] == [
        ("helm", None),
        ("person", "scale"),
        ("kcm", "status"),
    ]
    assert back[-1] == status


def test_times_of_entries_stay():
    """An entry keeps the time that it carries."""
    was = captured(
        entry("helm", "Apply", {"f:spec": {"f:a": {}}}, time="2026-01-01T00:00:00Z"),
        spec={"a": 1},
    )

    assert ownership_of(was, was).entries[0]["time"] == "2026-01-01T00:00:00Z"


def test_owner_references_follow_the_new_uid():
    """The path to an owner names its uid: it is rewritten once the owner exists, and dropped without one."""
    reference = {"apiVersion": "v1", "kind": "Thing", "name": "parent", "uid": "old"}
    was = captured(
        entry(
            "operator",
            "Apply",
            {
                "f:metadata": {"f:ownerReferences": {'k:{"uid":"old"}': {}}},
                "f:spec": {"f:a": {}},
            },
        ),
        metadata={"ownerReferences": [reference]},
        spec={"a": 1},
    )
    desired = {**was, "metadata": {"name": "t", "ownerReferences": [{**reference, "uid": ""}]}}
    given = ownership_of(was, desired)
    orphan = {**was, "metadata": {"name": "t"}}
    adopted = {
        **was,
        "metadata": {"name": "t", "ownerReferences": [{**reference, "uid": "new"}]},
    }

    assert given_back(given, orphan)[0]["fieldsV1"] == {"f:spec": {"f:a": {}}}
    assert given_back(given, adopted)[0]["fieldsV1"] == {
        "f:metadata": {"f:ownerReferences": {'k:{"uid":"new"}': {}}},
        "f:spec": {"f:a": {}},
    }


def test_an_update_takes_back_what_others_took():
    """Live managers that the point does not know lose everything but what the update spares."""
    was = captured(
        entry("helm", "Update", {"f:spec": {"f:a": {}, "f:replicas": {}}}),
        spec={"a": 1, "replicas": 1},
    )
    desired = {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "t"}, "spec": was["spec"]}
    live = captured(
        entry("helm", "Update", {"f:spec": {"f:a": {}}}),
        entry("hand", "Update", {"f:spec": {"f:b": {}}}),
        entry("kcm", "Update", {"f:spec": {"f:replicas": {}}}, subresource="scale"),
        spec={"a": 2, "b": 1, "replicas": 5},
    )
    wanted = {**desired, "spec": {"a": 1, "replicas": 5}}
    given = ownership_of(was, desired, live=live, replacement=wanted)

    assert [(e["manager"], e.get("subresource"), e["fieldsV1"]) for e in given.entries] == [
        ("helm", None, {"f:spec": {"f:a": {}, "f:replicas": {}}}),
        ("kcm", "scale", {"f:spec": {"f:replicas": {}}}),
    ]
    alone = captured(entry("helm", "Update", {"f:spec": {"f:a": {}}}), spec={"a": 2})
    assert ownership_of(was, desired, live=alone, replacement=desired).entries == ()


def test_an_attempt_that_died_before_the_patch_is_seen():
    """Managers other than those to be are unsettled; the same ones are not, whatever the status says."""
    was = captured(entry("helm", "Apply", {"f:spec": {"f:a": {}}}), spec={"a": 1})
    given = ownership_of(was, was)
    status = entry("kcm", "Update", {"f:status": {}}, subresource="status")

    assert is_unsettled(given, captured(entry(FIELD_MANAGER, "Update", {"f:spec": {"f:a": {}}})))
    assert not is_unsettled(
        given, captured(entry("helm", "Apply", {"f:spec": {"f:a": {}}}), status)
    )


def test_a_port_that_is_given_back_stays_nobodys():
    """A node port that was only allocated is not owned by who creates the Service with it."""
    step = 'k:{"port":80,"protocol":"TCP"}'
    owns = {"f:spec": {"f:ports": {step: {".": {}, "f:port": {}}}}}
    was = captured(entry("helm", "Update", owns), spec={"ports": [{"port": 80, "nodePort": 30080}]})
    was["kind"] = "Service"
    bare = {**was, "metadata": {"name": "t"}, "spec": {"ports": [{"port": 80}]}}

    assert ownership_of(was, bare).entries == ()
    assert fields(ownership_of(was, {**bare, "spec": was["spec"]})) == {
        ("helm", "Update", "v1"): owns
    }
