"""Lists in pages, selectors, and watches."""

from __future__ import annotations

import threading

import pytest

MAPS = "/api/v1/namespaces/default/configmaps"


def fill(http, count, **labels):
    for n in range(count):
        http.post(MAPS, {"metadata": {"name": f"c-{n:03}", "labels": {"n": str(n % 2)} | labels}})


def names(answer):
    return [item["metadata"]["name"] for item in answer["items"]]


def test_pages_show_one_moment(http):
    """Pages come from the state at the first page, whatever is written in between; each item once."""
    fill(http, 25)
    first = http.get(MAPS + "?limit=10")
    http.post(MAPS, {"metadata": {"name": "b-late"}})
    http.call("DELETE", f"{MAPS}/c-020")
    second = http.get(MAPS + f"?limit=10&continue={first['metadata']['continue']}")
    third = http.get(MAPS + f"?limit=10&continue={second['metadata']['continue']}")

    assert names(first) + names(second) + names(third) == [f"c-{n:03}" for n in range(25)] + [
        "kube-root-ca.crt"
    ]
    assert [p["metadata"].get("remainingItemCount") for p in (first, second, third)] == [
        16,
        6,
        None,
    ]
    assert len({p["metadata"]["resourceVersion"] for p in (first, second, third)}) == 1
    assert names(http.get(MAPS + f"?limit=10&continue={first['metadata']['continue']}")) == names(
        second
    )


def test_continue_tokens_expire(sandbox, http):
    """A token is too old after a compaction: 410."""
    fill(http, 5)
    old = http.get(MAPS + "?limit=2")["metadata"]["continue"]
    sandbox.compact()

    status, answer = http.call("GET", MAPS + f"?limit=2&continue={old}")

    assert (status, answer["reason"]) == (410, "Expired")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("labelSelector=n%3D1", ["c-001"]),
        ("labelSelector=n%3D%3D1,app%3Dx", ["c-001"]),
        ("labelSelector=n!%3D1,n", ["c-000", "c-002"]),
        ("labelSelector=n%20in%20(1,7)", ["c-001"]),
        ("labelSelector=n,n%20notin%20(1,7)", ["c-000", "c-002"]),
        ("labelSelector=!n", ["kube-root-ca.crt"]),
        ("fieldSelector=metadata.name%3Dc-001", ["c-001"]),
        ("fieldSelector=metadata.namespace%3Dother", []),
    ],
)
def test_selectors(http, query, expected):
    """Equality and set selectors on labels, names and namespaces by field."""
    fill(http, 3, app="x")

    assert names(http.get(f"{MAPS}?{query}")) == expected


def test_unreadable_selectors_are_refused(http):
    """400, never an empty answer."""
    assert http.call("GET", MAPS + "?labelSelector=a%20in%20b")[0] == 400
    assert http.call("GET", MAPS + "?fieldSelector=what")[0] == 400


def test_lists_of_all_namespaces(http):
    """Without a namespace in the path, all of them, sorted; items carry kind and apiVersion."""
    items = http.get("/api/v1/configmaps")["items"]

    assert [i["metadata"]["namespace"] for i in items] == [
        "default",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    ]
    assert {(i["apiVersion"], i["kind"]) for i in items} == {("v1", "ConfigMap")}


def test_a_watch_resumes_where_a_list_ended(http):
    """From the list's version on: additions, changes, deletions, a bookmark at the end; other namespaces not."""
    version = http.get(MAPS)["metadata"]["resourceVersion"]
    http.post(MAPS, {"metadata": {"name": "a"}})
    http.call("PATCH", f"{MAPS}/a", {"data": {"k": "v"}}, kind="application/merge-patch+json")
    http.call("DELETE", f"{MAPS}/a")
    http.post("/api/v1/namespaces/kube-system/configmaps", {"metadata": {"name": "other"}})
    query = f"?watch=true&resourceVersion={version}&allowWatchBookmarks=true&timeoutSeconds=1"
    events = list(http.watch(MAPS + query))

    assert [e["type"] for e in events] == ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(versions) and versions[0] > int(version)


def test_a_watch_hears_what_comes(http):
    """Events arrive while the watch is open; without a version it starts with what is there."""
    seen, named = [], threading.Event()

    def listen():
        for event in http.watch(MAPS + "?watch=1&timeoutSeconds=30"):
            seen.append((event["type"], event["object"]["metadata"]["name"]))
            named.set()
            if len(seen) == 2:
                return

    thread = threading.Thread(target=listen)
    thread.start()
    named.wait(10)
    http.post(MAPS, {"metadata": {"name": "late"}})
    thread.join(10)

    assert seen == [("ADDED", "kube-root-ca.crt"), ("ADDED", "late")]


def test_a_watch_with_a_selector_sees_objects_come_and_go(http):
    """An object that stops matching is DELETED for this watch, one that begins to is ADDED."""
    version = http.get(MAPS)["metadata"]["resourceVersion"]
    http.post(MAPS, {"metadata": {"name": "a"}})
    for value in ("x", "y"):
        http.call(
            "PATCH",
            f"{MAPS}/a",
            {"metadata": {"labels": {"l": value}}},
            kind="application/merge-patch+json",
        )
    events = http.watch(
        MAPS + f"?watch=1&labelSelector=l%3Dx&resourceVersion={version}&timeoutSeconds=1"
    )

    assert [e["type"] for e in events] == ["ADDED", "DELETED"]


def test_a_version_too_old_is_an_error_event_after_a_200(sandbox, http):
    """410 comes inside the stream, as real servers send it."""
    version = http.get(MAPS)["metadata"]["resourceVersion"]
    http.post(MAPS, {"metadata": {"name": "a"}})
    sandbox.compact()
    (event,) = http.watch(MAPS + f"?watch=1&resourceVersion={version}")

    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == (
        "ERROR",
        410,
        "Expired",
    )


def test_a_streamed_initial_list_ends_with_a_marked_bookmark(http):
    """sendInitialEvents: what is there, then a bookmark that says so."""
    query = "?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&timeoutSeconds=1"
    events = list(http.watch(MAPS + query))

    assert [e["type"] for e in events[:2]] == ["ADDED", "BOOKMARK"]
    assert events[1]["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_small_pages_cover_a_large_list(http):
    """Every object is on exactly one page, the second time too, when its text is kept from the first."""
    for n in range(300):
        http.post(MAPS, {"metadata": {"name": f"c-{n}"}, "data": {"k": "v" * 2000}})
    for _ in range(2):
        token, seen = "", 0
        while True:
            page = http.get(MAPS + f"?limit=50&continue={token}")
            seen += len(page["items"])
            if not (token := page["metadata"].get("continue", "")):
                break
        assert seen == 301
