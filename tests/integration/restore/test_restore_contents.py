"""Volumes and data services on the way back, with real processes."""

from datetime import timedelta

import pytest

from reconciler.restore.execute.execution import Bounds
from reconciler.restore.execute.tar import FileLengthError
from tests.support.blueprints import step
from tests.support.rescue import BOUNDS, SLOT, Looking, request, verdicts
from tests.support.seen import manifest
from tests.support.service import kv_blueprint, shell, stateful_set, with_bare_container
from tests.support.shop import BLUEPRINT, furnish, look, pod_of, say

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(living):
    """A wiki with files in a claim and a data service with rows, captured."""
    furnish(living)
    living.capture(blueprints=[BLUEPRINT])
    return living


def test_files_and_rows_come_back_before_anybody_starts_on_them(shop):
    """Claims are filled before the wiki starts; the service runs before its rows are loaded, and is verified."""
    before = look(shop)
    shop.delete_namespace()

    plan = shop.plan(request())
    assert {c.name: (c.verdict, c.reason) for c in plan.contents} == {
        "volume/pages": ("load", "New"),
        "content/kv/StatefulSet.kv/table": ("load", "New"),
    }
    result = shop.execution(request(), plan).run()

    assert (result.phase, result.message) == ("Succeeded", "")
    assert {o.reason for o in result.outcomes if "content" in o.item} == {"Verified"}
    assert {o.reason for o in result.outcomes if o.item.startswith("volume/")} == {"Filled"}
    assert look(shop) == before
    kind = shop.town.kind("v1", "Pod")
    names = [
        p["metadata"]["name"]
        for page in shop.town.cluster.pages(kind, namespace="shop")
        for p in page.items
    ]
    assert not [name for name in names if name.startswith("reconciler-")], "the filler is gone"


def test_into_another_namespace_beside_the_first(shop):
    """A copy has the same contents; the original goes on undisturbed."""
    before = look(shop)
    say(shop, pod_of(shop, "kv"), "echo b=2 >> /data/table")

    assert shop.restore(request(to={"namespace": "copy"})).phase == "Succeeded"
    assert look(shop, "copy") == before
    assert look(shop)[1] == "a=1\nb=2\n"


def test_a_volume_in_use_is_never_written(shop):
    """In place the wiki's volume is blocked, the live service is cleared and loaded; twice gives the same."""
    say(shop, pod_of(shop, "wiki"), "echo changed > /pages/home")
    say(shop, pod_of(shop, "kv"), "echo b=2 >> /data/table")
    for _ in range(2):
        plan = shop.plan(request())
        assert {c.name: c.reason for c in plan.contents} == {
            "volume/pages": "VolumeInUse",
            "content/kv/StatefulSet.kv/table": "Replaces",
        }
        assert shop.execution(request(), plan).run().phase == "Partial"
        files, rows = look(shop)
        assert "changed" in files
        assert rows == "a=1\n"


def test_no_run_starts_while_rows_are_loaded(shop):
    """A CronJob that the point lacks and that names nothing of it is suspended too: its runs may ask the service."""
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "i"}]}}
    spec = {"schedule": "7 * * * *", "jobTemplate": {"spec": {"template": template}}}
    shop.town.create(manifest("CronJob", "cleaner", api="batch/v1", spec=spec))
    say(shop, pod_of(shop, "kv"), "echo b=2 >> /data/table")
    seen = set()

    def note():
        cron = shop.town.get("batch/v1", "CronJob", "cleaner")
        seen.add(cron["spec"].get("suspend", False))

    asked = request(include={"contents": ["content/kv/StatefulSet.kv/table"]})
    looking = Looking(shop.town.cluster, note, kinds=None, effects=("execute",))
    result = shop.execution(asked, shop.plan(asked), cluster=looking).run()

    assert result.phase == "Succeeded"
    assert look(shop)[1] == "a=1\n"
    assert seen == {True}
    assert not shop.town.get("batch/v1", "CronJob", "cleaner")["spec"].get("suspend", False)


def test_a_volume_is_filled_while_its_workload_is_paused(shop):
    """Named under `pause`, what mounts it is stopped, and starts again on the old files."""
    before = look(shop)
    say(shop, pod_of(shop, "wiki"), "echo spoiled > /pages/home")
    claims = {"objects": [{"kinds": ["PersistentVolumeClaim"]}], "contents": ["volume/pages"]}
    named = {"kind": "Deployment", "namespace": "shop", "name": "wiki"}
    (content,) = shop.plan(request(include=claims)).contents
    assert (content.verdict, content.reason) == ("blocked", "VolumeInUse")
    assert "spec.pause" in content.hint

    result = shop.restore(request(include=claims, pause=[named]))

    assert (result.phase, result.message) == ("Succeeded", "")
    assert shop.town.get("apps/v1", "Deployment", "wiki")["spec"]["replicas"] == 1
    assert look(shop) == before


def test_a_workload_to_be_recreated_lets_go_of_its_volume(shop):
    """Under `recreate` a workload that differs goes first, its claim is cleared and filled, then it is made again."""
    before = look(shop)
    town = shop.town
    say(shop, pod_of(shop, "wiki"), "echo changed > /pages/home; touch /pages/extra")
    body = {"spec": {"template": {"metadata": {"labels": {"version": "2"}}}}}
    town.patch("apps/v1", "Deployment", "wiki", body)
    asked = request(onConflict="recreate", include={"contents": ["pages"]})

    plan = shop.plan(asked)
    assert verdicts(plan)["Deployment/wiki"] == ("recreate", "Differs")
    result = shop.execution(asked, plan).run()

    assert (result.phase, result.message) == ("Succeeded", "")
    assert look(shop)[0] == before[0]


def test_scaled_down_a_volume_is_cleared_and_filled(shop):
    """With nobody on it the claim becomes as captured: what was added since is gone."""
    town = shop.town
    pod_of(shop, "wiki")
    say(shop, pod_of(shop, "wiki"), "touch /pages/extra; echo x > /pages/sub/more")
    town.patch("apps/v1", "Deployment", "wiki", {"spec": {"replicas": 0}})
    kind = town.kind("v1", "Pod")
    town.wait(
        lambda: (
            not [
                p
                for page in town.cluster.pages(kind, namespace="shop", label_selector="app=wiki")
                for p in page.items
            ]
        ),
        "the wiki has stopped",
    )

    assert shop.restore(request(include={"contents": ["pages"]})).phase == "Succeeded"
    assert "extra" not in look(shop)[0]
    assert "more" not in look(shop)[0]


def test_nothing_starts_on_a_volume_that_could_not_be_filled(shop):
    """A content that fails takes along the workload that mounts it, and nothing else."""
    shop.delete_namespace()
    plan = shop.plan(request())
    run = shop.execution(request(), plan)

    class Broken:
        def fill(self, *_args, **_kwargs):
            raise FileLengthError("read home: 1 bytes instead of 2")

        load = run.contents.load

    run.contents = Broken()
    result = run.run()

    failed = {o.item: o.reason for o in result.outcomes if o.result == "Failed"}
    assert result.phase == "Partial"
    assert failed == {"volume/pages": "FileLength", "apps/Deployment/shop/wiki": "NeedFailed"}
    assert shop.town.get("apps/v1", "Deployment", "wiki") is None


def test_a_service_whose_data_is_not_whole_fails(shop):
    """`verify` has the last word on a content."""
    wrong = kv_blueprint(verify=[step("ask", *shell("grep -q nowhere /data/table"))])
    shop.capture(blueprints=[wrong], slot=SLOT + timedelta(hours=1))
    shop.delete_namespace()
    result = shop.restore(request())

    assert result.phase == "Partial"
    assert [o.item for o in result.outcomes if o.result == "Failed"] == [
        "content/kv/StatefulSet.kv/table"
    ]


def test_a_service_without_a_shell_is_told(living):
    """Artifacts that go into a container without a shell are a failure that says so; the workload is back."""
    service = with_bare_container(stateful_set())
    living.town.create(manifest("Namespace", "shop", namespace=""), service)
    say(living, pod_of(living, "kv"), "echo a=1 > /data/table")
    load = [step("load", "cat", artifact="table", container="bare")]
    living.capture(blueprints=[kv_blueprint(restore=load)])
    living.delete_namespace()
    result = living.restore(request())

    assert result.phase == "Partial"
    (outcome,) = [o for o in result.outcomes if o.result == "Failed"]
    assert (outcome.item, outcome.reason) == ("content/kv/StatefulSet.kv/table", "NoShell")
    assert "its container has no sh" in outcome.message
    assert pod_of(living, "kv") == "kv-0"


def test_a_workload_that_does_not_get_ready_makes_it_partial(living):
    """Succeeded means that workloads are Ready within the bound; the cause is told."""
    town = living.town
    container = {
        "name": "a",
        "image": "a:1",
        "command": ["sh", "-c", "exit 1"],
    }
    spec = {
        "replicas": 1,
        "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [container]}},
    }
    town.create(
        manifest("Namespace", "shop", namespace=""),
        manifest("Deployment", "a", api="apps/v1", spec=spec),
    )
    living.capture()
    living.delete_namespace()
    result = living.restore(request(), bounds=Bounds(**{**vars(BOUNDS), "ready_s": 1.0}))

    assert result.phase == "Partial"
    assert [(o.item, o.reason) for o in result.outcomes if o.result == "Failed"] == [
        ("apps/Deployment/shop/a", "NotReady")
    ]


def test_blueprints_without_verify_say_loaded(living):
    """What nobody can verify is not called verified."""
    living.town.create(manifest("Namespace", "shop", namespace=""), stateful_set())
    say(living, pod_of(living, "kv"), "echo a=1 > /data/table")
    living.capture(blueprints=[kv_blueprint()])
    living.delete_namespace()
    result = living.restore(request())

    assert result.phase == "Succeeded"
    assert [o.reason for o in result.outcomes if o.item.startswith("content/")] == ["Loaded"]
