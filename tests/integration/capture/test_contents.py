"""Volumes and data services, read from real processes."""

from __future__ import annotations

import shutil
import threading

import pytest

from reconciler.blueprint.stop import StoppedError
from reconciler.capture.watches import Watches
from reconciler.clock import SystemClock
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.sandbox.server import Sandbox
from reconciler.kinds.blueprint import Blueprint
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import StorageFullError
from tests.support.blueprints import step
from tests.support.capturing import Shelf, outcomes
from tests.support.sandbox import open_directory
from tests.support.seen import manifest, policy
from tests.support.service import kv_blueprint, shell, stateful_set, with_bare_container
from tests.support.town import Town, key

ARTIFACT = "content/kv/StatefulSet.kv/table"


@pytest.fixture
def shop(tmp_path):
    """A namespace whose containers are processes: the small data service, Ready, its table with two rows."""
    directory = open_directory()
    try:
        with Sandbox(directory, name="town", processes=True) as sandbox:
            path = sandbox.write_kubeconfig(tmp_path / "kubeconfig")
            with connect(name="town", kubeconfig=path, sleep=lambda _: None) as cluster:
                town = Town(sandbox, cluster)
                town.create(manifest("Namespace", "shop", namespace=""), stateful_set())
                town.wait_ready("kv-0")
                folder = directory_of(town, "data-kv-0")
                town.wait((folder / "table").exists, "the service to make its table")
                (folder / "table").write_text("a=1\nb=2\n")
                yield town
    finally:
        shutil.rmtree(directory)


def directory_of(town, claim):
    """The real directory of a claim."""
    return (
        town.sandbox.directory
        / "volumes"
        / town.get("v1", "PersistentVolumeClaim", claim)["spec"]["volumeName"]
    )


def claim(name, **spec):
    body = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, **spec}
    return manifest("PersistentVolumeClaim", name, spec=body)


def files(town, name, contents):
    """A bound claim with these files, which no pod mounts."""
    town.create(claim(name))
    town.wait(
        lambda: (
            town.get("v1", "PersistentVolumeClaim", name).get("status", {}).get("phase") == "Bound"
        ),
        "the claim to bind",
    )
    folder = directory_of(town, name)
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def pods(town):
    kind = town.kind("v1", "Pod")
    return [
        pod["metadata"]["name"]
        for page in town.cluster.pages(kind, namespace="shop")
        for pod in page.items
    ]


def test_a_service_is_captured_by_its_blueprint(shop):
    """Its artifact is stored, the volume that it stands for is not read again, and the point carries the blueprint."""
    shelf = Shelf(shop)
    captured = shelf.capture(blueprints=[kv_blueprint()])
    (content,) = shelf.point(captured).contents

    assert captured.record.phase == "Succeeded"
    assert shelf.stream(captured, ARTIFACT) == b"a=1\nb=2\n"
    assert outcomes(captured, "Skipped") == [("volume/data-kv-0", "CoveredByBlueprint")]
    assert content.workload == key("StatefulSet", "kv", group="apps").path
    assert Blueprint.model_validate(content.blueprint) == kv_blueprint()
    assert [(a.name, a.form, a.size_bytes) for a in captured.record.artifacts] == [
        (ARTIFACT, "stream", 8)
    ]
    assert captured.record.artifacts[0].consistent_at == shelf.clock.now()


def test_what_changes_while_contents_are_read_is_named(shop):
    """With watches: an object that is other than in the point, whose contents are newer, is told by name."""
    shop.create(manifest("ConfigMap", "early", data={"a": "1"}))
    watches = Watches(worth_bytes=0)
    try:
        uid = shop.cluster.uid()
        seen = watches.observe(shop.cluster, shop.discovery, uid=uid, clock=SystemClock())
        shop.patch("v1", "ConfigMap", "early", {"data": {"a": "2"}})
        shop.wait(lambda: watches.changed("shop", seen), "the change to be told")
        captured = Shelf(shop).capture(
            blueprints=[without_quiesce(kv_blueprint())],
            observation=seen,
            changed=watches.changed,
        )
    finally:
        watches.close()

    assert captured.record.phase == "Succeeded"
    [told] = [o for o in captured.record.outcomes if o.reason == "ChangedDuringCapture"]
    assert told.item == key("ConfigMap", "early").path


def without_quiesce(blueprint):
    """The blueprint of a service that is not held still, so that its namespace is not listed again."""
    body = blueprint.model_dump(mode="json", by_alias=True, exclude_none=True)
    for action in ("quiesce", "resume"):
        body["spec"]["actions"].pop(action, None)
    return Blueprint.model_validate(body)


def test_without_a_blueprint_the_files_are_read_where_they_are_mounted(shop):
    """Through the pod that runs; such a tree is as of no single instant."""
    folder = directory_of(shop, "data-kv-0")
    (folder / "sub").mkdir()
    (folder / "sub" / "link").symlink_to("../table")
    (folder / "big").write_bytes(bytes(range(256)) * 8192)
    shelf = Shelf(shop)
    captured = shelf.capture(
        policy=policy("p", capture={"blueprints": []}), blueprints=[kv_blueprint()]
    )
    tree = shelf.tree(captured, "volume/data-kv-0")

    assert captured.record.phase == "Succeeded"
    assert tree["table"] == b"a=1\nb=2\n"
    assert tree["big"] == bytes(range(256)) * 8192
    assert (tree["sub"], tree["sub/link"]) == ("directory", "symlink")
    assert [(a.name, a.form, a.consistent_at) for a in captured.record.artifacts] == [
        ("volume/data-kv-0", "tree", None)
    ]
    assert pods(shop) == ["kv-0"]


def test_a_claim_that_nobody_mounts_is_read_by_a_pod_of_its_own(shop):
    """A helper reads it and goes away; nobody wrote meanwhile, so the instant is known."""
    files(shop, "archive", {"a/b.txt": b"hello"})
    shelf = Shelf(shop)
    captured = shelf.capture(blueprints=[kv_blueprint()])
    artifact = next(a for a in captured.record.artifacts if a.name == "volume/archive")

    assert shelf.tree(captured, "volume/archive")["a/b.txt"] == b"hello"
    assert artifact.consistent_at == shelf.clock.now()
    assert pods(shop) == ["kv-0"]
    assert not any(k.kind == "Pod" for k in shelf.objects(captured))


def test_claims_that_are_not_read_say_why(shop):
    """Skipped by a rule, not bound, a raw block device: each with its own reason, only the last a failure."""
    files(shop, "cache", {"x": b"1"})
    shop.create(claim("waiting", storageClassName="nowhere"), claim("raw", volumeMode="Block"))
    shop.wait(
        lambda: (
            shop.get("v1", "PersistentVolumeClaim", "raw").get("status", {}).get("phase") == "Bound"
        ),
        "raw to bind",
    )
    rules = {"volumes": [{"where": "volume.name == 'cache'", "action": "skip"}]}
    captured = Shelf(shop).capture(policy=policy("p", capture=rules), blueprints=[kv_blueprint()])

    assert captured.record.phase == "Partial"
    assert set(outcomes(captured)) >= {
        ("volume/cache", "SkippedByPolicy"),
        ("volume/waiting", "NotBound"),
        ("volume/raw", "NotSupported"),
    }
    assert outcomes(captured, "Failed") == [("volume/raw", "NotSupported")]


def test_a_stream_that_is_cut_once_is_read_again(shop):
    """Cut with exit code 0 in the middle: the second try gives the whole content, once."""
    (directory_of(shop, "data-kv-0") / "table").write_bytes(b"row\n" * 50_000)
    fault = shop.sandbox.faults.add("exec-cut-stdout", "exec.*table", value=5000)
    shelf = Shelf(shop)
    captured = shelf.capture(blueprints=[kv_blueprint()])

    assert fault.hits == 1
    assert captured.record.phase == "Succeeded"
    assert shelf.stream(captured, ARTIFACT) == b"row\n" * 50_000
    assert len(shelf.point(captured).contents) == 1


def test_a_stream_that_stays_cut_fails_that_content_alone(shop):
    """The artifact is not in the point and is named; the objects are there."""
    shop.sandbox.faults.add("exec-cut-stdout", "exec.*table", value=3, times=10)
    shelf = Shelf(shop)
    captured = shelf.capture(blueprints=[kv_blueprint()])

    assert captured.record.phase == "Partial"
    assert outcomes(captured, "Failed") == [("content/kv/StatefulSet.kv", "StreamCut")]
    assert captured.record.artifacts == []
    assert key("StatefulSet", "kv", group="apps") in shelf.objects(captured)


def test_files_that_are_cut_fail_that_volume_alone(shop):
    """An archive cut with exit code 0 is never a shorter tree."""
    shop.sandbox.faults.add("exec-cut-stdout", "exec", value=700, times=10)
    captured = Shelf(shop).capture()

    assert captured.record.phase == "Partial"
    assert [item for item, _ in outcomes(captured, "Failed")] == ["volume/data-kv-0"]
    assert captured.record.artifacts == []


def test_a_pod_that_dies_while_it_is_read_is_replaced_or_told(shop):
    """A pod killed in the middle: the content fails, the capture does not."""
    (directory_of(shop, "data-kv-0") / "table").write_bytes(b"x" * 5_000_000)
    shop.sandbox.faults.add("exec-kill-pod", "exec.*table", value=100_000, times=10)
    captured = Shelf(shop).capture(blueprints=[kv_blueprint()])

    assert captured.record.phase == "Partial"
    assert [item for item, _ in outcomes(captured, "Failed")] == ["content/kv/StatefulSet.kv"]


def test_a_volume_whose_pod_dies_is_read_again_elsewhere(shop):
    """The pod is killed in the middle of its files: the next try finds its successor, or reads by a helper."""
    (directory_of(shop, "data-kv-0") / "big").write_bytes(b"x" * 5_000_000)
    fault = shop.sandbox.faults.add("exec-kill-pod", "exec", value=100_000)
    shelf = Shelf(shop)
    captured = shelf.capture()

    assert fault.hits == 1
    assert captured.record.phase == "Succeeded"
    assert shelf.tree(captured, "volume/data-kv-0")["big"] == b"x" * 5_000_000


def test_an_image_without_a_shell_is_read_by_a_helper(shop):
    """A container that cannot send its files is no obstacle: a pod of our own reads them."""
    body = manifest(
        "Pod",
        "distroless",
        spec={
            "containers": [
                {"name": "c", "image": "x", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}
            ]
        },
    )
    body["spec"]["volumes"] = [{"name": "v", "persistentVolumeClaim": {"claimName": "archive"}}]
    body["spec"]["containers"][0]["env"] = [{"name": "PATH", "value": "/nowhere"}]
    body["spec"]["containers"][0]["command"] = [shutil.which("sleep"), "3600"]
    files(shop, "archive", {"f": b"hello"})
    shop.create(body)
    shop.wait_ready("distroless")
    shelf = Shelf(shop)
    captured = shelf.capture(blueprints=[kv_blueprint()])

    assert captured.record.phase == "Succeeded"
    assert shelf.tree(captured, "volume/archive") == {"f": b"hello"}


def test_a_service_without_a_shell_is_told(shop):
    """A blueprint's command in a container without a shell ends with that outcome, and the other service is captured."""
    shop.create(with_bare_container(stateful_set("kv-bare")))
    shop.wait_ready("kv-bare-0")
    dump = [step("dump", "cat", "/data/table", artifact="table", container="bare")]
    bare = kv_blueprint("bare", match="workload.metadata.name == 'kv-bare'", backup=dump)
    kv = kv_blueprint(match="workload.metadata.name == 'kv'")
    captured = Shelf(shop).capture(blueprints=[bare, kv])

    assert captured.record.phase == "Partial"
    (outcome,) = [o for o in captured.record.outcomes if o.result == "Failed"]
    assert (outcome.item, outcome.reason) == ("content/bare/StatefulSet.kv-bare", "NoShell")
    assert "its container has no sh" in outcome.message
    assert [a.name for a in captured.record.artifacts] == [ARTIFACT]


def test_a_failing_backup_fails_that_content(shop):
    """The command's exit code is a terminal failure; nothing that it printed of secrets is told."""
    broken = kv_blueprint(
        backup=[
            step(
                "dump",
                *shell("cat /data/table; echo password=hunter2 >&2; exit 4"),
                artifact="table",
            )
        ]
    )
    captured = Shelf(shop).capture(blueprints=[broken])

    assert outcomes(captured, "Failed") == [("content/kv/StatefulSet.kv", "CommandFailed")]
    assert "hunter2" not in str(captured.record)


def test_quiesce_holds_while_the_objects_are_read(shop):
    """The namespace is read again while the service is still; it is resumed before its contents are streamed."""
    write = "echo {0} >> /data/marks"
    blueprint = kv_blueprint(
        quiesce=[step("freeze", *shell(write.format("quiesce")))],
        resume=[step("thaw", *shell(write.format("resume")))],
        backup=[
            step("dump", *shell("echo backup >> /data/marks; cat /data/table"), artifact="table")
        ],
    )
    listed = shop.sandbox.faults.add("delay", "/api/v1/namespaces/shop/configmaps", value=0)
    captured = Shelf(shop).capture(blueprints=[blueprint])

    assert captured.record.phase == "Succeeded"
    assert listed.hits == 1
    assert (directory_of(shop, "data-kv-0") / "marks").read_text().split() == [
        "quiesce",
        "resume",
        "backup",
    ]


def test_resume_runs_when_quiesce_fails(shop):
    """A service that may be half frozen is thawed; the failure is told."""
    blueprint = kv_blueprint(
        quiesce=[step("freeze", *shell("touch /data/frozen; exit 1"))],
        resume=[step("thaw", "rm", "/data/frozen")],
    )
    captured = Shelf(shop).capture(blueprints=[blueprint])

    assert outcomes(captured, "Failed") == [("content/kv/StatefulSet.kv", "QuiesceFailed")]
    assert not (directory_of(shop, "data-kv-0") / "frozen").exists()
    assert [a.name for a in captured.record.artifacts] == [ARTIFACT]


def test_stop_in_the_middle_resumes_and_leaves_nothing(shop):
    """A stop while a service is held still: it is resumed, no point is made, no pod stays."""
    stop = threading.Event()
    folder = directory_of(shop, "data-kv-0")
    blueprint = kv_blueprint(
        quiesce=[step("freeze", *shell("touch /data/frozen; sleep 60"))],
        resume=[step("thaw", "rm", "-f", "/data/frozen")],
    )

    def stop_when_frozen():
        shop.wait((folder / "frozen").exists, "quiesce to begin")
        stop.set()

    watcher = threading.Thread(target=stop_when_frozen)
    watcher.start()
    shelf = Shelf(shop)
    with pytest.raises(StoppedError):
        shelf.capture(blueprints=[blueprint], stop=stop)
    watcher.join()

    assert not (folder / "frozen").exists()
    assert list(shelf.stores["primary"].points()) == []


def test_a_service_scaled_to_zero_is_captured_as_files(shop):
    """Nobody can be asked: its volume is read by a helper."""
    shop.patch("apps/v1", "StatefulSet", "kv", {"spec": {"replicas": 0}})
    shop.wait(lambda: "kv-0" not in pods(shop), "the pod to go")
    shelf = Shelf(shop)
    captured = shelf.capture(blueprints=[kv_blueprint()])

    assert captured.record.phase == "Succeeded"
    assert outcomes(captured) == [("content/kv/StatefulSet.kv", "ScaledToZero")]
    assert shelf.tree(captured, "volume/data-kv-0")["table"] == b"a=1\nb=2\n"


def test_contents_are_read_once_for_two_locations(shop):
    """Each location gets the whole of each content, from one run of the command."""
    files(shop, "archive", {f"f{i}": bytes([i]) * 20_000 for i in range(20)})
    blueprint = kv_blueprint(
        backup=[step("dump", *shell("echo run >> /data/runs; cat /data/table"), artifact="table")]
    )
    shelf = Shelf(shop, "primary", "offsite")
    captured = shelf.capture(blueprints=[blueprint])

    for location in ("primary", "offsite"):
        assert shelf.stream(captured, ARTIFACT, location) == b"a=1\nb=2\n"
        assert len(shelf.tree(captured, "volume/archive", location)) == 20
    assert (directory_of(shop, "data-kv-0") / "runs").read_text() == "run\n"


class SmallStorage(MemoryStorage):
    """A place with room for a first point only."""

    is_full = False

    def create(self, name, data):
        if self.is_full:
            raise StorageFullError(f"write {name}: no space left")
        super().create(name, data)


def test_a_location_that_fills_up_while_contents_come_drops_out(shop):
    """The other location gets everything."""
    shelf = Shelf(shop, "small", "primary", kinds={"small": SmallStorage})
    files(shop, "archive", {"blob": bytes(range(256)) * 100_000})
    shelf.storages["small"].is_full = True
    captured = shelf.capture(blueprints=[kv_blueprint()])

    assert outcomes(captured, "Failed") == [("location/small", "StorageFull")]
    assert shelf.tree(captured, "volume/archive")["blob"] == bytes(range(256)) * 100_000
    assert shelf.stream(captured, ARTIFACT) == b"a=1\nb=2\n"


def test_an_unchanged_volume_adds_little(shop):
    """The second capture of the same files stores no contents again."""
    files(shop, "archive", {f"f{i}": (b"%d " % i) * 30_000 for i in range(20)})
    shelf = Shelf(shop)
    first, second = (
        shelf.capture(blueprints=[kv_blueprint()]),
        shelf.capture(blueprints=[kv_blueprint()]),
    )

    assert second.record.full_bytes == first.record.full_bytes > 1_000_000
    assert second.added_bytes < 8192
