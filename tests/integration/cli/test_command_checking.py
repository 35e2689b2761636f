"""verify, prune, doctor, and how commands fail."""

from __future__ import annotations

import json
import subprocess
from datetime import timedelta

import pytest

from reconciler.restore.plan.mark import marked
from reconciler.store.content import open_store
from tests.support.passes import view_of
from tests.support.seen import manifest
from tests.support.world import PASSPHRASE, POLICY, git

HOUR = timedelta(hours=1)


def objects(hall, part):
    """Files of the location below a folder of its domain."""
    found = sorted((hall.world.root / "location/domains").glob(f"*/{part}/**/*"))
    return [path for path in found if path.is_file()]


def flip(path, *, at=None):
    """Change one byte."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 0x40
    path.chmod(0o644)
    path.write_bytes(bytes(data))


class TestVerify:
    """What is stored is what was written."""

    def test_sound(self, hall):
        """A sound location and ledger: 0, nothing on stdout."""
        answer = hall("verify", "--all", "--read-data", "100%")

        assert (answer.code, answer.out) == (0, "")
        assert "0 faults" in answer.err
        assert hall("verify", "shop/_/latest").code == 0

    @pytest.mark.parametrize("part", ["packs", "index", "points"])
    def test_a_flipped_byte_is_found_and_named(self, hall, part):
        """One flipped byte in any object of the location: 1, and the object by its name, as text and JSON."""
        target = objects(hall, part)[-1]
        flip(target)
        name = target.relative_to(hall.world.root / "location").as_posix()
        answer = hall("verify", "--all", "--read-data", "100%")
        found = json.loads(hall("verify", "--all", "--read-data", "100%", "-o", "json").out)

        assert answer.code == 1
        assert name in answer.out
        assert name in {item["object"] for item in found["items"]}

    def test_a_flipped_byte_of_a_point_breaks_that_point(self, hall):
        """`verify POINT` finds what concerns it."""
        flip(objects(hall, "packs")[0])

        answer = hall("verify", "shop/_/latest", "--read-data", "100%")
        assert answer.code == 1
        assert "packs/" in answer.out
        assert "from another location" in answer.err
        assert "another clone" not in answer.err

    def test_an_edited_manifest_in_the_ledger(self, hall):
        """A restore point's manifest that somebody edited on the ledger branch is named."""
        path = tamper(hall, lambda text: text.replace("phase: Succeeded", "phase: Partial"))
        answer = hall("verify", "--all")

        assert answer.code == 1
        assert path in answer.out
        assert "rewritten" in answer.out
        assert "another clone" in answer.err
        assert "from another location" not in answer.err

    def test_a_location_that_is_gone_does_not_hide_the_ledger(self, hall):
        """With the location away the ledger is checked all the same, and the location is named."""
        (hall.world.root / "location").rename(hall.world.root / "elsewhere")
        answer = hall("verify", "--all")

        path = tamper(hall, lambda text: text.replace("phase: Succeeded", "phase: Partial"))
        both = hall("verify", "--all")

        assert answer.code == 10
        assert "primary: not verified" in answer.err
        assert both.code == 1
        assert path in both.out

    def test_without_git(self, hall):
        """`--location` verifies the store alone."""
        url = (hall.world.root / "location").as_uri()
        key = str(hall.world.root / "passphrase")
        sound = hall("verify", "--all", "--location", url, "--passphrase-file", key)
        objects(hall, "packs")[0].unlink()
        broken = hall("verify", "--all", "--location", url, "--passphrase-file", key)

        assert sound.code == 0, sound.err
        assert broken.code == 1
        assert "packs/" in broken.out


def tamper(hall, change):
    """A rogue commit on the ledger branch that edits a restore point's manifest; its path."""
    clone = hall.world.root / "rogue"
    git("clone", "-q", "-b", "restore-points/town", str(hall.world.root / "ledger.git"), str(clone))
    (file,) = clone.glob("restore-points/town/shop/**/*.yaml")
    before = file.read_text()
    file.write_text(change(before))
    assert file.read_text() != before
    git("commit", "-q", "-a", "-m", "nothing to see here", cwd=clone)
    git("push", "-q", "origin", "HEAD", cwd=clone)
    return file.relative_to(clone).as_posix()


class TestPrune:
    """Content that nothing needs."""

    @pytest.fixture
    def retired(self, hall):
        """Two retired points and one that lives; nothing needs to be old before it goes."""
        config = hall.world.config
        config.write_text(config.read_text() + "prune: {minAge: 0s, grace: 0s}\n")
        hall.world.write("policies/gold.yaml", POLICY % 1)
        hall.world.merge("keep one")
        for number in range(2):
            hall.world.edit("shop", "c1", f"round {number}")
            hall.world.clock.advance(HOUR)
            hall.world.run_pass()
        return hall

    def stored(self, hall):
        """Points of the store."""
        store = open_store(hall.world.storage, PASSPHRASE, clock=hall.world.clock)
        assert list(store.verify(read_data=1.0)) == []
        return [point.slot for point in store.points()]

    def test_dry_run_and_then(self, retired):
        """`--dry-run` says what would go and deletes nothing; then it goes, with a record, and what lives is sound."""
        before = self.stored(retired)
        dry = retired("prune", "--dry-run")
        still = self.stored(retired)
        done = retired("prune")
        view = view_of(retired.world)

        assert len(before) == 3
        assert dry.code == 0, dry.err
        assert "2 points" in dry.out
        assert still == before
        assert done.code == 0, done.err
        assert "2 points" in done.out
        assert self.stored(retired) == before[-1:]
        assert [r.spec.points_deleted for r in view.records("PruneRecord")] == [2]

    def test_without_a_ledger_nothing_goes(self, retired):
        """When the ledger is empty nothing says what may go: 4, and all stays."""
        subprocess.run(["rm", "-rf", str(retired.world.root / "ledger.git")], check=True)
        subprocess.run(["rm", "-rf", str(retired.world.root / "work")], check=True)
        git("init", "-q", "--bare", str(retired.world.root / "ledger.git"))
        answer = retired("prune")

        assert answer.code == 4
        assert len(self.stored(retired)) == 3


class TestDoctor:
    """Is everything reachable?"""

    def test_all_well(self, hall):
        """Every part is looked at and found well."""
        answer = hall("doctor")

        assert answer.code in (0, 1)
        for what in ("configuration", "ledger", "sources", "location primary", "cluster town"):
            assert f"✔ {what}" in answer.out, answer.out

    def test_what_a_restore_left_held_back_is_listed(self, hall):
        """The object, who holds it and the command that puts it back, for a restore that never goes on."""
        template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "m", "image": "i"}]}}
        spec = {"schedule": "7 * * * *", "jobTemplate": {"spec": {"template": template}}}
        made = manifest("CronJob", "report", api="batch/v1", spec=spec)
        for owned in ("uid", "resourceVersion"):
            del made["metadata"][owned]
        hall.world.objects(marked(made, restore="main/shop/inc-1#1"))
        answer = hall("doctor")

        assert "CronJob.batch shop/report is suspended by restore main/shop/inc-1#1" in answer.out
        assert "kubectl -n shop patch cronjob.batch report" in answer.out

    def test_everything_at_fault_is_said_at_once(self, hall):
        """A location, a policy and the cluster at fault: all three are named, with what to do."""
        (hall.world.root / "location").rename(hall.world.root / "elsewhere")
        hall.world.write("policies/gold.yaml", "apiVersion: backup.reconciler.dev/v1alpha1\n")
        hall.world.merge("broken")
        hall.world.sandbox.faults.add("answer", "", value=401, times=100_000)
        answer = hall("doctor")

        assert answer.code == 1
        assert "policies/gold.yaml" in answer.out
        assert "✗ location primary" in answer.out
        assert "✗ cluster" in answer.out
        assert answer.out.count("next:") >= 3


ERRORS = [
    (("get", "points", "Shop!"), 2),
    (("get", "nothing"), 2),
    (("describe", "shop"), 2),
    (("describe", "thing/shop"), 2),
    (("describe", "app/a/b/c"), 2),
    (("get", "points", "a/b/c"), 2),
    (("restore", "new", "shop/_/latest", "--reason", "r" * 501), 2),
    (("hold", "shop/_/latest", "--reason", "r", "--owner", "o", "--name", "Not A Name"), 2),
    (("diff", "shop/_/20200101T000000Z", "--live"), 2),
    (("diff", "a/b/c/d", "--live"), 2),
    (("hold", "shop/_/latest"), 2),
    (("capture", "a/b/c"), 2),
    (("capture", "Not A Name"), 2),
    (("restore", "plan", "nowhere/_/latest"), 2),
    (("restore", "plan", "restores/nothere.yaml"), 2),
    (("restore", "run", "nothere.yaml"), 2),
    (("restore", "run", "./nothere"), 2),
    (("restore", "run", "shop/_/latest", "--break-glass"), 2),
    (("restore", "run", "shop/_/latest", "--yes", "--reason", "r", "--transform", "none"), 2),
    (("restore", "new", "nowhere", "--reason", "r"), 2),
    (("restore", "plan", "shop/_/latest", "--to", "Not A Name"), 2),
    (("verify",), 2),
    (("verify", "--all", "--read-data", "lots"), 2),
    (("verify", "nowhere/_/latest"), 2),
    (("get", "points", "--location", "gs://bucket"), 2),
    (("get", "points", "--location", "file:///nowhere/at/all"), 10),
    (("frobnicate",), 2),
    (("schema", "Blob"), 2),
    (("lint", "/nowhere/at/all"), 2),
]


@pytest.mark.parametrize(("argv", "code"), ERRORS, ids=[" ".join(argv) for argv, _ in ERRORS])
def test_every_error_says_what_to_do_next(shown, argv, code):
    """No error without its exit code, and none without a hint."""
    answer = shown(*argv, RECONCILER_PASSPHRASE=PASSPHRASE)

    assert answer.code == code, answer.err
    assert "next:" in answer.err


def test_a_wrong_passphrase_is_twelve(shown):
    """A key that does not open: 12."""
    url = (shown.world.root / "location").as_uri()
    answer = shown("get", "points", "--location", url, RECONCILER_PASSPHRASE="quite another one")

    assert answer.code == 12
    assert "quite another one" not in answer.err
