"""The demo's story, chapter by chapter, on real parts.

The daemon's passes run on a stepped clock that starts hours in the past, so that a day of hourly captures takes
seconds; the screen says so. Everything shown is read back from the ledger, the store or the clusters; a proof
that fails ends the demo.
"""

from __future__ import annotations

import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import click

from reconciler.cli.compose import Parts
from reconciler.cli.demo import applications
from reconciler.cli.demo.applications import LEGACY, SHOP, WIKI
from reconciler.cli.demo.people import People, Snapshot, fetch, wait
from reconciler.cli.demo.setting import Setting, legacy_runtime
from reconciler.cli.demo.stage import DemoFailedError, Stage, git
from reconciler.cli.passes import capture_text, restore_text
from reconciler.clock import SteppedClock, SystemClock, format_instant
from reconciler.daemon.reconcile import PassReport

OUTPOST, HARBOR, DEPOT = "outpost", "harbor", "depot"
ORDERS = 150_000


class Story:
    """Tells the story once."""

    def __init__(self, stage: Stage, setting: Setting, *, postgres: bool) -> None:
        self.stage = stage
        self.setting = setting
        self.postgres = postgres
        self.ports = setting.ports
        self.is_real = setting.real is not None
        hour = SystemClock().now().replace(minute=0, second=0, microsecond=0)
        self.start = hour - timedelta(hours=6)
        self.clock = SteppedClock(self.start + timedelta(minutes=2))
        self.stop = threading.Event()

    def tell(self) -> None:
        """All chapters, in order."""
        self.write_policies()
        self.start_applications()
        self.capture()
        self.show_ledger()
        self.destroy_and_restore()
        self.bring_legacy_up_to_code()

    def write_policies(self) -> None:
        """Chapter 1: desired state in Git."""
        with chapter("1", "A policy repository, a ledger and a location"):
            self.stage.make_remotes()
            from reconciler.cli.demo.policies import write_policies

            written = write_policies(
                self.stage.policies,
                location_url=self.stage.location_url,
                postgres=self.postgres,
                cluster=OUTPOST,
            )
            self.stage.merge("Protect the shop, the wiki and the legacy portal")
            self.stage.make_location()
            for path in written:
                say(f"  {path.relative_to(self.stage.policies)}")
            say(git(["log", "--format=  %h %an: %s", "-1"], cwd=self.stage.policies).rstrip())

    def start_applications(self) -> None:
        """Chapter 2: a cluster with three applications."""
        database = (
            "PostgreSQL" if self.postgres else "SQLite (this machine has no PostgreSQL server)"
        )
        where = "The cluster of your context" if self.is_real else "A sandbox cluster"
        with chapter("2", f"{where} with its applications; the shop runs on {database}"):
            if self.setting.real:
                self.stage.real[OUTPOST] = self.setting.real
            else:
                self.stage.start_cluster(OUTPOST, profile="1.18")
            self.parts = self.stage.parts(OUTPOST, clock=self.clock)
            self.people = People(self.parts.connect(), postgres=self.postgres)
            if self.is_real:
                self.stage.borrow(self.parts.connect(), (SHOP, WIKI, LEGACY))
            self._deploy_shop_and_wiki()
            self._deploy_legacy()
            self.people.add_orders(1, ORDERS)
            for number in range(40):
                self.people.write_page(
                    f"page-{number:02}.md", f"# Page {number}\n" + "text\n" * 400
                )
            rows, _ = self.people.orders()
            say(f"  shop: {rows} orders; wiki: 40 pages")
            say("  legacy: three objects of old API versions, an expired certificate")

    def _deploy_shop_and_wiki(self) -> None:
        for name in (SHOP, WIKI):
            self.people.deploy([applications.namespace(name, tier="gold")])
        runtime = self.setting.runtime
        self.people.deploy(
            applications.shop(
                postgres=self.postgres,
                database_port=self.ports.database,
                web_port=self.ports.shop,
                runtime=runtime,
            )
        )
        self.people.deploy(applications.wiki(web_port=self.ports.wiki, runtime=runtime))
        for name in (SHOP, WIKI):
            self.people.wait_ready(name)

    def _deploy_legacy(self) -> None:
        """The legacy application, on a cluster that still serves its API versions."""
        self.home, people = self.parts, self.people
        if self.is_real:
            say("  legacy lives on a sandbox that stands for an older cluster")
            self.stage.start_cluster(DEPOT, profile="1.18")
            self.home = self.stage.parts(DEPOT, clock=self.clock)
            people = People(self.home.connect(), postgres=self.postgres)
        people.deploy([applications.namespace(LEGACY, tier="gold")])
        people.deploy(
            applications.legacy(
                certificate=applications.expired_certificate(now=self.start),
                web_port=self.ports.portal,
                runtime=legacy_runtime(self.setting),
            )
        )
        people.wait_ready(LEGACY)

    def capture(self) -> None:
        """Chapter 3: first captures, then incremental ones, then a missed slot."""
        with chapter("3", "The daemon, on a clock that starts six hours ago and is moved by hand"):
            self.pass_(self.parts, "first captures")
            if self.home is not self.parts:
                self.pass_(self.home, f"first capture of the cluster {DEPOT}")
            self.people.add_orders(ORDERS + 1, 25)
            self.people.edit_settings(SHOP, "page", currency="CHF")
            self.people.write_page("page-07.md", "# Page 7\nedited\n")
            self.clock.advance(timedelta(hours=1))
            say("\n  25 new orders, one ConfigMap and one page changed; an hour later:")
            self.pass_(self.parts, "incremental captures")
            self.people.add_orders(ORDERS + 26, 5)
            self.clock.advance(timedelta(hours=2))
            say("\n  the daemon was away for two hours: one slot was missed")
            report = self.pass_(self.parts, "catching up")
            if not all(line.missed for line in report.captured):
                raise DemoFailedError("catch up: no missed slot was noticed")

    def pass_(self, parts: Parts, what: str) -> PassReport:
        """Run one pass of the daemon and show what it captured."""
        say(f"  {format_instant(self.clock.now())} pass: {what}")
        report = parts.reconciler.run_pass(stop=self.stop)
        for restored in report.restored:
            say(f"    {restore_text(restored)}")
        for line in report.captured:
            say(f"    {capture_text(line)}")
        for finding in report.desired.findings:
            say(f"    {finding}")
        if report.problems:
            raise DemoFailedError(
                "run pass: " + "; ".join(f"{p.where}: {p.message}" for p in report.problems)
            )
        failed = [line for line in report.captured if line.phase != "Succeeded"]
        if failed:
            raise DemoFailedError(f"capture {failed[0].application}: {failed[0].message}")
        return report

    def show_ledger(self) -> None:
        """Chapter 4: the audit trail, by plain git."""
        with chapter("4", "The ledger, read with plain git log"):
            say(f"  $ git log --oneline {self.parts.ledger.branch}")
            say(textwrap.indent(self.ledger_log(["--oneline"]), "  "))
            say("  $ git log -1 --grep '^Restore-Point: outpost/shop/'")
            say(
                textwrap.indent(
                    self.ledger_log(["-1", "--grep", "^Restore-Point: outpost/shop/"]), "  "
                )
            )

    def ledger_log(self, argv: list[str]) -> str:
        """Run git log on the ledger's remote."""
        remote = self.stage.root / "remotes" / "ledger.git"
        return git(
            ["--git-dir", str(remote), "log", "--no-decorate", *argv, self.parts.ledger.branch]
        ).rstrip()

    def destroy_and_restore(self) -> None:
        """Chapter 5: a namespace is destroyed and comes back by a merged Restore."""
        with chapter("5", "Disaster: the shop and the wiki are destroyed, and restored from Git"):
            before = {name: self.people.look(name) for name in (SHOP, WIKI)}
            for name in (SHOP, WIKI):
                self.people.destroy(name)
                say(f"  namespace {name} is gone, with its volume and its data")
            not_after = format_instant(self.clock.now() + timedelta(hours=4))
            from reconciler.cli.demo.policies import restore_manifest

            for name in (SHOP, WIKI):
                path = self.stage.policies / "restores" / f"{name}.yaml"
                path.write_text(
                    restore_manifest(
                        name=f"{name}-is-gone",
                        cluster=OUTPOST,
                        point=f"{name}/_/latest",
                        not_after=not_after,
                        reason=f"INC-4711: somebody deleted the namespace {name}",
                    )
                )
            self.stage.merge("Restore the shop and the wiki (INC-4711)")
            started = time.monotonic()
            report = self.pass_(self.parts, "two merged Restore manifests are carried out")
            taken = time.monotonic() - started
            if [line.phase for line in report.restored] != ["Succeeded", "Succeeded"]:
                raise DemoFailedError(
                    "restore: " + "; ".join(line.message for line in report.restored)
                )
            for name in (SHOP, WIKI):
                self.people.wait_ready(name)
                self.prove(name, before[name], self.people.look(name))
            page = self.people.read_page() if self.is_real else fetch(self.ports.shop)
            if "The shop is open" not in page:
                raise DemoFailedError("fetch the shop's page: it is not what it was")
            say(f"  the shop's page answers: {page.strip()}")
            say(click.style(f"  time taken: {taken:.1f} s", bold=True))
            again = self.pass_(
                self.parts, "the manifests are still in Git, and nothing happens twice"
            )
            if again.restored:
                raise DemoFailedError("restore: it ran a second time")

    def prove(self, name: str, before: Snapshot, after: Snapshot) -> None:
        """Compare a namespace with what it was.

        Raises:
            DemoFailedError: something is missing, added or different.
        """
        if before.rows != after.rows:
            raise DemoFailedError(f"prove {name}: rows were {before.rows}, are {after.rows}")
        if before.files != after.files:
            raise DemoFailedError(f"prove {name}: files differ")
        differing = sorted(
            key
            for key in before.objects.keys() | after.objects.keys()
            if before.objects.get(key) != after.objects.get(key)
        )
        if differing:
            raise DemoFailedError(f"prove {name}: objects differ: {', '.join(differing[:5])}")
        data = f"{after.rows[0]} rows" if after.rows[0] else f"{len(after.files)} files"
        say(f"  {name}: {len(after.objects)} objects and {data} are equal to what was captured")

    def bring_legacy_up_to_code(self) -> None:
        """Chapter 6: the legacy application lands on a cluster that serves only current APIs."""
        with chapter(
            "6", "The legacy application moves to a cluster that serves only current APIs"
        ):
            target, origin = (OUTPOST, DEPOT) if self.is_real else (HARBOR, OUTPOST)
            if self.is_real:
                harbor = self.parts
            else:
                self.stage.start_cluster(HARBOR, profile="1.36")
                harbor = self.stage.parts(HARBOR, clock=self.clock)
            from reconciler.cli.demo.policies import restore_manifest
            from reconciler.cli.plantext import plan_text
            from reconciler.cli.requests import request_of_file
            from reconciler.cli.restore import plan_of

            manifest = self.stage.policies / "restores" / "legacy.yaml"
            manifest.write_text(
                restore_manifest(
                    name=f"legacy-to-{target}",
                    cluster=target,
                    point=f"{LEGACY}/_/latest",
                    not_after=format_instant(self.clock.now() + timedelta(hours=4)),
                    reason=f"The cluster {origin} is upgraded; the portal moves to {target}",
                    from_cluster=origin,
                    transforms=["current-apis"],
                )
            )
            say("  $ reconciler restore plan restores/legacy.yaml")
            plan = plan_of(harbor, request_of_file(harbor, manifest))
            say(textwrap.indent(plan_text(plan), "  "))
            self.stage.merge(f"Move the legacy portal to {target}")
            report = self.pass_(harbor, "the merged Restore is carried out")
            if [line.phase for line in report.restored] != ["Succeeded"]:
                raise DemoFailedError(
                    "restore: " + "; ".join(line.message for line in report.restored)
                )
            People(harbor.connect(), postgres=self.postgres).wait_ready(LEGACY)
            wait(lambda: self._portal_is_current(harbor), what="the portal's Ingress")
            say(
                "  Ingress, CronJob and PodDisruptionBudget are of current API versions, and the portal runs"
            )

    def _portal_is_current(self, harbor: Parts) -> bool:
        cluster = harbor.connect()
        kind = cluster.discover().find("networking.k8s.io", "Ingress", "v1")
        found = cluster.get(kind, "portal", namespace=LEGACY) if kind else None
        return bool(found and found["spec"]["defaultBackend"]["service"]["name"] == "portal")


def say(text: str) -> None:
    """A line of the story."""
    click.echo(text)


@contextmanager
def chapter(number: str, title: str) -> Iterator[None]:
    """Announce a chapter, and say how long it took."""
    started = time.monotonic()
    click.echo(click.style(f"\n{number}. {title}", bold=True, fg="cyan"))
    yield
    click.echo(click.style(f"   ({time.monotonic() - started:.1f} s)", dim=True))
