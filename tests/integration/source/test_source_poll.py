"""Polling a real policy repository: what is in force after each commit, and after each misfortune."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.clock import SteppedClock
from reconciler.kinds.record import AdoptionRecord
from reconciler.ledger.document import parse, to_bytes
from reconciler.source import tree
from reconciler.source.poll import Source, SourceSettings
from tests.support.gitremote import FlakyRemote, GitRemote, git
from tests.support.policyfiles import BROKEN_POLICY, NOT_YAML, guardrail, hold, location, policy

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SHOP, PRIMARY = "BackupPolicy/shop/shop", "Location/primary"


class Polling:
    """A source on a real remote, with the ledger's part played: the last record is kept."""

    def __init__(self, folder, **settings):
        self.remote = GitRemote(folder / "policies.git")
        self.folder = folder
        self.settings = SourceSettings(name="policies", url=self.remote.url, **settings)
        self.flaky = FlakyRemote()
        self.clock = SteppedClock(NOW)
        self.record: AdoptionRecord | None = None
        self.restart()

    def restart(self, *, empty: bool = False):
        if empty:
            shutil.rmtree(self.folder / "work")
        self.source = Source(self.settings, directory=self.folder / "work", remote=self.flaky)

    def poll(self, files=None, *, known=()):
        if files is not None:
            self.remote.commit(files)
        self.last = self.source.poll(self.record, clock=self.clock, cluster="prod", known=known)
        if self.last.record is not None:
            # What the ledger gives back later is what was written, no more.
            self.record = parse(to_bytes(self.last.record))
        return self.last

    @property
    def forms(self):
        """Identity → "fresh" or "stale"."""
        return {
            one.ref.identity: "stale" if one.ref.stale else "fresh" for one in self.last.manifests
        }

    @property
    def rules(self):
        return sorted({finding.rule for finding in self.last.findings})

    def cron(self):
        return next(
            one.kind.spec.schedule.cron for one in self.last.manifests if one.ref.identity == SHOP
        )


@pytest.fixture
def polling(tmp_path):
    return Polling(tmp_path)


def started(polling):
    polling.poll({"shop.yaml": policy(), "primary.yaml": location()})
    assert polling.forms == {SHOP: "fresh", PRIMARY: "fresh"}
    assert polling.last.findings == ()
    return polling


def test_the_first_poll(polling):
    """Everything sound is in force, with its file, blob and commit; the record says so."""
    started(polling)
    found = {one.ref.identity: one for one in polling.last.manifests}
    assert found[SHOP].revision == polling.last.revision == polling.remote.tip()
    assert found[SHOP].ref.blob == git(polling.remote.path, "rev-parse", "main:shop.yaml").strip()
    assert polling.last.refused == ""
    assert polling.record.spec.manifests == [one.ref for one in polling.last.manifests]
    assert polling.record.spec.adopted_at == NOW


def test_nothing_new_writes_nothing(polling):
    """A record is written when the revision or what is in force changed, not at every poll."""
    started(polling)
    polling.clock.advance(timedelta(hours=1))
    assert polling.poll().record is None
    assert polling.poll({"README.md": "x"}).record is not None
    assert polling.poll().record is None


def test_unchanged_files_are_parsed_once(polling, monkeypatch):
    """A poll parses what changed."""
    parsed = []
    real = tree.load
    monkeypatch.setattr(tree, "load", lambda path, data: parsed.append(path) or real(path, data))
    started(polling)
    polling.poll({"more.yaml": location("offsite")})
    polling.poll()
    assert sorted(parsed) == ["more.yaml", "primary.yaml", "shop.yaml"]


@pytest.mark.parametrize(
    "broken",
    [
        BROKEN_POLICY,
        NOT_YAML,
        policy(cron="61 * * * *"),
        policy(locations="nowhere"),
        "x: \xff".encode("latin-1") + b" backup.reconciler.dev",
        "#backup.reconciler.dev/v1alpha1\n" + "x" * 300_000,
    ],
)
def test_a_broken_manifest_keeps_its_last_good_form(polling, broken):
    """A typo stops nobody: the earlier form stays, with its commit, and the fault is told; mending takes effect."""
    started(polling)
    good = polling.last.revision
    polling.poll({"shop.yaml": broken, "wiki.yaml": policy("wiki", namespace="wiki")})
    assert polling.forms == {SHOP: "stale", PRIMARY: "fresh", "BackupPolicy/wiki/wiki": "fresh"}
    assert next(one.revision for one in polling.last.manifests if one.ref.stale) == good
    assert any(
        finding.path == "shop.yaml" and finding.is_error for finding in polling.last.findings
    )
    assert any(fault.startswith("shop.yaml:") for fault in polling.record.spec.faults)

    polling.poll({"README.md": "x"})
    assert polling.forms[SHOP] == "stale"
    assert next(one.revision for one in polling.last.manifests if one.ref.stale) == good
    polling.restart(empty=True)
    polling.poll()
    assert polling.forms[SHOP] == "stale"

    polling.poll({"shop.yaml": policy(cron="30 * * * *")})
    assert polling.forms[SHOP] == "fresh"
    assert polling.cron() == "30 * * * *"
    assert polling.last.findings == ()


def test_a_new_manifest_that_is_broken_is_out(polling):
    """Without an earlier form there is nothing to fall back on."""
    started(polling)
    polling.poll({"wiki.yaml": policy("wiki", namespace="wiki", locations="nowhere")})
    assert "BackupPolicy/wiki/wiki" not in polling.forms
    assert polling.rules == ["unknown-location"]


def test_a_deleted_manifest_is_gone(polling):
    """Deleting a file, or a document in it, takes the manifest out."""
    started(polling)
    polling.poll({"both.yaml": policy("a") + "---\n" + policy("b")})
    polling.poll({"both.yaml": policy("a")})
    assert sorted(polling.forms) == ["BackupPolicy/shop/a", SHOP, PRIMARY]
    polling.poll({"shop.yaml": None})
    assert SHOP not in polling.forms


def test_renaming_a_file_changes_nothing(polling):
    """A manifest is its identity, not its path."""
    started(polling)
    polling.poll({"shop.yaml": None, "teams/shop.yaml": policy()})
    assert polling.forms[SHOP] == "fresh"


@pytest.mark.parametrize("broken", [BROKEN_POLICY, NOT_YAML])
def test_renaming_and_breaking_at_once(polling, broken):
    """A file that moved and broke in one commit does not count as deleted."""
    started(polling)
    polling.poll({"shop.yaml": None, "teams/shop.yaml": broken})
    assert polling.forms[SHOP] == "stale"


def test_a_location_in_use_cannot_be_pulled_away(polling):
    """A policy and what it refers to stay consistent: the deleted location stays until nobody needs it."""
    started(polling)
    polling.poll({"primary.yaml": None})
    assert polling.forms == {SHOP: "fresh", PRIMARY: "stale"}
    assert polling.rules == ["unknown-location"]
    polling.poll({"shop.yaml": None})
    assert polling.forms == {}
    assert polling.last.findings == ()


def test_a_broken_location_keeps_its_form_too(polling):
    """What a policy refers to is kept like the policy."""
    started(polling)
    polling.poll({"primary.yaml": location(url="gs://bucket")})
    assert polling.forms == {SHOP: "fresh", PRIMARY: "stale"}


def test_moving_to_a_location_that_is_broken(polling):
    """A policy that moves to a location which is not sound goes back to its earlier form."""
    started(polling)
    polling.poll(
        {
            "shop.yaml": policy(locations="offsite"),
            "offsite.yaml": location("offsite", url="gs://x"),
        }
    )
    assert polling.forms == {SHOP: "stale", PRIMARY: "fresh"}
    assert polling.last.manifests[-1].kind.spec.locations[0].name == "primary"


def test_a_deleted_policy_is_not_brought_back_by_a_namesake(polling):
    """Only what can be referred to comes back: a policy that somebody deleted stays deleted."""
    started(polling)
    polling.poll({"wiki.yaml": policy("wiki", namespace="wiki")})
    polling.poll(
        {"shop.yaml": None, "wiki.yaml": policy("wiki", namespace="shop", locations="nowhere")}
    )
    assert SHOP not in polling.forms


def test_a_later_guardrail_does_not_switch_protection_off(polling):
    """A policy in force stays when a new guardrail denies it, and is reported; a new one is kept out."""
    started(polling)
    polling.poll(
        {
            "rule.yaml": guardrail("size(object.spec.locations) > 1"),
            "new.yaml": policy("new", namespace="wiki"),
        }
    )
    assert polling.forms == {SHOP: "stale", PRIMARY: "fresh", "Guardrail/rule": "fresh"}
    assert polling.rules == ["guardrail"]
    polling.poll(
        {"offsite.yaml": location("offsite"), "shop.yaml": policy(locations="primary,offsite")}
    )
    assert polling.forms[SHOP] == "fresh"


def test_a_hold_survives_its_file(polling):
    """Deleting a hold's file ends nothing; it stays, said, until its release or its end."""
    started(polling)
    polling.poll({"hold.yaml": hold()})
    for _ in range(2):
        polling.poll({"hold.yaml": None} if "hold.yaml" in polling.remote.files("main") else None)
        assert polling.forms["Hold/audit"] == "stale"
        assert "hold-removed" in polling.rules
    polling.restart(empty=True)
    polling.poll({"README.md": "x"})
    assert polling.forms["Hold/audit"] == "stale"
    polling.poll({"hold.yaml": hold(more="  release: {reason: over, approvedBy: legal}\n")})
    assert polling.forms["Hold/audit"] == "fresh"
    polling.poll({"hold.yaml": None})
    assert "Hold/audit" not in polling.forms


def test_a_hold_ends_by_itself(polling):
    """A deleted hold with an end stays until then."""
    started(polling)
    polling.poll({"hold.yaml": hold(more="  until: 2026-11-24T00:00:00Z\n")})
    polling.poll({"hold.yaml": None})
    assert polling.forms["Hold/audit"] == "stale"
    polling.clock.advance(timedelta(days=1))
    polling.poll()
    assert "Hold/audit" not in polling.forms
    assert polling.record.spec.revision == polling.remote.tip()


def test_two_files_with_one_identity(polling):
    """The one that was there stays, whatever the names of the files; the later is reported."""
    started(polling)
    polling.poll({"a-copy.yaml": policy(cron="5 * * * *")})
    assert polling.cron() == "0 * * * *"
    assert [(f.path, f.rule) for f in polling.last.findings] == [("a-copy.yaml", "duplicate")]


def test_the_remote_is_away(polling):
    """What is in force stays while the remote is away, also after a restart."""
    started(polling)
    polling.remote.hide()
    for _ in range(2):
        found = polling.poll()
        assert "policies.git" in found.refused
        assert (polling.forms, found.record) == ({SHOP: "fresh", PRIMARY: "fresh"}, None)
        polling.restart()
    polling.remote.show()
    assert polling.poll().refused == ""


def test_the_remote_is_away_and_the_disk_is_empty(polling):
    """Without remote and disk there is nothing to read, and each lost manifest is named."""
    started(polling)
    polling.remote.hide()
    polling.restart(empty=True)
    found = polling.poll()
    assert found.refused
    assert found.manifests == ()
    assert polling.rules == ["lost"]
    assert found.revision == polling.record.spec.revision


def test_a_rolled_back_branch_is_refused(polling):
    """A tip without the adopted revision is refused, said, and nothing changes; forward again is fine."""
    started(polling)
    first = polling.remote.tip()
    second = polling.poll({"shop.yaml": policy(cron="15 * * * *")}).revision
    polling.remote.roll_back(first)
    for empty in (False, True):
        found = polling.poll()
        assert "rolled back" in found.refused
        assert (found.record, found.revision, polling.cron()) == (None, second, "15 * * * *")
        polling.restart(empty=empty)
    found = polling.poll()
    assert "rolled back" in found.refused
    assert polling.cron() == "15 * * * *"
    polling.remote.roll_back(second)
    assert polling.poll().refused == ""


def test_a_rewritten_branch_is_refused(polling):
    """A force-push of another history is a roll-back too."""
    started(polling)
    polling.remote.commit({"shop.yaml": policy(cron="45 * * * *")}, orphan=True)
    assert "rolled back" in polling.poll().refused
    assert polling.cron() == "0 * * * *"


def test_the_branch_is_gone(polling):
    """A deleted branch takes nothing out of force."""
    started(polling)
    git(polling.remote.path, "update-ref", "-d", "refs/heads/main")
    assert "no such branch" in polling.poll().refused
    assert polling.forms == {SHOP: "fresh", PRIMARY: "fresh"}


def test_an_empty_repository(polling):
    """Before the first commit there is nothing, and that is said."""
    found = polling.poll()
    assert (found.revision, found.manifests, found.record) == (None, (), None)
    assert "no such branch" in found.refused


def test_the_operator_changes_the_branch(tmp_path):
    """Another ref or URL in the configuration is the operator's decision, no roll-back."""
    polling = started(Polling(tmp_path))
    polling.remote.commit(
        {"shop.yaml": policy(cron="9 * * * *"), "primary.yaml": location()},
        branch="live",
        orphan=True,
    )
    polling.settings = SourceSettings(name="policies", url=polling.remote.url, ref="live")
    polling.restart()
    assert polling.poll().refused == ""
    assert polling.cron() == "9 * * * *"


def test_a_damaged_clone_heals(polling):
    """A clone that lost objects is fetched again in the same poll or the next."""
    started(polling)
    objects = polling.folder / "work" / "source.git" / "objects"
    shutil.rmtree(objects)
    (objects / "pack").mkdir(parents=True)
    polling.restart()
    assert polling.poll().refused == ""
    assert polling.forms == {SHOP: "fresh", PRIMARY: "fresh"}


def test_a_tenant_is_confined(tmp_path):
    """A tenant's source defines its own namespaces' manifests of the allowed kinds, and nothing else."""
    polling = Polling(tmp_path, namespaces=("shop",), kinds=("BackupPolicy", "Location"))
    platform = started(Polling(tmp_path / "platform"))
    polling.poll(
        {
            "good.yaml": policy("mine"),
            "other.yaml": policy("x", namespace="wiki"),
            "none.yaml": policy("y", namespace=None),
            "location.yaml": location("own"),
            "hold.yaml": hold(),
            "taken.yaml": policy("shop"),
        },
        known=[platform.last],
    )
    assert polling.forms == {"BackupPolicy/shop/mine": "fresh"}
    assert sorted((f.path, f.rule) for f in polling.last.findings) == [
        ("hold.yaml", "scope"),
        ("location.yaml", "scope"),
        ("none.yaml", "scope"),
        ("other.yaml", "scope"),
        ("taken.yaml", "duplicate"),
    ]


def test_narrower_settings_hold_for_old_forms(tmp_path):
    """What a source may no longer define is out at once, even when its remote is away."""
    polling = started(Polling(tmp_path))
    polling.settings = SourceSettings(name="policies", url=polling.remote.url, kinds=("Location",))
    polling.restart()
    polling.remote.hide()
    polling.poll()
    assert polling.forms == {PRIMARY: "fresh"}


def test_only_the_given_folders(tmp_path):
    """Files elsewhere, hidden folders, other suffixes and links are not read."""
    polling = Polling(tmp_path, paths=("./policies/", "one.yml"))
    polling.remote.commit({"x": "y"})
    stream = (
        b"commit refs/heads/main\ncommitter D <d@e> 1 +0000\ndata 1\nx\nfrom refs/heads/main^0\n"
    )
    stream += b"M 120000 inline policies/link.yaml\ndata 9\n/etc/pass\n"
    stream += b"M 160000 " + b"1" * 40 + b" policies/sub\n"
    git(polling.remote.path, "fast-import", "--quiet", data=stream)
    polling.poll(
        {
            "policies/a/shop.yaml": policy(),
            "policies/.hidden/b.yaml": policy("b"),
            "policies/notes.txt": policy("c"),
            "elsewhere/d.yaml": policy("d"),
            "one.yml": location(),
        }
    )
    assert sorted(polling.forms) == [SHOP, PRIMARY]
    assert [(f.path, f.rule, f.severity) for f in polling.last.findings] == [
        ("policies/link.yaml", "symlink", "warning"),
        ("policies/sub", "submodule", "warning"),
    ]


def test_a_folder_that_is_not_there(tmp_path):
    """A wrong path in the configuration is said."""
    polling = Polling(tmp_path, paths=("nowhere",))
    polling.poll({"shop.yaml": policy()})
    assert polling.rules == ["missing-path"]


def test_too_many_files(polling, monkeypatch):
    """Beyond the bound files are not read, which is said, and what was in force from them stays."""
    started(polling)
    monkeypatch.setattr(
        tree._Budget,
        "__init__",
        lambda self: self.__dict__.update(files=2, size_bytes=10**6, manifests=9, entries=99),
    )
    polling.poll({f"a{n}.yaml": location(f"l{n}") for n in range(4)})
    assert polling.forms == {
        "Location/l0": "fresh",
        "Location/l1": "fresh",
        SHOP: "stale",
        PRIMARY: "stale",
    }
    assert polling.rules == ["size"]


def test_a_tree_bomb_ends(polling):
    """A tree that names one folder ten times, ten levels deep, is left after a bounded number of names."""
    inner = git(polling.remote.path, "mktree", data=b"").strip()
    for _ in range(10):
        lines = "".join(f"040000 tree {inner}\td{n}\n" for n in range(10))
        inner = git(polling.remote.path, "mktree", data=lines.encode()).strip()
    commit = git(polling.remote.path, "commit-tree", inner, "-m", "bomb").strip()
    polling.remote.roll_back(commit)
    polling.poll()
    assert polling.rules == ["size"]
    assert polling.forms == {}


def test_foreign_manifests_are_ignored(polling):
    """Kubernetes manifests and other files may lie beside policies."""
    started(polling)
    polling.poll(
        {
            "deployment.yaml": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
            "values.yaml": "a: {{ .b }}\n",
        }
    )
    assert polling.forms == {SHOP: "fresh", PRIMARY: "fresh"}
    assert [f for f in polling.last.findings if f.is_error] == []
