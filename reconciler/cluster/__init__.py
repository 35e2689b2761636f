"""The port to Kubernetes APIs, its adapter for real clusters, and the sandbox."""
