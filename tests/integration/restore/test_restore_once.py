"""A Restore acts exactly once: with a real ledger, a real cluster, and whatever dies in between."""

import json
import threading
from datetime import timedelta

import pytest

from reconciler.clock import format_instant
from reconciler.cluster import claimpod
from reconciler.errors import RefusedError
from reconciler.kinds.transformset import TransformSet
from reconciler.ledger.ledger import Entry
from reconciler.objects import field
from reconciler.restore.execute.glass import read_journal, run_break_glass
from tests.support.desk import make_desk, step
from tests.support.rescue import NOW, SLOT, Dying, Killed, request


@pytest.fixture
def desk(rescue, tmp_path):
    """A captured namespace whose object was changed since."""
    yield make_desk(rescue, tmp_path)


def test_it_runs_once_whoever_asks_how_often(desk):
    """The second pass, another process on an empty disk, a moved file: nothing happens."""
    runner = desk.runner()
    assert step(runner, request()) == [("Succeeded", "Succeeded")]
    assert desk.conf() == {"a": "1"}
    desk.change()

    assert step(runner, request()) == []
    assert step(desk.runner(), request()) == []
    assert desk.conf() == {"a": "2"}
    assert desk.states() == {("again", 1): (True, "Succeeded")}
    assert desk.lease(request()) is None


def test_an_edited_attempt_is_a_finding_and_a_raised_one_runs(desk):
    """What was consumed is not run in another form; the next attempt is."""
    runner = desk.runner()
    step(runner, request())
    desk.change()

    assert step(runner, request(reason="another one")) == [("Refused", "EditedAfterUse")]
    assert desk.conf() == {"a": "2"}
    assert step(runner, request(reason="another one", attempt=2)) == [("Succeeded", "Succeeded")]
    assert desk.conf() == {"a": "1"}


def test_an_attempt_below_one_that_was_used_never_runs(desk):
    """Attempt 1 was refused by its limits, attempt 2 ran: attempt 1, merged again with other limits, is a finding."""
    narrow = request(limits={"update": 0})
    assert step(desk.runner(), narrow) == [("Refused", "PlanRefused")]
    assert step(desk.runner(), request(attempt=2)) == [("Succeeded", "Succeeded")]
    desk.change()

    for lowered in (request(), request(limits={"update": 5}), request(mode="Plan")):
        assert step(desk.runner(), lowered) == [("Refused", "AttemptSuperseded")]
    assert step(desk.runner(), narrow) == [("Refused", "AttemptSuperseded")]
    assert desk.conf() == {"a": "2"}
    assert desk.states() == {("again", 2): (True, "Succeeded")}
    assert step(desk.runner(), request(name="another")) == [("Succeeded", "Succeeded")]
    assert step(desk.runner(), request(attempt=3)) == [("Succeeded", "Succeeded")]


def test_an_attempt_that_was_stopped_is_not_resumed_after_a_higher_one(desk):
    """Lowering back to an attempt that had begun and not ended does not run the rest of it over what came after."""
    stop = threading.Event()

    def is_wanted(_request):
        stop.set()
        return True

    assert step(desk.runner(is_wanted=is_wanted), request(), stop=stop) == [("Waiting", "Stopped")]
    assert step(desk.runner(), request(attempt=2)) == [("Succeeded", "Succeeded")]
    desk.change()

    assert step(desk.runner(), request()) == [("Refused", "AttemptSuperseded")]
    assert desk.conf() == {"a": "2"}
    assert desk.states() == {("again", 1): (True, None), ("again", 2): (True, "Succeeded")}


def test_two_processes_at_once_run_it_once(desk):
    """Whoever is second finds the Lease or the record; the object is written by one of them."""
    runners = [desk.runner() for _ in range(3)]
    results = []
    threads = [
        threading.Thread(target=lambda r=r: results.extend(step(r, request()))) for r in runners
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert results.count(("Succeeded", "Succeeded")) == 1
    assert {phase for phase, _ in results} <= {"Succeeded", "Waiting"}
    assert desk.states() == {("again", 1): (True, "Succeeded")}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"notAfter": "2026-11-23T11:59:59Z"}, "Expired"),
        ({"limits": {"update": 0}}, "PlanRefused"),
        ({"onConflict": "fail"}, "PlanRefused"),
        ({"planDigest": "0" * 64}, "PlanRefused"),
        ({"origin": {"digest": "0" * 64}}, "DigestDiffers"),
        ({"point": "shop/_/20200101T000000Z"}, "NoSuchPoint"),
        ({"namespace": "wiki"}, "NeedsGrant"),
        ({"namespace": "shop", "to": {"namespace": "wiki"}}, "NeedsGrant"),
    ],
)
def test_guards_refuse_before_anything_is_accepted(desk, spec, reason):
    """No record, no Lease, no write; the request may be asked again once the cause is gone."""
    asked = request(**spec)

    assert step(desk.runner(), asked) == [("Refused", reason)]
    assert desk.states() == {}
    assert desk.conf() == {"a": "2"}
    assert desk.lease(asked) is None


def test_a_missing_transform_set_is_refused(desk):
    """A name that nothing stands behind is never passed over."""
    one = TransformSet.model_validate(
        {
            "apiVersion": "backup.reconciler.dev/v1alpha1",
            "kind": "TransformSet",
            "metadata": {"name": "one"},
            "spec": {},
        }
    )
    whole = request(transforms=[one])
    without = type(whole)(**{**vars(whole), "transforms": ()})

    assert step(desk.runner(), without) == [("Refused", "TransformMissing")]
    assert step(desk.runner(), whole) == [("Succeeded", "Succeeded")]


def test_nothing_is_accepted_while_the_ledger_is_behind_the_store(desk):
    """A point that the ledger has never heard of says that it may have forgotten more."""
    desk.rescue.capture(slot=SLOT + timedelta(hours=1))

    assert step(desk.runner(), request()) == [("Refused", "LedgerBehind")]
    assert desk.states() == {}


def test_plan_mode_publishes_and_changes_nothing(desk):
    """The record has the entries; the attempt is over."""
    asked = request(mode="Plan", onConflict="fail")
    assert step(desk.runner(), asked) == [("Succeeded", "Planned")]

    assert desk.conf() == {"a": "2"}
    (state,) = desk.ledger().view().restores().values()
    assert {row["verdict"] for row in state.accepted.spec.plan} == {
        "blocked",
        "unchanged",
        "skip",
    } - {"skip"}
    assert state.finished.spec.phase == "Succeeded"
    assert step(desk.runner(), asked) == []


def test_a_stopped_attempt_goes_on_at_the_next_start(desk):
    """SIGTERM in between leaves the attempt accepted; another process ends it at once."""
    stop = threading.Event()

    def is_wanted(_request):
        stop.set()
        return True

    assert step(desk.runner(is_wanted=is_wanted), request(), stop=stop) == [("Waiting", "Stopped")]
    assert desk.states() == {("again", 1): (True, None)}

    assert step(desk.runner(), request()) == [("Succeeded", "Succeeded")]
    assert desk.conf() == {"a": "1"}
    assert desk.states() == {("again", 1): (True, "Succeeded")}


def test_a_request_that_is_removed_while_it_runs_stops_at_the_next_object(desk):
    """What was done stays done, the rest is not begun, and the record says so."""
    asked_before = []

    def is_wanted(one):
        asked_before.append(one)
        return len(asked_before) < 4

    assert step(desk.runner(is_wanted=is_wanted), request()) == [("Cancelled", "Cancelled")]
    assert desk.states() == {("again", 1): (True, "Cancelled")}
    assert desk.conf() == {"a": "2"}
    assert step(desk.runner(), request()) == []


def test_a_removed_request_is_cancelled_only_by_who_knows_its_source(desk):
    """An accepted attempt whose file is gone ends as Cancelled; a source that could not be read removes nothing."""
    stop = threading.Event()

    def is_wanted(_request):
        stop.set()
        return True

    step(desk.runner(is_wanted=is_wanted), request(), stop=stop)

    assert step(desk.runner(), sources=["other"]) == []
    assert step(desk.runner(), sources=["main"]) == [("Cancelled", "Withdrawn")]
    assert desk.states() == {("again", 1): (True, "Cancelled")}
    assert step(desk.runner(), request()) == []


def test_a_held_lease_keeps_others_away_until_its_time_is_over(desk):
    """The Lease of a dead process is taken over after it has run out, not before."""
    dying = Dying(desk.rescue.town.cluster, after=3)
    with pytest.raises(Killed):
        step(desk.runner(cluster=dying), request())
    assert desk.states() == {("again", 1): (True, None)}

    assert step(desk.runner(), request()) == [("Waiting", "LeaseHeld")]
    desk.rescue.clock.advance(timedelta(seconds=61))
    assert step(desk.runner(), request()) == [("Succeeded", "Succeeded")]
    assert desk.conf() == {"a": "1"}


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["fail", "recreate"])
def test_death_after_any_effect_ends_in_the_same_state(rescue, tmp_path, monkeypatch, policy):
    """A restore of a deleted namespace, killed after each of its effects in turn, ends whole and once."""
    desk = make_desk(rescue, tmp_path)
    desk.change("1")
    effects = 0
    while True:
        effects += 1
        rescue.delete_namespace()
        monkeypatch.setattr(claimpod, "_PROCESS", f"process-{effects}")
        asked = request(name=f"r-{policy}-{effects}", onConflict=policy)
        dying = Dying(rescue.town.cluster, after=effects)
        try:
            first = step(desk.runner(cluster=dying), asked)
        except Killed:
            first = None
        rescue.clock.advance(timedelta(seconds=61))
        asked_again = step(desk.runner(), asked)

        if first is None:
            assert asked_again in ([], [("Succeeded", "Succeeded")]), (effects, asked_again)
        else:
            assert (first, asked_again) == ([("Succeeded", "Succeeded")], [])
        assert desk.states()[asked.name, 1] == (True, "Succeeded")
        assert desk.conf() == {"a": "1"}
        assert field(rescue.town.get("v1", "Service", "web"), "spec", "selector") == {"app": "web"}
        if first is not None:
            break
    assert effects > 5


def glass(desk, asked, journal, cluster=None, **kwargs):
    """A restore without Git."""
    return run_break_glass(
        asked,
        stores=desk.rescue.stores,
        cluster=cluster or desk.rescue.town.cluster,
        settings=desk.settings(),
        clock=desk.rescue.clock,
        journal=journal,
        stop=threading.Event(),
        **kwargs,
    )


def test_without_git_it_is_journalled_and_once_too(desk, tmp_path):
    """The journal holds the records that the ledger would; what has ended is not run again."""
    journal = tmp_path / "journal" / "restores.jsonl"
    asked = request(break_glass=True)
    plan, result = glass(desk, asked, journal)

    assert result.phase == "Succeeded"
    assert plan.verdicts()["update"] == 1
    accepted, finished = read_journal(journal)
    assert (accepted.spec.stage, finished.spec.stage, finished.spec.phase) == (
        "accepted",
        "finished",
        "Succeeded",
    )
    assert accepted.spec.break_glass
    assert accepted.spec.reason == "a test"
    with pytest.raises(RefusedError, match="ended"):
        glass(desk, asked, journal)

    ledger = desk.ledger()
    ledger.append([Entry(record) for record in read_journal(journal)])
    ledger.push()
    assert desk.states() == {("again", 1): (True, "Succeeded")}


def test_a_journal_cut_short_is_read_and_written_on(desk, tmp_path):
    """Half a line was never acted on; the next record does not run into it."""
    journal = tmp_path / "restores.jsonl"
    journal.write_bytes(b'{"apiVersion": "backup')
    glass(desk, request(break_glass=True), journal)

    assert [record.spec.stage for record in read_journal(journal)] == ["accepted", "finished"]
    assert len(journal.read_bytes().splitlines()) == 3
    assert json.loads(journal.read_bytes().splitlines()[1])["spec"]["acceptedAt"] == format_instant(
        NOW
    )


def test_a_broken_glass_that_died_is_taken_up_again(desk, tmp_path):
    """The journal says that it had begun; the same command ends it."""
    journal = tmp_path / "restores.jsonl"
    asked = request(break_glass=True)
    with pytest.raises(Killed):
        glass(desk, asked, journal, cluster=Dying(desk.rescue.town.cluster, after=3))
    desk.rescue.clock.advance(timedelta(seconds=61))

    assert glass(desk, asked, journal)[1].phase == "Succeeded"
    assert [record.spec.stage for record in read_journal(journal)] == ["accepted", "finished"]
    assert desk.conf() == {"a": "1"}
