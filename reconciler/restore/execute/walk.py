"""Walks a graph of steps: each starts when those before it have ended, side by side, a few per lane.

Steps that wait for others to do something have a lane of their own, so that they never keep a writer from writing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Literal, Protocol, TypeVar

Lane = Literal["write", "wait", "content"]
WIDTHS: dict[Lane, int] = {"write": 12, "wait": 16, "content": 4}
"""How many steps of a lane run side by side."""


class Step(Protocol):
    """What is known of a step: its lane, and the names of the steps before it."""

    @property
    def lane(self) -> Lane:
        """Which steps it shares its threads with."""
        ...

    @property
    def after(self) -> frozenset[str]:
        """The steps that must have ended."""
        ...


S = TypeVar("S", bound=Step)


def walk(steps: Mapping[str, S], act: Callable[[S], None]) -> None:
    """Run `act` on every step, those before it first.

    Steps that end by an error of `act` end the walk: what runs is waited for, nothing else is started, and the
    first error is raised.

    Raises:
        ValueError: steps wait for each other, or for one that is not there.
    """
    left = {name: len(step.after) for name, step in steps.items()}
    followers: dict[str, list[str]] = {name: [] for name in steps}
    for name, step in steps.items():
        for before in step.after:
            if before not in followers:
                raise ValueError(f"{name} waits for {before}, which is no step")
            followers[before].append(name)
    ended: SimpleQueue[tuple[str, BaseException | None]] = SimpleQueue()

    def run(name: str) -> None:
        try:
            act(steps[name])
        except BaseException as error:  # noqa: BLE001  # raised again by the thread that waits
            ended.put((name, error))
        else:
            ended.put((name, None))

    pools = {lane: ThreadPoolExecutor(width) for lane, width in WIDTHS.items()}
    first_error: BaseException | None = None
    done = running = 0
    try:
        ready = [name for name, count in left.items() if not count]
        while ready or running:
            for name in ready:
                pools[steps[name].lane].submit(run, name)
            running += len(ready)
            name, error = ended.get()
            running, done, ready = running - 1, done + 1, []
            first_error = first_error or error
            if first_error is not None:
                continue
            for follower in followers[name]:
                left[follower] -= 1
                if not left[follower]:
                    ready.append(follower)
    finally:
        for pool in pools.values():
            pool.shutdown()
    if first_error is not None:
        raise first_error
    if done < len(steps):
        stuck = sorted(name for name, count in left.items() if count)
        raise ValueError(f"steps wait for each other: {', '.join(stuck[:5])}")
