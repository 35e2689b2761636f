"""The ledger against a real remote: pushing, races, refusals, absence, roll-back, damage, crashes."""

from __future__ import annotations

import shutil

import pytest

from reconciler.errors import LostRaceError
from reconciler.git.remote import PushResult, RemoteUnreachableError
from reconciler.ledger.chain import verify_chain
from reconciler.ledger.consumed import SupersededError
from reconciler.ledger.layout import RestoreKey
from reconciler.ledger.ledger import Entry, PushRefusedError, RolledBackError
from tests.support.gitremote import FlakyRemote, GitRemote, fsck, git
from tests.support.ledgers import adoption, failure, ledger, point, restore, retire

BRANCH = "restore-points/prod"
SHOP = "restore-points/prod/shop/_/2026/11"
KEY = RestoreKey("policies", "shop", "inc-4711", 1)


@pytest.fixture
def remote(tmp_path):
    return GitRemote(tmp_path / "remote.git")


@pytest.fixture
def one(tmp_path, remote):
    return ledger(tmp_path / "one", remote.url)


@pytest.fixture
def two(tmp_path, remote):
    return ledger(tmp_path / "two", remote.url)


def entries(*records):
    return [Entry(record) for record in records]


def test_many_records_one_push(one, remote):
    """Each record is a commit, all go up at once, and the remote has the files where the layout says."""
    one.refresh()
    made = one.append(entries(point(0), point(1), failure(2), restore("finished")))
    assert one.pending == 4
    assert one.push().pushed == 4
    assert one.pending == 0
    assert remote.tip(BRANCH) == made[-1]
    files = remote.files(BRANCH)
    assert f"{SHOP}/20261123T031700Z.yaml" in files
    assert "restores/prod/policies/shop/inc-4711/1/finished.yaml" in files
    assert any(
        path.startswith("records/prod/2026/11/20261123T051800Z-CaptureFailure-") for path in files
    )
    fsck(remote.path)
    assert verify_chain(one.view()) == []


def test_nothing_to_push(one):
    """A push of nothing is done at once."""
    one.refresh()
    assert one.push().pushed == 0
    assert one.append([]) == []


def test_an_empty_directory_gives_the_same_view(one, tmp_path, remote):
    """Everything the daemon knows is on the remote."""
    one.append(entries(point(0), point(1, application="wiki/web"), failure(2), adoption(3)))
    one.accept(restore())
    one.push()
    fresh = ledger(tmp_path / "fresh", remote.url)
    fresh.refresh()
    ours, theirs = one.view(), fresh.view()
    assert ours.tip == theirs.tip
    assert ours.points() == theirs.points()
    assert ours.restores() == theirs.restores()
    assert ours.adoption("policies") == theirs.adoption("policies")


def test_work_goes_on_while_the_remote_is_away(one, remote):
    """Records are kept here, seen here, and pushed when the remote is back."""
    one.append(entries(point(0)))
    one.push()
    remote.hide()
    with pytest.raises(RemoteUnreachableError):
        one.refresh()
    one.append(entries(point(1)))
    with pytest.raises(RemoteUnreachableError):
        one.push()
    assert (one.pending, len(one.view().points())) == (1, 2)
    remote.show()
    one.refresh()
    assert one.push().pushed == 1
    assert len(remote.log(BRANCH)) == 2


def test_pending_records_survive_a_restart(one, tmp_path, remote):
    """What was appended and not pushed is there after the process is gone."""
    one.append(entries(point(0)))
    again = ledger(tmp_path / "one", remote.url)
    assert again.pending == 1
    again.refresh()
    assert again.push().pushed == 1


def test_a_lost_race_is_placed_anew(one, two, remote):
    """The second writer's records follow the first's, with new places in the row; none is lost."""
    one.append(entries(point(0)))
    two.append(entries(point(1), failure(1)))
    one.push()
    assert two.push().pushed == 2
    one.refresh()
    assert [p.slot for p in one.view().points("shop")] == ["20261123T031700Z", "20261123T041700Z"]
    assert remote.log(BRANCH, "%(trailers:key=Seq,valueonly,separator=%x2C)") == ["3", "2", "1"]
    assert verify_chain(one.view()) == []
    fsck(remote.path)


def test_a_slot_has_one_point(one, two):
    """Of two points for one slot the first on the remote stays; the other is dropped and named."""
    one.append(entries(point(0)))
    two.append(entries(point(0, objects=1), point(1)))
    one.push()
    report = two.push()
    assert report.dropped == (f"{SHOP}/20261123T031700Z.yaml",)
    assert report.pushed == 1
    assert two.view().point("shop", "20261123T031700Z").spec.objects == 412
    assert two.append(entries(point(0), point(2)))[0] == ""
    assert two.push().dropped == (f"{SHOP}/20261123T031700Z.yaml",)
    assert two.push().dropped == ()


def test_a_point_retired_by_two(one, two):
    """A retirement that lost the race keeps only what it alone retires."""
    one.append(entries(point(0), point(1), point(2)))
    one.push()
    two.refresh()
    first, second, third = one.view().points()
    one.append([retire(one.view(), [first, second])])
    two.append([retire(two.view(), [second, third], hour=6)])
    one.push()
    two.push()
    view = two.view()
    assert view.points() == []
    assert sorted(r.slot for r in view.retired()) == [p.slot for p in (first, second, third)]
    assert verify_chain(view) == []


def test_a_slot_that_was_retired_meanwhile(one, two):
    """A late second point does not bring a slot back that was recorded and retired by another."""
    two.append(entries(point(0, objects=1)))
    one.append(entries(point(0)))
    one.append([retire(one.view(), one.view().points())])
    one.push()
    assert len(two.push().dropped) == 1
    assert two.view().points() == []


def test_a_retirement_that_is_no_longer_needed(one, two):
    """A retirement of points that are all gone is dropped."""
    one.append(entries(point(0)))
    one.push()
    two.refresh()
    entry = retire(one.view(), one.view().points())
    one.append([entry])
    two.append([retire(two.view(), two.view().points(), hour=7)])
    one.push()
    report = two.push()
    assert (report.pushed, len(report.dropped)) == (0, 1)
    assert len(two.view().retired()) == 1


def test_a_hook_refuses(one, remote):
    """A refusal is raised with the hook's words, never taken for success; what is pending stays."""
    one.append(entries(point(0)))
    remote.hook('echo "ledger is read-only during the audit" >&2; exit 1\n')
    with pytest.raises(PushRefusedError, match="read-only during the audit"):
        one.push()
    assert (one.pending, remote.tip(BRANCH)) == (1, None)
    remote.unhook()
    assert one.push().pushed == 1


def test_always_losing_ends(tmp_path, remote):
    """A writer that loses every race gives up after a bounded number of tries, with growing pauses."""
    flaky, pauses = FlakyRemote(), []
    flaky.after_push = lambda _: PushResult("lost", "again")
    here = ledger(tmp_path / "x", remote.url, remote=flaky, sleep=pauses.append)
    here.append(entries(point(0)))
    flaky.inner.push = lambda *a, **k: PushResult("lost", "again")
    with pytest.raises(LostRaceError):
        here.push()
    assert flaky.pushes == len(pauses) == 8
    assert pauses == sorted(pauses)
    assert here.pending == 1


def test_a_push_whose_answer_was_lost(tmp_path, remote):
    """A push that landed without an answer is not repeated: the next refresh sees it."""
    flaky = FlakyRemote()
    here = ledger(tmp_path / "x", remote.url, remote=flaky)
    here.append(entries(point(0)))
    flaky.after_push = lambda _: PushResult("unreachable", "cut")
    with pytest.raises(RemoteUnreachableError):
        here.push()
    here.refresh()
    assert here.pending == 0
    assert len(remote.log(BRANCH)) == 1


def test_a_rolled_back_remote_is_refused(one, remote, tmp_path):
    """A branch that lost commits is said loudly; the local copy is kept as evidence."""
    one.append(entries(point(0), point(1)))
    one.push()
    good = remote.tip(BRANCH)
    remote.roll_back(remote.log(BRANCH, "%H")[1], branch=BRANCH)
    for _ in range(2):
        with pytest.raises(RolledBackError, match="rolled back"):
            one.refresh()
    with pytest.raises(RolledBackError):
        ledger(tmp_path / "one", remote.url).refresh()
    one.append(entries(point(2)))
    with pytest.raises(RolledBackError):
        one.push()
    assert len(one.view().points()) == 3
    remote.roll_back(good, branch=BRANCH)
    one.refresh()
    assert one.push().pushed == 1


def test_the_hint_of_a_roll_back_works(one, remote):
    """The command in the hint brings the branch back."""
    one.append(entries(point(0)))
    one.push()
    git(remote.path, "update-ref", "-d", f"refs/heads/{BRANCH}")
    with pytest.raises(RolledBackError, match="is gone") as caught:
        one.refresh()
    command = caught.value.hint.split("git -C ")[1].split(";")[0].split()
    git(one.clone.path, *command[1:])
    one.refresh()


def test_history_rewritten_elsewhere(one, remote):
    """Another history of the same length is a roll-back too."""
    one.append(entries(point(0)))
    one.push()
    remote.commit({"x": "y"}, branch=BRANCH, orphan=True)
    with pytest.raises(RolledBackError):
        one.refresh()


def test_a_damaged_clone_heals(one, tmp_path, remote):
    """After a disk has lost objects the next refreshes bring everything back from the remote."""
    one.append(entries(point(0)))
    one.push()
    shutil.rmtree(one.clone.path / "objects")
    (one.clone.path / "objects" / "pack").mkdir(parents=True)
    again = ledger(tmp_path / "one", remote.url)
    again.refresh()
    assert len(again.view().points()) == 1


def test_accept_is_exclusive(one, two, remote):
    """Of two daemons that accept one attempt exactly one is told yes, and the record is on the remote first."""
    assert one.accept(restore()) is True
    assert remote.files(BRANCH) == ["restores/prod/policies/shop/inc-4711/1/accepted.yaml"]
    assert two.accept(restore()) is False
    assert one.accept(restore()) is False
    assert two.accept(restore(attempt=2)) is True
    one.refresh()
    assert [key.attempt for key in one.view().restores()] == [1, 2]


def test_accept_loses_the_race_in_the_middle(tmp_path, remote, two):
    """When another's acceptance lands between our look and our push, ours was not made."""
    flaky = FlakyRemote()
    here = ledger(tmp_path / "x", remote.url, remote=flaky)
    told = []
    flaky.before_push = lambda: told.append(two.accept(restore())) if not told else None
    assert here.accept(restore()) is False
    assert told == [True]
    assert len(remote.log(BRANCH)) == 1
    assert here.pending == 0


def test_a_lower_attempt_loses_against_a_higher_one_in_the_middle(tmp_path, remote, two):
    """When attempt 2 lands between our look and our push, attempt 1 is not accepted any more."""
    flaky = FlakyRemote()
    here = ledger(tmp_path / "x", remote.url, remote=flaky)
    flaky.before_push = lambda: two.accept(restore(attempt=2)) if flaky.pushes == 1 else None
    with pytest.raises(SupersededError, match="attempt 1 is below attempt 2"):
        here.accept(restore())
    assert remote.files(BRANCH) == ["restores/prod/policies/shop/inc-4711/2/accepted.yaml"]
    assert here.accept(restore(name="inc-4712")) is True


def test_accept_wins_after_an_unrelated_race(tmp_path, remote, two):
    """Another's record in between only costs one more try."""
    flaky = FlakyRemote()
    here = ledger(tmp_path / "x", remote.url, remote=flaky)
    two.append(entries(point(0)))
    flaky.before_push = two.push
    assert here.accept(restore()) is True
    assert flaky.pushes == 2
    assert verify_chain(here.view()) == []


def test_accept_carries_what_is_pending(one, remote):
    """Records from before go up with an acceptance, in their order."""
    one.append(entries(point(0)))
    assert one.accept(restore())
    assert one.pending == 0
    assert [s.split("(")[0] for s in remote.log(BRANCH)] == ["restore", "capture"]


@pytest.mark.parametrize("how", ["hook", "away"])
def test_an_acceptance_that_cannot_be_pushed_leaves_nothing(one, remote, how):
    """Without the remote's yes there is no acceptance, here neither; other records stay pending."""
    one.append(entries(point(0)))
    if how == "hook":
        remote.hook("exit 1\n")
        with pytest.raises(PushRefusedError):
            one.accept(restore())
        remote.unhook()
    else:
        remote.hide()
        with pytest.raises(RemoteUnreachableError):
            one.accept(restore())
        remote.show()
    assert one.view().restores() == {}
    assert one.pending == 1
    one.push()
    assert len(remote.log(BRANCH)) == 1
    assert one.accept(restore()) is True


def test_an_acceptance_whose_answer_was_lost(tmp_path, remote):
    """When the push landed and the answer did not, the acceptance is found on the remote and counts."""
    flaky = FlakyRemote()
    here = ledger(tmp_path / "x", remote.url, remote=flaky)
    flaky.after_push = lambda _: PushResult("unreachable", "cut")
    assert here.accept(restore()) is True
    assert here.view().restore(KEY).accepted is not None


def test_crash_between_pack_and_ref(one, tmp_path, remote):
    """A pack that no ref names yet is harmless: the record was not made, and can be."""
    one.append(entries(point(0)))
    placed = one._placement.place(entries(point(1)), base=one.view().tip)
    one.clone.write(placed.drafts, parent=one.view().tip)
    again = ledger(tmp_path / "one", remote.url)
    assert len(again.view().points()) == 1
    again.append(entries(point(1)))
    again.refresh()
    assert again.push().pushed == 2
    fsck(again.clone.path)
    assert verify_chain(again.view()) == []


def test_crash_after_the_push(tmp_path, remote):
    """A process that dies when its push has landed finds it there."""

    class Gone(BaseException):
        pass

    def die(_):
        raise Gone

    flaky = FlakyRemote()
    here = ledger(tmp_path / "x", remote.url, remote=flaky)
    here.append(entries(point(0)))
    flaky.after_push = die
    with pytest.raises(Gone):
        here.push()
    with pytest.raises(Gone):
        here.accept(restore())
    again = ledger(tmp_path / "x", remote.url)
    again.refresh()
    assert again.pending == 0
    assert again.accept(restore()) is False
    assert len(remote.log(BRANCH)) == 2
    assert verify_chain(again.view()) == []


def test_another_clusters_branch_is_read(one, tmp_path, remote):
    """A restore from another cluster reads that cluster's branch; while the remote is away, as last seen."""
    other = ledger(tmp_path / "other", remote.url, cluster="staging")
    other.append(entries(point(0, cluster="staging")))
    other.push()
    assert one.view("staging").latest("shop").spec.cluster == "staging"
    assert one.view("nowhere").tip is None
    remote.hide()
    assert len(one.view("staging").points()) == 1
    with pytest.raises(RemoteUnreachableError):
        one.view("elsewhere")


def test_two_processes_on_one_directory(tmp_path, remote):
    """A daemon and a verb that share a work directory do not undo each other's records."""
    daemon, verb = (ledger(tmp_path / "shared", remote.url) for _ in range(2))
    daemon.append(entries(point(0)))
    verb.append(entries(point(1)))
    daemon.append(entries(point(2)))
    verb.refresh()
    assert verb.push().pushed == 3
    assert daemon.pending == 0
    assert verify_chain(daemon.view()) == []


def test_threads_append_at_once(one):
    """Captures that end at the same time are all recorded, in one row."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: one.append(entries(point(n))), range(12)))
    assert len(one.view().points()) == 12
    assert verify_chain(one.view()) == []


def test_other_branches_are_left_alone(one, remote):
    """The policy branch in the same repository is neither read nor moved."""
    tip = remote.commit({"policies/x.yaml": "a: b"})
    one.append(entries(point(0)))
    one.push()
    assert remote.tip("main") == tip
    assert git(one.clone.path, "for-each-ref", "--format=%(refname)").split() == [
        "refs/confirmed/restore-points/prod",
        "refs/heads/restore-points/prod",
    ]
