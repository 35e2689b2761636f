"""A relay in front of a server, whose connections a test can cut or make silent while they stay open."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Relay:
    """Passes bytes on both ways. Connections made before `mute` or `cut` suffer it, later ones do not. Plain HTTP."""

    target: tuple[str, int]
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    pairs: list[_Pair] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    losing: bytes = b""
    left: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> None:
        """Serve until the listener is closed."""
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                pair = _Pair(self, near, socket.create_connection(self.target))
                self.pairs.append(pair)
                for source, sink in ((pair.near, pair.far), (pair.far, pair.near)):
                    thread = threading.Thread(target=pair.carry, args=(source, sink), daemon=True)
                    thread.start()
                    self.threads.append(thread)

    def mute(self, asking: bytes) -> int:
        """From now on nothing goes through the connections that asked for this; neither end is told."""
        for pair in self.pairs:
            pair.is_mute = pair.is_mute or asking in pair.asked
        return sum(pair.is_mute for pair in self.pairs)

    def lose_answers(self, asking: bytes, count: int) -> None:
        """Of the next requests with these bytes, so many reach the server, and their answers get lost."""
        with self.lock:
            self.losing, self.left = asking, count

    def is_lost(self, request: bytes) -> bool:
        """Whether the answer to a request gets lost; counts it."""
        with self.lock:
            if not self.left or self.losing not in request:
                return False
            self.left -= 1
            return True

    def cut(self) -> None:
        """Close the connections that exist."""
        for pair in self.pairs:
            pair.close()

    def close(self) -> None:
        """Stop."""
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut()
        for thread in self.threads:
            thread.join(10)


@dataclass
class _Pair:
    relay: Relay
    near: socket.socket
    far: socket.socket
    is_mute: bool = False
    asked: bytes = b""
    """The request that is being made or answered."""
    answered: bool = False

    def carry(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                if source is self.near:
                    self.asked = piece if self.answered else self.asked + piece
                    self.answered = False
                else:
                    self.answered = True
                    if self.relay.is_lost(self.asked):
                        self.close()
                        return
                if not self.is_mute:
                    sink.sendall(piece)
            if not self.is_mute:
                sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        for end in (self.near, self.far):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def relaying(host: str, port: int) -> Iterator[Relay]:
    """A relay to a server."""
    relay = Relay((host, port))
    accepting = threading.Thread(target=relay.accept, daemon=True)
    accepting.start()
    try:
        yield relay
    finally:
        relay.close()
        accepting.join(10)
