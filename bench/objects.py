"""10,000 objects in 50 namespaces: first capture, again with 1 % changed; and 10,000 that all have a status, each of
which is updated three times between two captures.

ConfigMaps, Secrets, ServiceAccounts and Roles have no status in Kubernetes, so the churn is measured in a cluster of
Services, Deployments and CronJobs. Limits: what the second capture stores is at most 3 % of the first beyond 1 KiB a
point; churn of status stores nothing but points.
"""

from __future__ import annotations

import resource

from bench.town import STATUS_KINDS, change, churn, dump, town

NAMESPACES, OBJECTS = 50, 10_000


def main() -> None:
    """Measure and judge."""
    with town(namespaces=NAMESPACES, objects=OBJECTS) as place:
        known, first = place.capture_all({})
        print(first.line("first capture"))
        change(
            place.cluster,
            place.namespaces,
            count=OBJECTS // 100,
            per_namespace=OBJECTS // NAMESPACES,
        )
        _, second = place.capture_all(known)
        print(second.line("1 % changed"))
    with town(namespaces=NAMESPACES, objects=OBJECTS, kinds=STATUS_KINDS) as place:
        known, calm = place.capture_all({})
        print(calm.line("all with a status, first"))
        touched = [churn(place.cluster, place.namespaces, turn=turn) for turn in (1, 2, 3)]
        assert touched == [OBJECTS] * 3, touched
        _, churned = place.capture_all(known)
        print(churned.line(f"{sum(touched):,} updates of status"))
    share = second.beyond_points() / first.beyond_points()
    churn_share = churned.beyond_points() / calm.beyond_points()
    print(f"1 % changed: {share:.2%} of the first beyond 1 KiB a point (limit 3 %)")
    print(f"status churn: {churn_share:.2%} of the first beyond 1 KiB a point (limit 3 %)")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    dump(
        {
            "share": share,
            "churn": churn_share,
            "firstBytes": first.stored_bytes,
            "firstCpuS": first.cpu_s,
        }
    )
    if share > 0.03 or churn_share > 0.03:
        raise SystemExit("over the limit")


if __name__ == "__main__":
    main()
