"""The servers that are measured: ours as its user runs it, and the floors. Each has a folder and a port of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from uuid import UUID

from bench import floor, machine, seed
from bench.people import People, Person
from bench.postgresql import Cluster

TOP = Path(__file__).parent.parent
START_SECONDS = 30
STOP_SECONDS = 40
UVICORN = ["--workers", "1", "--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "info"]
SETTING = "MFA_"


class Server(ABC):
    """A server in a process of its own, on one core by default."""

    name: str

    def __init__(self, folder: Path, token_key: Path, cores: set[int] | None = None) -> None:
        self.folder = folder
        self.token_key = token_key
        self.cores = cores or machine.cores()[0]
        self.port = _free_port()
        self.origin = f"http://localhost:{self.port}"
        folder.mkdir(parents=True)

    @abstractmethod
    def seed(self, people: People) -> None:
        """Let these users have been here before."""

    @abstractmethod
    def open_challenges(self, people: Sequence[Person]) -> list[UUID]:
        """A challenge for each, which they can answer with a code."""

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def environment(self) -> dict[str, str]: ...

    def start(self) -> float:
        """Start it; returns the seconds to its first answer."""
        began = time.monotonic()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(SETTING)}
        with machine.pinned_to(self.cores), (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                env=environment | self.environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > began + START_SECONDS:
                self.stop()
                raise RuntimeError(f"{self.name} did not start:\n{(self.folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.002)
        took = time.monotonic() - began
        self.memory_at_first, _ = self.memory_mib()
        return took

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)

    def cpu_times(self) -> dict[int, float]:
        """Seconds of CPU time of each of its processes."""
        return machine.cpu_times(machine.family(self.process.pid))

    def database_cpu_times(self) -> dict[int, float]:
        """The same of a database that has processes of its own."""
        return {}

    @abstractmethod
    def forget_mail(self) -> None:
        """Let no mail wait that one piece of work has left to the next."""

    def memory_mib(self) -> tuple[float, float]:
        """Of all its processes; and how much of it is pages of files."""
        return machine.memory_mib(machine.family(self.process.pid))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=START_SECONDS) as connection:
                connection.sendall(b"GET /api/v1/me/mfa HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                return bool(connection.recv(1))
        except OSError:
            return False


class Ours(Server):
    """mfa-server: from the package that is installed, or else from the checkout."""

    name = "mfa-server"

    def __init__(
        self,
        folder: Path,
        token_key: Path,
        cores: set[int] | None = None,
        *,
        workers: int = 1,
        cluster: Cluster | None = None,
    ) -> None:
        super().__init__(folder, token_key, cores)
        self.data = folder / "mfa-data"
        self.data.mkdir(mode=0o700)
        self.workers = workers
        self.cluster = cluster
        self.database_url = cluster.new_database() if cluster else f"sqlite:///{self.data / 'mfa.db'}"
        shutil.copy(token_key, self.data)

    def start(self) -> float:
        if self.cluster:
            with self.storage():
                pass  # That brings the schema up, as `mfa-server migrate`; on SQLite `serve` does so itself.
        return super().start()

    def command(self) -> list[str]:
        command = [str(_script())] if installed() else [sys.executable, "-m", "server"]
        return [*command, "serve", "--port", str(self.port), "--workers", str(self.workers)]

    def environment(self) -> dict[str, str]:
        ours = {"MFA_DATA_DIR": str(self.data), "MFA_DATABASE_URL": self.database_url}
        return ours if installed() else ours | {"PYTHONPATH": str(TOP)}

    def database_cpu_times(self) -> dict[int, float]:
        return self.cluster.cpu_times() if self.cluster else {}

    def forget_mail(self) -> None:
        with self.storage():
            seed.no_mail()

    def storage(self) -> AbstractContextManager[None]:
        """Its database, for this process, while the block lasts."""
        return seed.storage(self.data, self.database_url)

    def seed(self, people: People) -> None:
        with self.storage():
            seed.people(people)

    def open_challenges(self, people: Sequence[Person]) -> list[UUID]:
        with self.storage():
            return seed.challenges(people)


class OursOnGranian(Ours):
    """The same application in another server than uvicorn."""

    name = "granian"

    def start(self) -> float:
        with self.storage():
            pass  # That brings the schema up, as `serve` would have.
        return super().start()

    def command(self) -> list[str]:
        options = ["--interface", "asgi", "--factory", "--loop", "uvloop", "--http", "1", "--no-ws"]
        granian = [sys.executable, "-m", "granian", "--port", str(self.port), "--workers", str(self.workers)]
        return [*granian, *options, "server.app:create"]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"MFA_ORIGINS": self.origin, "MFA_PUBLIC_URL": self.origin}


class Floor(Server):
    """One of the floors: an application of this package, run by uvicorn."""

    application: str

    @property
    def database(self) -> Path:
        return self.folder / "floor.db"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "uvicorn", self.application, "--port", str(self.port), *UVICORN]

    def environment(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(TOP),
            "FLOOR_DATABASE": str(self.database),
            "FLOOR_TOKEN_KEY": str(self.token_key),
            "FLOOR_ORIGIN": self.origin,
        }

    def seed(self, people: People) -> None:
        seed.floor_people(floor.connect(self.database), people)

    def forget_mail(self) -> None:
        """It sends none."""

    def open_challenges(self, people: Sequence[Person]) -> list[UUID]:
        """It asks for none with a code; the contract wants something there."""
        return [person.caller.id for person in people]


class StarletteFloor(Floor):
    name = "Starlette"
    application = "bench.floor_starlette:app"


class ConnexionFloor(Floor):
    name = "Connexion"
    application = "bench.floor_connexion:app"


def installed() -> bool:
    """Whether ours runs from the package installed beside this interpreter, or else from the checkout."""
    return _script().exists()


def _script() -> Path:
    return Path(sys.executable).parent / "mfa-server"


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
