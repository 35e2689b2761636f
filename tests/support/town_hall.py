"""A world on disk with its command line, whose every word is kept so that secrets in it are found."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

from tests.support.passes import here, slots

SECRETS = ("hunter2", base64.b64encode(b"hunter2").decode().rstrip("=")[:8])


class TownHall:
    """Commands against a world."""

    def __init__(self, world):
        self.world = world

    def __call__(self, *argv, **environment):
        """Run a command; nothing that it says may hold a secret."""
        answer = here("--config", str(self.world.config), *argv, **environment)
        said = answer.out + answer.err
        assert not any(secret in said for secret in SECRETS), f"{argv} shows a Secret"
        assert "Traceback" not in said, said
        differs = answer.code == 1 and (argv[0] == "diff" or "--exit-code" in argv)
        if answer.code not in (0, 130) and not differs:
            assert "next:" in said, f"{argv} says nothing to do next: {said}"
        return answer

    def json(self, *argv):
        """The answer of a command as data."""
        answer = self(*argv, "-o", "json")
        return json.loads(answer.out)

    def slot(self, number=-1):
        """A slot of `shop`, by its place."""
        return slots(self.world)[number]

    def furnish(self):
        """Two points with changes between them, a hold in force, a restore that ran, something unmanaged."""
        world = self.world
        world.run_pass()
        first = self.slot()
        world.write(
            "holds/evidence.yaml",
            "apiVersion: backup.reconciler.dev/v1alpha1\nkind: Hold\nmetadata: {name: evidence}\n"
            f'spec: {{application: shop/_, slot: "{first}", reason: an audit, owner: legal}}\n',
        )
        world.merge("hold")
        kind = world.cluster.discover().find("", "Secret")
        world.cluster.patch(
            kind, "s", {"stringData": {"password": "hunter2-newer"}}, namespace="shop", manager="t"
        )
        world.edit("shop", "c1", "changed")
        world.objects(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "attic"}},
        )
        world.clock.advance(timedelta(hours=1))
        world.run_pass()
        world.edit("shop", "c2", "spoiled")
        world.ask_restore("shop")
        world.run_pass()
        world.edit("shop", "c0", "live")
        return self
