"""SIGTERM under load loses no request (REL-05): once a connection was made, what is sent on it is answered."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.draining import begin_no_more
from storage.user import Caller
from tests.faults.disk import begun, workers
from tests.running import API, RunningServer

CLIENTS, QUEUED, QUIET = 6, 20, 5
# A while in which the kernel makes connections for a server that does not accept them.
HELD_SECONDS = 0.3
# When those that were quiet say something: before the last moment for that, as `server/serving.py` has it.
LATER_SECONDS = {1: 0.2, 2: 0.4}
PATIENCE = 30


class Client:
    """A connection, for one request or for many: each begins the enrolment of a new user."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        self._user = uuid.UUID(int=0)
        self.is_open = False

    def connect(self) -> None:
        self._connection.connect()
        self._connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.is_open = True

    def send(self) -> None:
        sub = f"user-{uuid.uuid4().hex}"
        self._user = Caller.of(sub).id
        headers = {"Authorization": f"Bearer {self._server.token(sub)}"}
        self._connection.request("POST", f"{API}/totp/enable", headers=headers)

    def receive(self) -> uuid.UUID:
        """The user who was answered. Raises OSError or HTTPException where there is no whole answer."""
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200
        if response.will_close:
            self.close()
        return self._user

    def close(self) -> None:
        self._connection.close()
        self.is_open = False


class Load:
    """Clients that ask until nobody listens any more; half of them keep their connections, half make a new one each."""

    def __init__(self, server: RunningServer) -> None:
        self.answered: list[uuid.UUID] = []
        self.lost: list[Exception] = []
        self._server = server
        self.threads = [threading.Thread(target=self._run, args=(number % 2 == 0,)) for number in range(CLIENTS)]

    def _run(self, keep: bool) -> None:
        client = Client(self._server)
        while True:
            if not client.is_open:
                try:
                    client.connect()
                except ConnectionRefusedError:
                    return
            try:
                client.send()
                self.answered.append(client.receive())
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(error)
                client.close()
            if not keep:
                client.close()


@contextlib.contextmanager
def held(server: RunningServer) -> Iterator[None]:
    """All processes of the server stand still."""
    assert server.process is not None
    processes = [server.process.pid, *workers(server)]
    for process in processes:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@pytest.mark.parametrize("count", [1, 2])
def test_rel_05_sigterm_loses_no_request_that_was_sent_on_a_connection_that_was_made(
    tmp_path: Path, count: int
) -> None:
    with RunningServer(tmp_path, workers=count) as server:
        assert server.process is not None
        load = Load(server)
        for thread in load.threads:
            thread.start()
        kept, new, queued = ([Client(server) for _ in range(number)] for number in (QUIET, QUIET, QUEUED))
        for client in kept:
            client.connect()
            client.send()
            load.answered.append(client.receive())
        for client in new:
            client.connect()
        with held(server):
            for client in queued:
                client.connect()
                client.send()
            time.sleep(HELD_SECONDS)
            server.process.send_signal(signal.SIGTERM)
        time.sleep(LATER_SECONDS[count])
        for client in (*kept, *new):
            client.send()
        for client in (*queued, *kept, *new):
            load.answered.append(client.receive())
            client.close()
        for thread in load.threads:
            thread.join(PATIENCE)
        assert server.process.wait(PATIENCE) == 0
    assert load.lost == []
    assert len(load.answered) > 10 * CLIENTS
    assert set(load.answered) == begun(server)


def test_a_socket_that_is_shut_keeps_the_connections_it_has_and_makes_no_others() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with socket.create_connection(address) as made:
            made.sendall(b"first")
            begin_no_more(listener)
            with pytest.raises(TimeoutError):
                socket.create_connection(address, timeout=0.3)
            accepted, _ = listener.accept()
            with accepted:
                made.sendall(b" and second")
                made.shutdown(socket.SHUT_WR)
                with accepted.makefile("rb") as received:
                    assert received.read() == b"first and second"
