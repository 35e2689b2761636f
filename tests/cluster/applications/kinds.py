"""What an application of the tests is: what deploys it, changes it, and proves that it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.cluster.outpost import Outpost

Step = Callable[[Outpost, str], Any]


def nothing(outpost: Outpost, namespace: str) -> None:
    """A step with nothing to do."""


def delete_namespace(outpost: Outpost, namespace: str) -> None:
    """The usual disaster."""
    outpost.destroy(namespace)


@dataclass(frozen=True)
class Application:
    """One application. Each step gets the cluster and the namespace; `state` gives data to compare."""

    name: str
    deploy: Step
    change: Step = nothing
    state: Step = nothing
    """What it holds beside its objects, to be equal before and after."""
    works: Step = nothing
    """Fails when the application does not do its work; asked after each restore."""
    destroy: Step = delete_namespace
    """Takes everything of it away."""
    clean: Step = nothing
    """Removes at the end what it has outside of its namespace, and what would keep that from going."""
    moves: bool = True
    """Whether it is also restored into a second cluster."""
    labels: tuple[tuple[str, str], ...] = ()
    """Labels of its namespace."""

    def __str__(self) -> str:
        """Its name, which is the test's id."""
        return self.name
