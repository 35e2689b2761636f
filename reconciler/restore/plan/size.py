"""Objects near the largest size that a server keeps: what transforms made too large gives up its last-applied copy.

The copy that `kubectl apply` keeps in an annotation may be a third of an object and is the only part that nothing
runs on. What is too large without it cannot be kept as a custom resource, which is stored as JSON; other kinds are
stored in a smaller form, so there the server decides.

Source: etcd's `--max-request-bytes` (1.5 MiB); the validation of annotations (256 KiB in all).
"""

from __future__ import annotations

from reconciler.objects import Manifest, annotations_of, canonical, field
from reconciler.restore.plan.draft import Draft
from reconciler.restore.plan.gates import is_custom
from reconciler.restore.plan.strip import LAST_APPLIED

OBJECT_BYTES_MAX = 1_572_864
ANNOTATION_BYTES_MAX = 262_144


def fit(draft: Draft) -> None:
    """Make an object that transforms enlarged fit, or block it."""
    if draft.desired is None or draft.ended is not None or not _is_too_large(draft.desired, draft):
        return
    if LAST_APPLIED in annotations_of(draft.desired):
        metadata = draft.desired["metadata"]
        kept = {key: text for key, text in metadata["annotations"].items() if key != LAST_APPLIED}
        draft.desired = {**draft.desired, "metadata": {**metadata, "annotations": kept}}
        draft.note(
            f"{LAST_APPLIED} is left out, because the object is too large with it; "
            "the next `kubectl apply` removes nothing"
        )
    if _is_too_large(draft.desired, draft):
        size = len(canonical(draft.desired))
        if is_custom(draft.target.group):
            draft.ended = (
                "blocked",
                "TooLarge",
                f"transforms made it {size:,} bytes; a server keeps {OBJECT_BYTES_MAX:,} at most",
            )
        else:
            draft.note(f"it has {size:,} bytes as JSON and may be refused")


def _is_too_large(manifest: Manifest, draft: Draft) -> bool:
    """Whether it is beyond a limit that it was not beyond when it was captured."""
    if _annotation_bytes(manifest) > ANNOTATION_BYTES_MAX:
        return True
    size = len(canonical(manifest))
    if size * 2 < OBJECT_BYTES_MAX:
        return False
    managed = field(draft.captured, "metadata", "managedFields")
    owners = len(canonical(managed)) if managed else 0
    is_grown = size + owners > len(canonical(draft.captured))
    return is_grown and size + owners > OBJECT_BYTES_MAX


def _annotation_bytes(manifest: Manifest) -> int:
    return sum(
        len(key.encode()) + len(str(text).encode())
        for key, text in annotations_of(manifest).items()
    )
