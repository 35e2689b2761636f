"""What others change or remove right after a restore is found, named, and recorded once."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from reconciler.clock import SystemClock
from reconciler.objects import FIELD_MANAGER
from reconciler.restore.execute.glass import read_journal, run_break_glass, watch_break_glass
from tests.support.desk import make_desk, step
from tests.support.rescue import NOW, SLOT, request
from tests.support.seen import manifest

APPS = "apps/v1"


@pytest.fixture
def desk(rescue, tmp_path):
    """A restored namespace, at the machine's time, since field managers are stamped with it."""
    labels = {"app": "web"}
    pod = {"containers": [{"name": "m", "image": "i:1"}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    web = manifest("Deployment", "web", api=APPS, spec=spec)
    desk = make_desk(rescue, tmp_path, web)
    owned = manifest("ConfigMap", "owned", data={"a": "1"}, owner=("v1", "ConfigMap", "conf"))
    (reference,) = owned["metadata"]["ownerReferences"]
    reference["uid"] = rescue.town.get("v1", "ConfigMap", "conf")["metadata"]["uid"]
    rescue.town.create(owned)
    desk.capture(slot=SLOT + timedelta(hours=1))
    desk.change("3")
    rescue.clock.advance(SystemClock().now() - NOW)
    return desk


def restored(desk, **spec):
    """Run a restore of the desk; gives what was asked."""
    asked = request(notAfter="2099-01-01T00:00:00Z", **spec)
    assert step(desk.runner(), asked) == [("Succeeded", "Succeeded")]
    return asked


def change(desk, api, kind, name, body, *, manager="meddler"):
    town = desk.rescue.town
    return town.cluster.patch(town.kind(api, kind), name, body, namespace="shop", manager=manager)


def later(desk, **span):
    desk.rescue.clock.advance(timedelta(**(span or {"minutes": 2, "seconds": 10})))


def record(desk):
    (state,) = desk.ledger().view().restores().values()
    return state.watched


def rows(desk):
    return {row.object.rpartition("/")[2]: row for row in record(desk).spec.aftermath}


def test_nothing_is_told_when_nothing_happened(desk):
    """One record that says so; it is not looked at before its time, and not a second time."""
    asked = restored(desk)

    assert step(desk.runner(), asked) == []
    assert record(desk) is None
    later(desk)
    assert step(desk.runner(), asked) == []
    seen = record(desk)
    assert (seen.spec.stage, seen.spec.aftermath) == ("watched", [])
    assert seen.spec.message == "nothing was changed or removed within 2m"

    change(desk, "v1", "ConfigMap", "conf", {"data": {"a": "9"}})
    assert step(desk.runner(), asked) == []
    assert record(desk) == seen


def test_what_was_changed_is_named_with_who_did_it(desk):
    """Fields by their paths, and the field manager; in the result of a later pass, and in the record."""
    asked = restored(desk)
    image = {"spec": {"template": {"spec": {"containers": [{"name": "m", "image": "i:2"}]}}}}
    change(desk, APPS, "Deployment", "web", image, manager="operator")
    change(desk, "v1", "ConfigMap", "conf", {"data": {"added": "x"}})
    later(desk)
    (result,) = desk.runner().step([asked], stop=threading.Event())

    assert (result.phase, result.reason) == ("Changed", "Changed")
    found = rows(desk)
    assert set(found) == {"web", "conf"}
    assert found["web"].what == "changed"
    assert found["web"].fields == ["spec.template.spec.containers[m].image"]
    assert found["web"].managers == ["operator"]
    assert (found["conf"].fields, found["conf"].managers) == (["data.added"], ["meddler"])
    assert step(desk.runner(), asked) == []


def test_a_field_that_was_taken_away_is_the_work_of_who_wrote_since(desk):
    """An absent field has no owner; who wrote the object after the restore is named."""
    asked = restored(desk)
    change(desk, "v1", "ConfigMap", "conf", {"data": {"a": None, "b": "1"}})
    later(desk)
    desk.runner().step([asked], stop=threading.Event())

    found = rows(desk)["conf"]
    assert found.fields == ["data.a", "data.b"]
    assert "meddler" in found.managers
    assert FIELD_MANAGER not in found.managers


def test_values_of_secrets_are_in_no_record(desk):
    """The name of the key is, its value is not."""
    asked = restored(desk)
    change(desk, "v1", "Secret", "pass", {"data": {"p": "c2VjcmV0LXZhbHVl"}})
    later(desk)
    desk.runner().step([asked], stop=threading.Event())

    assert rows(desk)["pass"].fields == ["data.p"]
    assert "c2VjcmV0LXZhbHVl" not in record(desk).model_dump_json()


def test_what_was_removed_is_named(desk):
    """With the garbage collector, when its owner is gone too."""
    asked = restored(desk)
    desk.rescue.town.delete(APPS, "Deployment", "web")
    desk.rescue.town.delete("v1", "ConfigMap", "conf")
    desk.rescue.town.wait(
        lambda: desk.rescue.town.get("v1", "ConfigMap", "owned") is None, "the owned one gone"
    )
    later(desk)
    desk.runner().step([asked], stop=threading.Event())

    found = rows(desk)
    assert {name: row.what for name, row in found.items()} == dict.fromkeys(
        ("web", "conf", "owned"), "removed"
    )
    assert "garbage collector" in found["owned"].message
    assert "ConfigMap conf" in found["owned"].message
    assert "audit log" in found["web"].message


def test_what_the_restore_itself_left_alone_is_not_told(desk):
    """It was skipped, so that it differs is nobody's work since."""
    asked = restored(desk, onConflict="skip")
    later(desk)

    assert step(desk.runner(), asked) == []
    assert record(desk).spec.aftermath == []


def test_a_change_long_after_is_not_told(desk):
    """The pass comes late: what is written beyond two minutes is not the aftermath."""
    desk.rescue.clock.move_to(SystemClock().now() - timedelta(minutes=10))
    asked = restored(desk)
    desk.rescue.clock.move_to(SystemClock().now())
    change(desk, "v1", "ConfigMap", "conf", {"data": {"a": "9"}})

    assert step(desk.runner(), asked) == []
    assert record(desk).spec.aftermath == []


def test_one_that_nobody_looked_at_in_time_is_over(desk):
    """An hour later nothing is recorded: what is found then says nothing of the restore."""
    asked = restored(desk)
    change(desk, "v1", "ConfigMap", "conf", {"data": {"a": "9"}})
    later(desk, hours=1)

    assert step(desk.runner(), asked) == []
    assert record(desk) is None


def test_a_cluster_that_does_not_answer_is_asked_again(desk):
    """The restore has ended; a pass that cannot look says nothing of it, and the next one looks."""
    asked = restored(desk)
    change(desk, "v1", "ConfigMap", "conf", {"data": {"a": "9"}})
    later(desk)
    desk.rescue.town.sandbox.faults.add("answer", "/configmaps", value=503, times=99)
    assert step(desk.runner(), asked) == []
    desk.rescue.town.sandbox.faults.clear()

    assert step(desk.runner(), asked) == [("Changed", "Changed")]


def test_without_git_it_is_journalled(desk, tmp_path):
    """The journal gets the same record, once; an attempt that was looked at has still ended."""
    journal = tmp_path / "restores.jsonl"
    asked = request(break_glass=True, notAfter="2099-01-01T00:00:00Z")
    parts = {
        "stores": desk.rescue.stores,
        "cluster": desk.rescue.town.cluster,
        "settings": desk.settings(),
        "clock": desk.rescue.clock,
        "journal": journal,
    }
    run_break_glass(asked, stop=threading.Event(), **parts)
    change(desk, "v1", "ConfigMap", "conf", {"data": {"a": "9"}})

    assert watch_break_glass(asked, **parts) is None
    later(desk)
    seen = watch_break_glass(asked, **parts)
    assert [row.fields for row in seen.spec.aftermath] == [["data.a"]]
    assert watch_break_glass(asked, **parts) is None
    assert [one.spec.stage for one in read_journal(journal)] == ["accepted", "finished", "watched"]
