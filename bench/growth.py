"""100 changes among 1,000 and among 10,000 objects: what is stored grows with the changes, not with the cluster."""

from __future__ import annotations

from bench.town import change, dump, town

CHANGES = 100
NAMESPACES = 10


def main() -> None:
    """Measure both sizes and their ratio."""
    stored = {}
    for objects in (1_000, 10_000):
        with town(namespaces=NAMESPACES, objects=objects) as place:
            known, first = place.capture_all({})
            per_namespace = objects // NAMESPACES
            change(place.cluster, place.namespaces, count=CHANGES, per_namespace=per_namespace)
            _, second = place.capture_all(known)
            stored[objects] = second.stored_bytes
            print(first.line(f"{objects:,} objects, first"))
            print(second.line(f"{objects:,} objects, {CHANGES} changed"))
    ratio = stored[10_000] / stored[1_000]
    print(f"10 × the objects, the same changes: {ratio:.2f} × the bytes")
    dump({"ratio": ratio})


if __name__ == "__main__":
    main()
