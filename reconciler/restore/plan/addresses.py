"""Addresses and node ports of Services: what is in use already, and what may come back as it was.

Somebody asked for an address or port when a field manager owns it or the last-applied annotation names it: it comes
back, and one that another Service holds by now blocks the Service. A node port that was only allocated comes
back when the point is of this cluster and the port is free, because load balancers outside may point at it;
otherwise the cluster allocates another one, and the plan says so. A recreated Service keeps the ports it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from reconciler.cluster.port import ApiError, Cluster, Discovery
from reconciler.objects import Manifest, ObjectKey
from reconciler.objects import field as field_of
from reconciler.restore.plan.draft import Draft

_HINT = "free it, or take it out with a TransformSet"


@dataclass(frozen=True)
class Holders:
    """Which Service holds a node port or an address."""

    ports: dict[int, ObjectKey] = field(default_factory=dict)
    addresses: dict[str, ObjectKey] = field(default_factory=dict)
    is_known: bool = True


def settle_addresses(
    drafts: Iterable[Draft],
    *,
    cluster: Cluster,
    discovery: Discovery,
    live: Iterable[ObjectKey],
    is_same_cluster: bool,
) -> None:
    """Block Services whose ports are taken, and give allocated node ports back to those that are absent.

    Args:
        drafts: those of the plan.
        cluster: the target.
        discovery: what it serves.
        live: the keys of live objects.
        is_same_cluster: the point was captured from the target.
    """
    services = [
        draft
        for draft in drafts
        if (draft.target.group, draft.target.kind) == ("", "Service")
        and draft.desired is not None
        and draft.ended is None
        and (any(_node_ports(draft.captured)) or any(_asked(draft.desired)))
    ]
    if not services:
        return
    holders = _holders(cluster, discovery)
    there = set(live)
    for draft in services:
        assert draft.desired is not None
        taken = _taken(draft.target, draft.desired, holders)
        if taken:
            draft.ended = ("blocked", "AddressTaken", f"{taken}; {_HINT}")
        elif draft.target not in there:
            _give_ports_back(draft, holders, is_same_cluster=is_same_cluster)


def with_ports_of(desired: Manifest, live: Manifest) -> Manifest:
    """A Service with the node ports that its live form has, where it asks for no others."""
    held = {_place(port): port["nodePort"] for port in _node_ports(live)}
    ports = [
        {**port, "nodePort": held[_place(port)]}
        if "nodePort" not in port and _place(port) in held
        else port
        for port in field_of(desired, "spec", "ports", default=[])
    ]
    if not ports or not held or not _has_node_ports(desired):
        return desired
    return {**desired, "spec": {**desired["spec"], "ports": ports}}


def _give_ports_back(draft: Draft, holders: Holders, *, is_same_cluster: bool) -> None:
    assert draft.desired is not None
    if not _has_node_ports(draft.desired):
        return
    free = []
    for port in _node_ports(draft.captured):
        is_asked = any(
            "nodePort" in own and _place(own) == _place(port)
            for own in field_of(draft.desired, "spec", "ports", default=[])
        )
        if is_asked:
            continue
        holder = holders.ports.get(port["nodePort"])
        if is_same_cluster and holders.is_known and holder is None:
            free.append(port)
            continue
        why = f"{holder} has it" if holder else "it was allocated by another cluster"
        why = why if holders.is_known else "whether it is free could not be read"
        draft.note(f"node port {port['nodePort']} of port {port.get('port')} is not kept: {why}")
    draft.desired = with_ports_of(draft.desired, {"spec": {"ports": free}})


def _has_node_ports(service: Manifest) -> bool:
    return field_of(service, "spec", "type") in ("NodePort", "LoadBalancer")


def _taken(key: ObjectKey, desired: Manifest, holders: Holders) -> str:
    """Which asked-for port or address another Service has; empty when none."""
    for what, value in _asked(desired):
        holder = (holders.addresses if what == "address" else holders.ports).get(value)
        if holder not in (None, key):
            return f"{what} {value} is held by {holder}"
    return ""


def _asked(service: Manifest) -> Iterator[tuple[str, Any]]:
    for port in _node_ports(service):
        yield "node port", port["nodePort"]
    health = field_of(service, "spec", "healthCheckNodePort")
    if health:
        yield "node port", health
    address = field_of(service, "spec", "clusterIP")
    if address and address != "None":
        yield "address", address


def _node_ports(service: Manifest) -> Iterator[dict[str, Any]]:
    for port in field_of(service, "spec", "ports", default=[]):
        if port.get("nodePort"):
            yield port


def _place(port: dict[str, Any]) -> tuple[Any, str]:
    return port.get("port"), port.get("protocol", "TCP")


def _holders(cluster: Cluster, discovery: Discovery) -> Holders:
    kind = discovery.find("", "Service")
    if kind is None:
        return Holders(is_known=False)
    holders = Holders()
    try:
        for page in cluster.pages(kind):
            for service in page.items:
                key = ObjectKey.of(service)
                for what, value in _asked(service):
                    (holders.addresses if what == "address" else holders.ports)[value] = key
    except ApiError:
        return Holders(is_known=False)
    return holders
