"""Volumes of a cluster: snapshots of them, claims made from those, movers beside them, claims filled in their place.

Everything that is made here carries a mark of this process, is removed whatever happens, and can be found by whoever
comes after a process that died (`leftovers`). Contents never pass through here: movers read and write locations.
"""
