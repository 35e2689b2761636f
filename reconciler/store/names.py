"""Names of the objects in a location: `format`, `keys/`, and a domain's sessions, packs, index, points."""

from __future__ import annotations

from reconciler.errors import UsageError
from reconciler.store.naming import is_part
from reconciler.store.port import PointName

FORMAT = "format"
KEYS = "keys/"
DOMAINS = "domains/"


def check_domain(domain: str) -> str:
    """Return `domain` when it can be part of a name.

    Raises:
        UsageError: it cannot.
    """
    if not is_part(domain):
        raise UsageError(
            f"open domain {domain[:80]!r}: not a name",
            hint="a domain is the uid of a cluster, or 'local'",
        )
    return domain


def key_object(key: str) -> str:
    """A key slot."""
    return f"{KEYS}{key}"


def domain_prefix(domain: str) -> str:
    """Everything of a domain."""
    return f"{DOMAINS}{check_domain(domain)}/"


def sessions_prefix(domain: str) -> str:
    """The wrapped content keys of a domain's writers."""
    return f"{domain_prefix(domain)}sessions/"


def session_object(domain: str, session: bytes) -> str:
    """One wrapped content key."""
    return f"{sessions_prefix(domain)}{session.hex()}"


def packs_prefix(domain: str) -> str:
    """The packs of a domain."""
    return f"{domain_prefix(domain)}packs/"


def pack_object(domain: str, pack: bytes) -> str:
    """A pack; two hex digits fan out so that no directory grows too large."""
    text = pack.hex()
    return f"{packs_prefix(domain)}{text[:2]}/{text}"


def index_prefix(domain: str) -> str:
    """The index objects of a domain."""
    return f"{domain_prefix(domain)}index/"


def index_object(domain: str, index: bytes) -> str:
    """An index object: named as the pack that it lists, or at random when it lists many."""
    return f"{index_prefix(domain)}{index.hex()}"


def points_prefix(domain: str) -> str:
    """The points of a domain."""
    return f"{domain_prefix(domain)}points/"


def point_object(name: PointName) -> str:
    """A point."""
    for part in (name.namespace, name.application, name.slot):
        if not is_part(part):
            raise UsageError(
                f"name point {name.path[:120]!r}: {part[:60]!r} is not a name",
                hint="use letters, digits, '_', '.' and '-'; a part starts with a letter, a digit or '_'",
            )
    return f"{points_prefix(name.domain)}{name.path}"


def parse_point(name: str) -> PointName | None:
    """The point that an object is; None when it is something else."""
    match name.split("/"):
        case ["domains", domain, "points", namespace, application, slot]:
            return PointName(domain, namespace, application, slot)
    return None


def parse_id(name: str) -> bytes | None:
    """The 16 bytes that a pack, index or session object is named by; None when it is a stranger."""
    last = name.rpartition("/")[2]
    if len(last) != 32 or last != last.lower():
        return None
    try:
        return bytes.fromhex(last)
    except ValueError:
        return None
