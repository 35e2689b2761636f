"""Change objects on their way back, so that they fit the target."""

from reconciler.transform.change import Change, Transformed, TransformError
from reconciler.transform.migrate import extend_discovery
from reconciler.transform.namespaces import map_namespaces
from reconciler.transform.pipeline import Pipeline
from reconciler.transform.rules import faults

__all__ = [
    "Change",
    "Pipeline",
    "TransformError",
    "Transformed",
    "extend_discovery",
    "faults",
    "map_namespaces",
]
