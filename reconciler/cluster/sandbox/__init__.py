"""The sandbox: a small Kubernetes API in one process."""

from reconciler.cluster.sandbox.faults import Fault, Faults
from reconciler.cluster.sandbox.server import Sandbox

__all__ = ["Fault", "Faults", "Sandbox"]
