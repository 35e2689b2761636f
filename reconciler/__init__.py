"""Policy-as-code backup and recovery for Kubernetes."""

__version__ = "0.1.0"
