"""The fixtures of the contract suite."""

from tests.support.clusters import bench, contracted

__all__ = ["bench", "contracted"]
