"""The main job with a bucket as location: made ready, captured into, destroyed, restored from, verified, pruned."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest

from reconciler.cli.compose import Parts
from reconciler.cluster.sandbox.server import Sandbox
from reconciler.daemon.settings import load_configuration
from tests.support.buckets import PASSWORD, USER
from tests.support.command import reconciler
from tests.support.passes import told
from tests.support.world import LOCATION, PASSPHRASE, World


@pytest.fixture
def world(minio, bucket, tmp_path):
    """A small world whose location is a bucket; the access key lies in files, as a mounted Secret would."""
    url = minio.url(bucket, "clusters/town")
    with Sandbox(tmp_path / "sandbox", name="town", processes=False) as sandbox:
        made = World(tmp_path, sandbox)
        made.write("locations/primary.yaml", LOCATION % url)
        made.merge("a bucket")
        (tmp_path / "key-id").write_text(f"{USER}\n")
        (tmp_path / "key").write_text(f"{PASSWORD}\n")
        key = "{accessKeyId: {file: key-id}, secretAccessKey: {file: key}}"
        made.config.write_text(f"{made.config.read_text()}credentials: {{primary: {key}}}\n")
        made.url = url
        made.settle("shop")
        yield made
        made.cluster.close()


def run(world, *argv, key=True):
    """The CLI as a process; its environment has the access key, or not."""
    given = {"AWS_ACCESS_KEY_ID": USER, "AWS_SECRET_ACCESS_KEY": PASSWORD} if key else {}
    return reconciler(*argv, **given, RECONCILER_PASSPHRASE=PASSPHRASE)


def passing(world):
    return world.run_pass(Parts(load_configuration(world.config), clock=world.clock))


def test_the_whole_way_in_a_bucket(world):
    """Keys by the CLI, captures by the daemon, a destroyed namespace back, `verify`, `prune`; the second capture is small."""
    made = run(world, "keys", "init", "--location", world.url)
    assert made.code == 0, made.err
    first = passing(world)
    world.edit("shop", "c0", "changed")
    world.clock.advance(timedelta(hours=1))
    second = passing(world)
    assert told(first) == told(second) == [("shop", "Succeeded")]
    assert second.captured[0].added_bytes < first.captured[0].added_bytes
    before = world.data("shop")

    world.destroy("shop")
    world.ask_restore("shop")
    report = passing(world)
    assert [line.phase for line in report.restored] == ["Succeeded"]
    assert world.data("shop") == before

    listed = run(world, "get", "points", "--location", world.url, "-o", "json")
    assert listed.code == 0, listed.err
    assert len(json.loads(listed.out)["items"]) >= 2
    checked = run(
        world, "--config", str(world.config), "verify", "--all", "--read-data", "100%", key=False
    )
    assert checked.code == 0, checked.err + checked.out
    pruned = run(world, "--config", str(world.config), "prune", "--dry-run", key=False)
    assert pruned.code == 0, pruned.err


def test_two_daemons_make_one_point(world):
    """Two processes capture the same slot into a bucket: one point, and both ledgers' heads agree on it."""
    assert run(world, "keys", "init", "--location", world.url).code == 0
    parts = [Parts(load_configuration(world.config), clock=world.clock)]
    other = world.root / "other.yaml"
    other.write_text(world.config.read_text().replace("workDirectory: work", "workDirectory: else"))
    parts.append(Parts(load_configuration(other), clock=world.clock))
    threads = [threading.Thread(target=world.run_pass, args=(one,)) for one in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    listed = run(world, "get", "points", "--location", world.url, "-o", "json")
    assert [item["application"] for item in json.loads(listed.out)["items"]] == ["shop/_"]


def test_without_a_key_it_is_told(world):
    """A wrong key: exit code 12 from the CLI, a problem of the location in the daemon, and the key is nowhere."""
    assert run(world, "keys", "init", "--location", world.url).code == 0
    wrong = reconciler(
        "get",
        "points",
        "--location",
        world.url,
        AWS_ACCESS_KEY_ID=USER,
        AWS_SECRET_ACCESS_KEY="wrong-key-0123",
        RECONCILER_PASSPHRASE=PASSPHRASE,
    )
    (world.root / "key").write_text("wrong-key-0123\n")
    report = passing(world)
    (world.root / "key").unlink()
    gone = passing(world)

    assert wrong.code == 12
    assert "AWS_ACCESS_KEY_ID" in wrong.err
    assert "wrong-key-0123" not in wrong.err
    [problem] = [p for p in report.problems if p.where == "location primary"]
    assert "wrong-key-0123" not in f"{problem.message} {problem.hint}"
    assert any("access key of primary" in p.message for p in gone.problems)


def test_a_bucket_that_is_missing_is_told(world, minio):
    """Exit code 10 and what to do, before a passphrase is asked for."""
    nowhere = run(world, "get", "points", "--location", minio.url("b-nowhere"))
    assert nowhere.code == 10
    assert "make the bucket" in nowhere.err
