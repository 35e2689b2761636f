"""10,000 objects in 50 namespaces: first capture, again with 1 % changed, and with every status updated three
times in between.

Limits: what the second stores is at most 3 % of the first beyond 1 KiB a point; churn of status stores nothing
but points.
"""

from __future__ import annotations

import resource

from bench.town import change, churn, dump, town

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
        known, second = place.capture_all(known)
        print(second.line("1 % changed"))
        touched = sum(churn(place.cluster, place.namespaces) for _ in range(3))
        _, churned = place.capture_all(known)
        print(churned.line(f"{touched:,} updates of status"))
    base = first.beyond_points()
    share = second.beyond_points() / base
    churn_share = churned.beyond_points() / base
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
