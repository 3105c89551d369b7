"""An end without losses: whatever a client has sent on a connection that was made is answered before we go.

The kernel makes connections before anybody accepts them, and would reset those of them that are left in its queue when
the socket is closed. So at the end no more are begun, those in the queue are accepted, and only then is it closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import structlog

# By then a handshake that was under way has come to its end, wherever the client is.
SETTLE_SECONDS = 0.2
LOOK_SECONDS = 0.02
LONGEST_SECONDS = 5.0

SO_ATTACH_FILTER = 26  # Linux, asm-generic/socket.h
# A classic BPF program that is shown each segment for the socket from its TCP header on (RFC 9293 section 3.1): those
# with SYN are dropped, which begin a connection, and all others pass. Who is not answered tries again a second later.
NO_MORE = [
    (0x30, 0, 0, 13),  # Load the byte with the flags.
    (0x45, 0, 1, 0x02),  # Is SYN among them?
    (0x06, 0, 0, 0),
    (0x06, 0, 0, 0xFFFFFFFF),
]
UNACCEPTED = 24  # Where `struct tcp_info` of a listening socket has the length of its queue.

Handler = Callable[[int, FrameType | None], Any]
log = structlog.get_logger()


def begin_no_more(listener: socket.socket) -> None:
    """Let the kernel make no further connection, for any process that has the socket."""
    if sys.platform != "linux":
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in NO_MORE))
    try:
        listener.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(NO_MORE), ctypes.addressof(program))
        )
    except OSError as error:
        # A sandbox may forbid it. Then a connection can be lost that begins in the moment in which we close.
        log.warning("listener.not_shut", error=str(error))


def accept_the_rest(listener: socket.socket, *, shut: bool) -> None:
    """Let SIGTERM wait until the queue is empty, before the handler there is now learns of it.

    Args:
        shut: Whether this process is the server, and not one of its workers, of which others may go on.
    """
    then: Any = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, _End(listener, then, shut=shut))


class _End:
    """What SIGTERM sets off; the second one waits for nothing."""

    def __init__(self, listener: socket.socket, then: Handler, *, shut: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._then = then
        self._shut = shut
        self._until = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self._until:
            self._then(number, frame)
            return
        self._until = time.monotonic() + LONGEST_SECONDS
        if self._shut:
            begin_no_more(self._listener)
        self._loop.call_soon_threadsafe(self._loop.call_later, SETTLE_SECONDS, self._look, number)

    def _look(self, number: int) -> None:
        if _queue(self._listener) and time.monotonic() < self._until:
            self._loop.call_later(LOOK_SECONDS, self._look, number)
        else:
            self._then(number, None)


def _queue(listener: socket.socket) -> int:
    """How many connections wait to be accepted, as far as the system tells."""
    if sys.platform != "linux":
        return 0
    information = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, UNACCEPTED + 4)
    return int(struct.unpack_from("I", information, UNACCEPTED)[0])
