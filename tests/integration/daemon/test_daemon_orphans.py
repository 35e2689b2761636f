"""Points without a record, and records without a point."""

from __future__ import annotations

from tests.support.command import reconciler
from tests.support.faults import Crash, Effects
from tests.support.passes import view_of
from tests.support.world import World


def test_a_manual_point_without_record_is_recorded(world):
    """A capture by hand that died before its record: the next pass records it, and restores are not held up."""
    world.run_pass()
    parts = world.parts(effects=Effects(at="store.create points"))
    try:
        _capture(world, parts)
    except Crash:
        pass
    assert len(view_of(world).points("shop/_")) == 1

    report = world.run_pass()

    points = view_of(world).points("shop/_")
    assert len(points) == 2
    assert view_of(world).point("shop/_", points[-1].slot).spec.manual
    assert report.problems == []
    world.edit("shop", "c1", "spoiled")
    world.ask_restore("shop")
    assert [line.phase for line in world.run_pass().restored] == ["Succeeded"]


def _capture(world, parts):
    """What `reconciler capture shop` does."""
    import threading

    from reconciler.clock import format_slot
    from reconciler.daemon.captures import Capturing
    from reconciler.daemon.due import DueCapture
    from reconciler.daemon.survey import survey
    from reconciler.kinds.effective import Application

    desired = parts.desired()
    found = survey(
        parts.connect(),
        desired=desired,
        settings=parts.settings,
        view=parts.ledger.view(),
        clock=parts.clock,
    )
    wanted = Application("shop")
    work = Capturing(
        survey=found,
        desired=desired,
        settings=parts.settings,
        ledger=parts.ledger,
        locations=parts.locations,
        clock=parts.clock,
        stop=threading.Event(),
    )
    slot = format_slot(parts.clock.now())
    policy = found.coverage.policy_of(wanted)
    work.capture_all(
        [DueCapture(application=wanted, policy=policy, slot=slot, missed=0, attempt=1, manual=True)]
    )


def test_verify_names_a_point_that_is_gone(tmp_path, sandbox):
    """A point that the ledger records and the location has lost is a fault of `verify --all`."""
    world = World(tmp_path, sandbox, on_disk=True)
    world.settle("shop")
    assert world.run_pass().exit_code == 0
    point = next(world.storage.entries("domains/")).name.split("/")[1]
    lost = next(e.name for e in world.storage.entries(f"domains/{point}/points/"))
    world.storage.delete(lost)

    answer = reconciler("--config", str(world.config), "verify", "--all")

    assert answer.code == 1
    assert "shop/_/20261123T060000Z: recorded, and location primary has it no more" in answer.out


def test_break_glass_needs_no_configuration(tmp_path, sandbox):
    """Location, passphrase and a kubeconfig are enough to restore."""
    world = World(tmp_path, sandbox, on_disk=True)
    world.settle("shop")
    world.run_pass()
    expected = world.data("shop")
    world.destroy("shop")

    answer = reconciler(
        *("restore", "run", "shop/_/latest", "--break-glass", "--reason", "Git is gone"),
        *(
            "--location",
            (tmp_path / "location").as_uri(),
            "--passphrase-file",
            str(tmp_path / "passphrase"),
        ),
        cwd=tmp_path,
        KUBECONFIG=str(world.kubeconfig),
        RECONCILER_CONFIG="",
    )

    assert answer.code == 0, answer.err
    assert "no configuration" in answer.err
    found = world.data("shop")
    assert {k: found[k] for k in expected if "kube-root" not in k} == {
        k: v for k, v in expected.items() if "kube-root" not in k
    }
