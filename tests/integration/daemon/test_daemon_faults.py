"""Locations, the API server and the ledger's remote at fault: said, recorded, and made up for later."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.cluster.kubernetes import connect
from reconciler.daemon.report import application_facts
from reconciler.errors import KeyRejectedError, LocationMissingError
from reconciler.git.remote import RemoteUnreachableError
from reconciler.ledger.chain import verify_chain
from reconciler.store.keys import init_location
from reconciler.store.memory import MemoryStorage
from reconciler.store.port import (
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from reconciler.store.storage import open_storage
from tests.support.gitremote import FlakyRemote
from tests.support.passes import (
    FaultyStorage,
    failures,
    metric,
    parts_with,
    problems,
    slots,
    told,
    view_of,
)
from tests.support.world import LOCATION, PASSPHRASE, POLICY, QUICK, git

HOUR = timedelta(hours=1)
SLOT = "20261123T060000Z"


class TestLocations:
    """Where content is kept."""

    @pytest.mark.parametrize(
        ("error", "reason"),
        [
            (StorageFullError("write pack: no space left on device"), "StorageFull"),
            (StorageReadOnlyError("write pack: read-only"), "StorageReadOnly"),
            (StorageUnavailableError("write pack: input/output error"), "StorageUnavailable"),
        ],
        ids=["full", "read-only", "flaky"],
    )
    def test_one_that_cannot_be_written(self, world, error, reason):
        """The failure is a record with its reason, metrics say so, and the slot is made good when there is room."""
        storage = FaultyStorage(world.storage, error)
        parts = parts_with(world, storage=lambda _url: storage)
        failed = world.run_pass(parts)
        down = metric(parts, "location_up", cluster="town", location="primary")
        storage.error = None
        world.clock.advance(timedelta(minutes=2))
        mended = world.run_pass(parts)

        assert storage.met
        assert told(failed) == [("shop", "Failed")]
        assert failed.exit_code == 6
        assert [(spec.attempt, spec.reason) for spec in failures(world, SLOT)] == [(1, reason)]
        assert down == 0
        assert told(mended) == [("shop", "Succeeded")]
        assert slots(world) == [SLOT]
        assert view_of(world).point("shop/_", SLOT).spec.attempt == 2
        assert metric(parts, "location_up", cluster="town", location="primary") == 1

    def test_one_that_is_missing(self, tmp_path, world):
        """A location whose directory is gone fails with that reason and never makes an empty one in its place."""
        parts = parts_with(world, storage=open_storage)
        report = world.run_pass(parts)

        assert told(report) == [("shop", "Failed")]
        assert failures(world, SLOT)[0].reason == "LocationMissing"
        assert not (tmp_path / "location").exists()

    def test_a_wrong_passphrase(self, world):
        """A passphrase that does not open the location is named as that, and shown nowhere."""
        (world.root / "passphrase").write_text("not the passphrase")
        report = world.run_pass()

        assert told(report) == [("shop", "Failed")]
        assert failures(world, SLOT)[0].reason == "KeyRejected"
        assert "not the passphrase" not in report.captured[0].message
        (world.root / "passphrase").write_text(PASSPHRASE)
        world.clock.advance(timedelta(minutes=2))
        assert told(world.run_pass()) == [("shop", "Succeeded")]

    @pytest.mark.parametrize(
        "error",
        [
            StorageFullError("write pack: no space left"),
            LocationMissingError("open location: gone"),
            KeyRejectedError("open location: no key opens it"),
        ],
        ids=lambda error: error.reason,
    )
    def test_another_location_works(self, world, error):
        """With one of two locations at fault the point is kept in the other, and is Partial with the fault named."""
        other = MemoryStorage(world.clock)
        init_location(other, PASSPHRASE, cost=QUICK)
        two_locations(world)
        bad = FaultyStorage(other, error, reads=not isinstance(error, StorageFullError))
        parts = parts_with(
            world, storage=lambda url: bad if url.endswith("second") else world.storage
        )
        report = world.run_pass(parts)
        spec = view_of(world).point("shop/_", SLOT).spec

        assert told(report) == [("shop", "Partial")]
        assert [ref.name for ref in spec.locations] == ["primary"]
        assert ("location/second", error.reason) in {(o.item, o.reason) for o in spec.outcomes}
        bad.error = None
        world.clock.advance(HOUR)
        assert told(world.run_pass(parts)) == [("shop", "Succeeded")]
        newest = view_of(world).latest("shop/_").spec
        assert [ref.name for ref in newest.locations] == ["primary", "second"]


def two_locations(world):
    """A second location, `second`, in the policy."""
    text = (POLICY % 24).replace(
        "  objectives", "    - {name: second, retention: {last: 24}}\n  objectives"
    )
    world.write("policies/gold.yaml", text)
    world.write("locations/second.yaml", LOCATION.replace("primary", "second") % "file:///second")
    config = world.config.read_text()
    world.config.write_text(
        config.replace(
            "{primary: {file: passphrase}}",
            "{primary: {file: passphrase}, second: {file: passphrase}}",
        )
    )
    world.merge("a second location")


class TestApiServer:
    """The cluster's side."""

    def test_401_is_said_and_passes(self, world):
        """A rejected credential stops nothing for ever: it is said, nothing is recorded as captured, later it works."""
        world.sandbox.faults.add("answer", "/api", value=401, times=1000)
        parts = world.parts()
        refused = world.run_pass(parts)
        world.sandbox.faults.clear()
        served = world.run_pass(parts)

        assert refused.captured == []
        assert "cluster" in problems(refused)
        assert "401" in problems(refused)
        assert refused.exit_code == 7
        assert told(served) == [("shop", "Succeeded")]

    @pytest.mark.parametrize("status", [429, 500, 503])
    def test_short_trouble_is_ridden_out(self, world, status):
        """One such answer to a list is tried again within the pass."""
        fault = world.sandbox.faults.add(
            "answer", "/configmaps", value=status, times=1, retry_after_s=0
        )
        report = world.run_pass()

        assert fault.hits == 1
        assert told(report) == [("shop", "Succeeded")]

    def test_500_on_one_kind_for_good(self, world):
        """A kind that cannot be listed makes the point Partial with the kind named; it loses nothing of the others."""
        world.sandbox.faults.add("answer", "/configmaps", value=500, times=1000)
        patient = connect(name="town", kubeconfig=world.kubeconfig, sleep=lambda _: None)
        report = world.run_pass(parts_with(world, cluster=patient))
        record = view_of(world).point("shop/_", SLOT).spec

        assert told(report) == [("shop", "Partial")]
        assert "kind/configmaps" in {o.item for o in record.outcomes}
        assert record.objects >= 2

    def test_a_cut_list_page(self, world):
        """A page whose connection is cut in the middle is read again; the point is whole."""
        fault = world.sandbox.faults.add("cut", "/configmaps", value=700)
        report = world.run_pass()
        record = view_of(world).point("shop/_", SLOT).spec

        assert fault.hits == 1
        assert told(report) == [("shop", "Succeeded")]
        assert record.objects >= 5

    def test_a_slow_server(self, world):
        """Slow answers only take time."""
        fault = world.sandbox.faults.add("delay", "/secrets", value=0.3, times=2)
        report = world.run_pass()

        assert fault.hits >= 1
        assert told(report) == [("shop", "Succeeded")]

    def test_gone_altogether(self, world):
        """A cluster that is away is a problem that blocks; sources and ledger go on, and later it is caught up."""
        world.sandbox.faults.add("drop", "", times=100_000)
        parts = world.parts()
        away = world.run_pass(parts)
        world.sandbox.faults.clear()
        back = world.run_pass(parts)

        assert away.exit_code == 7
        assert away.adoptions[0].revision
        assert away.pushed >= 1
        assert told(back) == [("shop", "Succeeded")]


class TestLedgerRemote:
    """Records that cannot leave."""

    def test_a_hook_refuses(self, world):
        """A push refused by a hook loses nothing: records stay pending, are counted and said, and follow later."""
        hook(world, "echo 'ledger is closed for the night' >&2; exit 1")
        parts = world.parts()
        refused = world.run_pass(parts)
        pending = metric(parts, "git_unpushed_commits", cluster="town")
        world.clock.advance(HOUR)
        world.run_pass(world.parts())
        (world.root / "ledger.git/hooks/pre-receive").unlink()
        pushed = world.run_pass(world.parts())

        assert told(refused) == [("shop", "Succeeded")]
        assert "ledger is closed for the night" in problems(refused)
        assert refused.exit_code == 6
        assert refused.pending == pending == 2
        assert pushed.captured == []
        assert (pushed.pushed, pushed.pending) == (3, 0)
        assert slots(world) == [SLOT, "20261123T070000Z"]
        assert verify_chain(view_of(world)) == []

    def test_away_at_the_first_start(self, world):
        """With an empty disk and no ledger nothing is captured or restored, and that is said."""
        (world.root / "ledger.git").rename(world.root / "ledger.away")
        report = world.run_pass()
        (world.root / "ledger.away").rename(world.root / "ledger.git")
        back = world.run_pass()

        assert report.captured == []
        assert "ledger" in problems(report)
        assert report.exit_code == 7
        assert any(problem.blocks for problem in report.problems)
        assert told(back) == [("shop", "Succeeded")]
        assert slots(world) == [SLOT]

    def test_away_after_it_was_known(self, world):
        """A daemon that knows the ledger goes on capturing while its remote is away, and pushes later."""
        parts = world.parts()
        world.run_pass(parts)
        (world.root / "ledger.git").rename(world.root / "ledger.away")
        world.clock.advance(HOUR)
        away = world.run_pass(world.parts())
        world.clock.advance(HOUR)
        world.run_pass(world.parts())
        (world.root / "ledger.away").rename(world.root / "ledger.git")
        back = world.run_pass(world.parts())

        assert told(away) == [("shop", "Succeeded")]
        assert away.pending == 1
        assert "ledger" in problems(away)
        assert away.exit_code == 7
        assert back.captured == []
        assert (back.pushed, back.pending) == (2, 0)
        assert len(slots(world)) == 3

    def test_away_in_the_middle(self, world):
        """A remote that goes between reading and writing costs nothing."""
        remote = FlakyRemote()
        remote.before_push = raise_unreachable
        parts = parts_with(world, remote=remote)
        away = world.run_pass(parts)
        remote.before_push = lambda: None
        back = world.run_pass(parts)

        assert told(away) == [("shop", "Succeeded")]
        assert away.pending == 2
        assert back.captured == []
        assert back.pushed == 2
        assert slots(world) == [SLOT]

    def test_no_restore_is_accepted_while_it_is_away(self, world):
        """A merged Restore waits until its acceptance can be pushed; then it runs once."""
        world.run_pass()
        world.edit("shop", "c1", "spoiled")
        world.ask_restore("shop")
        remote = FlakyRemote()
        remote.before_push = raise_unreachable
        parts = parts_with(world, remote=remote)
        away = world.run_pass(parts)
        spoiled = world.data("shop")["ConfigMap/c1"]["value"]
        remote.before_push = lambda: None
        back = world.run_pass(parts)

        assert [line.phase for line in away.restored] == ["Waiting"]
        assert spoiled == "spoiled"
        assert [line.phase for line in back.restored] == ["Succeeded"]
        assert world.data("shop")["ConfigMap/c1"]["value"] == "1"

    def test_rolled_back_on_the_remote(self, world):
        """A ledger branch that lost commits is refused loudly; nothing of ours is pushed over it, nothing is lost."""
        world.run_pass()
        first = ledger_tip(world)
        world.clock.advance(HOUR)
        world.run_pass()
        git("update-ref", BRANCH, first, cwd=world.root / "ledger.git")
        world.clock.advance(HOUR)
        parts = world.parts()
        report = world.run_pass(parts)

        assert "rolled back" in problems(report)
        assert report.exit_code == 6
        assert ledger_tip(world) == first
        assert told(report) == [("shop", "Succeeded")]
        assert len(parts.ledger.view().points("shop/_")) == 3

    def test_rolled_back_and_an_empty_disk(self, world):
        """A ledger that is behind what the store knows accepts no restore, and says so."""
        world.run_pass()
        first = ledger_tip(world)
        world.clock.advance(HOUR)
        world.run_pass()
        git("update-ref", BRANCH, first, cwd=world.root / "ledger.git")
        world.edit("shop", "c1", "spoiled")
        world.ask_restore("shop")
        report = world.run_pass(world.parts(work="empty"))

        assert [line.phase for line in report.restored] == ["Refused"]
        assert "behind the store" in report.restored[0].message
        assert world.data("shop")["ConfigMap/c1"]["value"] == "spoiled"
        assert slots(world) == [SLOT, "20261123T070000Z"], "the lost record was found in the store"


BRANCH = "refs/heads/restore-points/town"


def ledger_tip(world):
    """The newest commit of the ledger's remote."""
    return git("rev-parse", BRANCH, cwd=world.root / "ledger.git").strip()


def raise_unreachable():
    """The remote does not answer."""
    raise RemoteUnreachableError("push: away")


def hook(world, script):
    """A hook of the ledger's remote."""
    path = world.root / "ledger.git/hooks/pre-receive"
    path.parent.mkdir(exist_ok=True)
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


class TestClock:
    """A clock that jumps."""

    def test_a_year_ahead_and_a_day_back(self, world):
        """No jump doubles a point or retires beyond the breaker, and the chain stays whole."""
        for _ in range(3):
            world.run_pass()
            world.clock.advance(HOUR)
        world.clock.advance(timedelta(days=365))
        ahead = world.run_pass()
        again = world.run_pass()
        world.clock.advance(timedelta(days=-1))
        world.run_pass()
        world.run_pass()
        found = slots(world)

        assert told(ahead) == [("shop", "Succeeded")]
        assert again.captured == []
        assert len(found) == len(set(found)) == 5
        assert {SLOT, "20261123T070000Z", "20261123T080000Z"} < set(found)
        assert verify_chain(view_of(world)) == []

    def test_a_point_that_lies_ahead_stops_nothing(self, world):
        """After one jump into the future captures go on, freshness is not judged by it, and it is said."""
        world.run_pass()
        world.clock.advance(timedelta(days=365))
        world.run_pass()
        world.clock.advance(timedelta(days=-365) + HOUR)
        parts = world.parts()
        report = world.run_pass(parts)
        facts = application_facts(
            report.coverage, view=parts.ledger.view(), upcoming=[], now=world.clock.now()
        )
        shop = next(fact for fact in facts if fact.namespace == "shop")

        assert told(report) == [("shop", "Succeeded")]
        assert slots(world)[:2] == [SLOT, "20261123T070000Z"]
        assert shop.last_success_at == world.clock.now().replace(minute=0)
        assert "ahead of the clock" in shop.note

    def test_a_day_back_makes_nothing_twice(self, world):
        """A clock that goes back over hours that have points makes none of them again."""
        for _ in range(4):
            world.run_pass()
            world.clock.advance(HOUR)
        before = slots(world)
        world.clock.advance(-3 * HOUR)
        reports = []
        for _ in range(3):
            reports += world.run_pass().captured
            world.clock.advance(HOUR)

        assert [line.slot for line in reports] == []
        assert slots(world) == before
