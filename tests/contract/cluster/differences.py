"""Where the sandbox and a real API server differ in what the contract suite can show, and why.

Each entry names the tests that make an exception. Everything else behaves the same on both.
"""

EXPIRY = (
    "A real server expires resource versions and continue tokens after minutes, when etcd is compacted; "
    "the sandbox does it at once when it is told to. The suite therefore expires them on the sandbox only."
)
BOOKMARKS = (
    "A real server sends a bookmark about once a minute, and one when a watch ends; the sandbox every five seconds. "
    "The suite therefore waits for the one at the end of a short watch, and only on the sandbox."
)
SCHEDULING = (
    "The sandbox runs a pod as local processes: images, nodes and networks mean nothing there."
)
BINDING = (
    "A real claim may bind only when a pod uses it (WaitForFirstConsumer); the sandbox binds at once. "
    "The suite always starts a pod first."
)
APPLY_CONFLICTS = (
    "A real server refuses an apply over another manager's field; the sandbox lets it through. "
    "The refusal is asked of real servers only."
)
