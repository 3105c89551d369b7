"""How uvicorn runs the application: its limits, its workers, and an end without losses."""

from __future__ import annotations

import math
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import warnings
from functools import partial
from pkgutil import resolve_name
from typing import Any

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from factors.errors import HeadTooLarge, MalformedRequest, Refusal
from server import draining, logs
from server.settings import Settings

APPLICATION = "server.app:create"
LARGEST_HEAD = 64 * 1024  # Bytes of request line and headers; a token may have 16 KiB of them.
DRAIN_SECONDS = 30
# uvicorn kills a worker that is silent for so long; on a busy machine one may take seconds to import the application.
SILENT_SECONDS = 15
BACKLOG = 2048
# When the server ends, a connection on which nothing comes for so long is closed; what came before is answered.
IDLE_SECONDS = 1.0

log = structlog.get_logger()


class StartFailed(Exception):
    """The application could not be stood up; the log says why."""


def listen(host: str, port: int) -> socket.socket:
    """Take the address, before anything else is done. Raises OSError."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    return socket.create_server(address[:2], family=family, backlog=BACKLOG)


def run(listener: socket.socket, workers: int, create: str = APPLICATION) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that are under way.

    Args:
        listener: Where requests come in; `listen` makes one.
        workers: How many processes serve. One is this process; more are its children, and started anew when they die.
        create: The function that makes the application, as module:name.

    Raises:
        StartFailed: There is no application to serve.
    """
    # uvicorn raises the signal once more when it has finished, and the process would end as if it had been killed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    config = uvicorn.Config(
        partial(application, create, listener),
        factory=True,
        workers=workers,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        timeout_worker_healthcheck=SILENT_SECONDS,
    )
    try:
        if workers == 1:
            uvicorn.Server(config).run([listener])
        else:
            supervisor = Supervisor(config, [listener])
            supervisor.run()
            if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
                raise StartFailed
    except KeyboardInterrupt:
        return
    except SystemExit as error:
        if error.code == STARTUP_FAILURE:
            raise StartFailed from error
        raise
    finally:
        logs.let_go()


class Supervisor(Multiprocess):
    """uvicorn's supervisor of workers, which takes no connections when it ends."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket]) -> None:
        super().__init__(config, sockets)
        signal.signal(signal.SIGTERM, self._end)

    def _end(self, number: int, _frame: object) -> None:
        # At once, since the workers may have been told as well.
        for listener in self.sockets:
            draining.begin_no_more(listener)
        self.signal_queue.append(number)

    def terminate_all(self) -> None:
        super().terminate_all()
        # Each worker has it too, and closes it once it is of no more use.
        for listener in self.sockets:
            listener.close()


def application(create: str, listener: socket.socket) -> Any:
    """Stand the application up in this process: what uvicorn calls, in each worker."""
    draining.accept_the_rest(listener, shut=multiprocessing.parent_process() is None)
    _end_with_the_parent(listener)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # They are for developers, who ask for them with `python -W`.
    logs.configure(Settings())
    try:
        return resolve_name(create)()
    except Exception as error:
        # Whatever it is, the next worker would meet it as well: uvicorn must not start one after the other.
        log.critical("start.failed", exc_info=error)
        if multiprocessing.parent_process() is not None:
            # At once, since a worker that winds down answers no ping, and uvicorn would wait for the answer.
            os._exit(STARTUP_FAILURE)
        sys.exit(STARTUP_FAILURE)


def _end_with_the_parent(listener: socket.socket) -> None:
    """Let a worker finish when its parent was killed; left alone it would hold the port for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            draining.begin_no_more(listener)
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, name="parent", daemon=True).start()


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the head of a request, which httptools gathers without one, and with an end
    at which no request is lost that has been sent.
    """

    _head_bytes: float = (
        0  # Received since the last message ended; none count from the end of a head to that of its body.
    )
    _is_last: bool = False  # Whether the next answer is the last one on this connection.

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > LARGEST_HEAD and not self.transport.is_closing():
            self._refuse(HeadTooLarge())

    def send_400_response(self, msg: str) -> None:
        self._refuse(MalformedRequest())

    def _refuse(self, refusal: Refusal) -> None:
        """Answer what has not become a request, so that the application does not see it, and hang up."""
        # Not above, since they import Connexion, which only a process that serves needs.
        from server import edge, problems

        status, headers, body = problems.render(refusal)
        request_id = edge.new_request_id()
        log.info("request.refused", code=refusal.code, status=status, request_id=request_id)
        headers |= {
            "X-Content-Type-Options": "nosniff",
            "X-Request-Id": request_id,
            "Content-Length": str(len(body)),
            "Connection": "close",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[status] + head.encode() + b"\r\n" + body)
        self.transport.close()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_bytes = -math.inf
        if self._is_last:
            # The answer says so, and the client does not begin another request here.
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = 0

    def shutdown(self) -> None:
        self._is_last = True
        if self._is_idle:
            # Not at once: a request may be on its way, or be here and not have been read.
            self.loop.call_later(IDLE_SECONDS, self._close_if_idle)
        else:
            super().shutdown()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self.transport.is_closing() or not self._is_idle:
            return
        unread = select.poll()
        unread.register(self.transport.get_extra_info("socket").fileno(), select.POLLIN)
        if unread.poll(0):
            self.loop.call_later(draining.LOOK_SECONDS, self._close_if_idle)
        else:
            self.transport.close()
