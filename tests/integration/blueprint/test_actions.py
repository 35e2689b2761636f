"""Actions of a blueprint, run in the container of a real process."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from reconciler.blueprint import actions, streams
from reconciler.blueprint.pods import NoReadyPodError, pod_of
from reconciler.blueprint.stop import StoppedError
from tests.support.blueprints import step
from tests.support.seen import manifest
from tests.support.service import kv_blueprint, shell, stateful_set

MARK = "echo {0} >> /data/marks"


def target_of(town, name="kv"):
    return pod_of(town.cluster, town.discovery, town.get("apps/v1", "StatefulSet", name))


def command(town, script, target=None):
    return streams.run(
        town.cluster, target or target_of(town), shell(script), timeout=timedelta(seconds=30)
    )


def mark(name):
    return step(name, *shell(MARK.format(name)))


def marks(town):
    return command(town, "cat /data/marks 2>/dev/null || true").decode().split()


def dump(town, blueprint, **options):
    taken = {}

    def sink(artifact, chunks):
        taken[artifact] = b"".join(chunks)

    actions.backup(blueprint, cluster=town.cluster, target=target_of(town), sink=sink, **options)
    return taken


def test_what_was_dumped_loads_again(shop):
    """backup gives the artifact, restore clears and loads it, verify asks the service."""
    verify = [step("count", *shell("test $(wc -l < /data/table) -eq 2"))]
    blueprint = kv_blueprint(verify=verify)
    command(shop, "printf 'a=1\\nb=2\\n' > /data/table")

    taken = dump(shop, blueprint)
    command(shop, "echo c=3 >> /data/table")
    with pytest.raises(actions.ActionFailedError):
        actions.verify(blueprint, cluster=shop.cluster, target=target_of(shop))
    actions.restore(
        blueprint,
        cluster=shop.cluster,
        target=target_of(shop),
        open_artifact=lambda name: iter([taken[name]]),
    )

    assert taken == {"table": b"a=1\nb=2\n"}
    assert command(shop, "cat /data/table") == b"a=1\nb=2\n"
    assert actions.verify(blueprint, cluster=shop.cluster, target=target_of(shop)) is True
    assert actions.quiesce(blueprint, cluster=shop.cluster, target=target_of(shop)) is False


def test_phases_run_in_order_and_finally_always(shop):
    """The first failure ends the action; the `finally` phases all run, also when one of them fails."""
    fail = step("fail", *shell("echo password=hunter2 >&2; exit 3"))
    good = kv_blueprint(
        backup=(
            [mark("one"), step("dump", *shell("cat /data/table"), artifact="table"), mark("two")],
            [mark("last")],
        )
    )
    bad = kv_blueprint(
        backup=([mark("three"), fail, mark("never")], [step("broken", "false"), mark("always")]),
        restore=[step("load", "true")],
    )

    dump(shop, good)
    with pytest.raises(actions.ActionFailedError) as caught:
        dump(shop, bad)

    assert marks(shop) == ["one", "two", "last", "three", "always"]
    assert "phase fail" in caught.value.message
    assert caught.value.reason == "CommandFailed"
    assert "hunter2" not in caught.value.message


def test_a_failing_finally_phase_fails_the_action(shop):
    """What must always run, and did not, is told."""
    with pytest.raises(actions.ActionFailedError, match="phase broken"):
        dump(
            shop,
            kv_blueprint(
                backup=(
                    [step("dump", *shell("true"), artifact="table")],
                    [step("broken", "false"), mark("after")],
                )
            ),
        )
    assert marks(shop) == ["after"]


def test_a_cut_stream_may_be_tried_again(shop):
    """stdout that is cut with exit code 0 is an error that may pass, never a short artifact."""
    command(shop, "head -c 100000 /dev/zero > /data/table")
    shop.sandbox.faults.add("exec-cut-stdout", "cat", value=1000)

    with pytest.raises(actions.ActionBrokenError):
        dump(shop, kv_blueprint())
    assert len(dump(shop, kv_blueprint())["table"]) == 100_000


def test_an_error_of_the_sink_is_not_the_services_fault(shop):
    """What the receiver raises comes through as it is, and `finally` still runs."""

    class FullError(Exception):
        pass

    def sink(artifact, chunks):
        next(chunks)
        raise FullError

    blueprint = kv_blueprint(
        backup=([step("dump", *shell("yes | head -c 1000000"), artifact="table")], [mark("last")])
    )
    with pytest.raises(FullError):
        actions.backup(blueprint, cluster=shop.cluster, target=target_of(shop), sink=sink)
    assert marks(shop) == ["last"]


def test_stop_ends_an_action_and_still_cleans_up(shop):
    """A stop in the middle of a phase ends it at once; the `finally` phases run."""
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    blueprint = kv_blueprint(
        backup=([step("dump", *shell("sleep 60"), artifact="table")], [mark("last")])
    )

    with pytest.raises(StoppedError):
        dump(shop, blueprint, stop=stop)
    assert marks(shop) == ["last"]


def test_a_phase_has_its_time(shop):
    """A command that takes longer than its timeout is ended."""
    blueprint = kv_blueprint(quiesce=[step("freeze", *shell("sleep 60"), timeout="1s")])

    with pytest.raises(actions.ActionBrokenError) as caught:
        actions.quiesce(blueprint, cluster=shop.cluster, target=target_of(shop))
    assert caught.value.reason == "CommandTimeout"


def test_streams_belong_to_backup_and_restore(shop):
    """A stream phase elsewhere is refused, not ignored."""
    blueprint = kv_blueprint(quiesce=[step("odd", "cat", artifact="table")])

    with pytest.raises(actions.ActionFailedError, match="not supported by this version"):
        actions.quiesce(blueprint, cluster=shop.cluster, target=target_of(shop))


def test_the_first_ready_pod_by_ordinal_is_asked(shop):
    """Of many pods the lowest ordinal; only pods of that workload; none Ready is an error that may pass."""
    shop.create(stateful_set("kvs", replicas=12))
    shop.wait_ready(*[f"kvs-{n}" for n in range(12)])
    impostor = manifest(
        "Pod", "a-0", labels={"app": "kvs"}, spec={"containers": [{"name": "c", "image": "x"}]}
    )
    shop.create(impostor)
    shop.wait_ready("a-0")

    assert target_of(shop, "kvs").pod == "kvs-0"
    assert pod_of(shop.cluster, shop.discovery, shop.get("v1", "Pod", "a-0")).pod == "a-0"
    with pytest.raises(NoReadyPodError):
        pod_of(shop.cluster, shop.discovery, manifest("Pod", "gone"))


def test_the_named_container_is_asked(shop):
    """`container` chooses; a container that does not exist is an error."""
    with pytest.raises(actions.ActionFailedError):
        dump(
            shop,
            kv_blueprint(
                backup=[
                    step("dump", "true", container="nobody"),
                    step("x", "true", artifact="table"),
                ]
            ),
        )
    assert dump(
        shop,
        kv_blueprint(backup=[step("dump", *shell("echo hi"), artifact="table", container="kv")]),
    ) == {"table": b"hi\n"}
