"""A line to PostgreSQL that breaks around a COMMIT: before it has arrived, or before its answer has."""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

When = Literal["before it arrives", "before its answer arrives"]

# What is said before there is a session has no type in front of its length.
UNTYPED = 4
TYPED = 5
# The courier and the purge, which work beside every request.
HOUSEKEEPING = re.compile(rb'(UPDATE|DELETE FROM) "outbox_mail"|DELETE FROM "\w+" WHERE [^>=]*<=')


class Line:
    """A port that leads to PostgreSQL's socket. `cut` arms it; it is armed for one COMMIT at most."""

    def __init__(self, to: Path) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._number = 0
        self._when: When = "before it arrives"

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def cut(self, number: int, when: When) -> None:
        """Cut the connection around the COMMIT that comes after `number - 1` others."""
        with self._lock:
            self._number, self._when = number, when

    def was_cut(self) -> bool:
        """Whether it has come to that; if not, it will not."""
        with self._lock:
            was_cut = self._number == 0
            self._number = 0
        return was_cut

    def serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(str(self._to))
                with self._lock:
                    self._open |= {client, server}
                self._start(self._requests, client, server)
                self._start(self._answers, server, client)

    def close(self) -> None:
        # Closing alone would not wake the thread that accepts.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for line in self._open:
                _hang_up(line)
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        for line in self._open:
            line.close()

    def _start(self, work: object, *lines: socket.socket) -> None:
        thread = threading.Thread(target=work, args=lines, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _answers(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        _hang_up(client)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        """Message by message (PostgreSQL's manual, "Frontend/Backend Protocol")."""
        heard = client.makefile("rb")
        head, is_request = UNTYPED, False
        with contextlib.suppress(OSError, struct.error):
            while True:
                begin = heard.read(head)
                [length] = struct.unpack(">I", begin[-4:])
                message = begin + heard.read(length - 4)
                kind = message[:1] if head == TYPED else b""
                head = TYPED
                if kind == b"Q" and message[TYPED:].startswith(b"BEGIN"):
                    is_request = True
                elif HOUSEKEEPING.search(message):
                    is_request = False
                if kind == b"Q" and message[TYPED:].startswith(b"COMMIT") and is_request and self._is_the_one():
                    self._cut_around(message, client, server)
                    return
                server.sendall(message)
        _hang_up(server)

    def _is_the_one(self) -> bool:
        with self._lock:
            if self._number == 0:
                return False
            self._number -= 1
            return self._number == 0

    def _cut_around(self, message: bytes, client: socket.socket, server: socket.socket) -> None:
        _hang_up(client)
        if self._when == "before its answer arrives":
            server.sendall(message)
            # Behind it a good-bye, so that PostgreSQL has committed when it hangs up.
            server.sendall(b"X" + struct.pack(">I", 4))
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_WR)
        else:
            _hang_up(server)


def _hang_up(line: socket.socket) -> None:
    with contextlib.suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)


@contextmanager
def line_to(socket_of_postgresql: Path) -> Iterator[Line]:
    line = Line(socket_of_postgresql)
    accepting = threading.Thread(target=line.serve, daemon=True)
    accepting.start()
    try:
        yield line
    finally:
        line.close()
        accepting.join()
