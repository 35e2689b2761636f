"""`restore plan`: what it says, the sum of it, and how it ends are the same thing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from reconciler.clock import SystemClock, format_instant
from tests.support.passes import view_of
from tests.support.world import RESTORE


def asked(hall, *, name="back", hours=24, conflict="update", more="", head=""):
    """A Restore of the shop in a file that nobody merged."""
    until = format_instant(SystemClock().now() + timedelta(hours=hours))
    file = hall.world.root / f"{name}.yaml"
    text = (RESTORE % (name, 1, until, "shop")).replace("update", conflict) + more
    file.write_text(text.replace(f"{{name: {name}}}", f"{{name: {name}{head}}}"))
    return str(file)


class TestContents:
    """Contents count, like objects."""

    def test_contents_to_load_are_a_change(self, library):
        """With all objects as captured and a volume to fill, `--exit-code` is 1."""
        library.town.patch("apps/v1", "Deployment", "wiki", {"spec": {"replicas": 0}})
        assert library("capture", "shop").code == 0
        answer = library("restore", "plan", "shop", "--on-conflict", "update", "--exit-code")

        assert "0 to create, 0 to update, 0 to recreate" in answer.out
        assert "Contents: 1 to load, 0 blocked." in answer.out
        assert answer.code == 1

    def test_a_blocked_content_is_in_the_sum(self, library):
        """A volume in use is blocked, the last lines count it, and `--exit-code` is 1."""
        plan = ("restore", "plan", "shop", "--on-conflict", "update")
        answer, strict = library(*plan), library(*plan, "--exit-code")

        assert "✗ blocked   volume/pages" in answer.out
        assert "Contents: 0 to load, 1 blocked." in answer.out
        assert (answer.code, strict.code) == (0, 1)


class TestRefusals:
    """What `run` would refuse, `plan` shows as refused and ends with 4."""

    def agree(self, hall, file, word):
        """Plan and run give the same refusal, and nothing is recorded."""
        plan = hall("restore", "plan", file)
        run = hall("restore", "run", file)

        refusals = [line for line in plan.out.splitlines() if line.startswith("refused: ")]
        assert any(word in line for line in refusals), plan.out
        assert "Refused: " in plan.out
        assert (plan.code, run.code) == (4, 4)
        assert word in run.out

    def test_a_conflict(self, hall):
        """`onConflict: fail` with something there that differs."""
        hall.world.edit("shop", "c1", "spoiled")
        self.agree(hall, asked(hall, conflict="fail"), "onConflict is fail")

    def test_an_instant_that_has_passed(self, hall):
        """`notAfter` lies in the past."""
        self.agree(hall, asked(hall, hours=-1), "notAfter was")
        assert view_of(hall.world).restores() == {}

    def test_a_grant_that_is_missing(self, hall):
        """A tenant's request that reaches beyond its namespace."""
        self.agree(hall, asked(hall, head=", namespace: attic"), "cannot reach another one")

    def test_a_limit(self, hall):
        """More updates than `limits` allows."""
        hall.world.edit("shop", "c1", "spoiled")
        self.agree(hall, asked(hall, more="  limits: {update: 0}\n"), "limits.update is 0")

    def test_an_attempt_that_was_edited_after_use(self, hall):
        """A consumed attempt that was edited."""
        assert hall("restore", "run", asked(hall)).code == 0
        self.agree(hall, asked(hall, more="  limits: {update: 7}\n"), "edited after")

    def test_an_attempt_that_is_over(self, hall):
        """An attempt that has run does nothing again, and the plan says so."""
        file = asked(hall)
        assert hall("restore", "run", file).code == 0
        plan = hall("restore", "plan", file)

        assert plan.code == 4
        assert "was used already (Succeeded)" in plan.out

    @pytest.mark.parametrize("conflict", ["update", "skip"])
    def test_nothing_is_refused(self, hall, conflict):
        """A plan that would run has no refusal and ends with 0."""
        plan = hall("restore", "plan", asked(hall, conflict=conflict))

        assert plan.code == 0, plan.out
        assert "efused" not in plan.out
