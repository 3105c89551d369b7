"""How uvicorn runs the application: its limits, its workers, and an end without losses."""

from __future__ import annotations

import math
import multiprocessing
import os
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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import Multiprocess

from server import logs
from server.settings import Settings

APPLICATION = "server.app:create"
LARGEST_HEAD = 64 * 1024  # Bytes of request line and headers; a token may have 16 KiB of them.
DRAIN_SECONDS = 30
# uvicorn kills a worker that is silent for so long; on a busy machine one may take seconds to import the application.
SILENT_SECONDS = 15
BACKLOG = 2048

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
        partial(application, create),
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
            supervisor = Multiprocess(config, [listener])
            supervisor.run()
            if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
                raise StartFailed
    except KeyboardInterrupt:
        return
    except SystemExit as error:
        if error.code == STARTUP_FAILURE:
            raise StartFailed from error
        raise


def application(create: str) -> Any:
    """Stand the application up in this process: what uvicorn calls, in each worker."""
    _end_with_the_parent()
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


def _end_with_the_parent() -> None:
    """Let a worker finish when its parent was killed; left alone it would hold the port for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def follow() -> None:
            parent.join()
            os.kill(os.getpid(), signal.SIGTERM)

        threading.Thread(target=follow, name="parent", daemon=True).start()


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol with a limit on the head of a request, which httptools gathers without one."""

    _head_bytes: float = (
        0  # Received since the last message ended; none count from the end of a head to that of its body.
    )

    def data_received(self, data: bytes) -> None:
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > LARGEST_HEAD and not self.transport.is_closing():
            self.send_400_response("The head of a request may have 64 KiB.")

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_bytes = -math.inf

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._head_bytes = 0
