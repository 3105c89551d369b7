"""Requests of which the next depends on the answer to the last, which `wrk` cannot send: a small client of our own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Generator, Iterable, Iterator
from typing import Any, NamedTuple

import uvloop

from bench.wrk import CONNECTIONS, Load, Unexpected

ANSWER_SECONDS = 30


class Answer(NamedTuple):
    status: int
    body: bytes


# A flow yields the bytes of a request, and is sent the answer.
Flow = Generator[bytes, Answer, None]


def send(port: int, flows: Iterable[Flow], connections: int = CONNECTIONS) -> Load:
    """Go through all the flows, several at once, each on one of the kept connections.

    The time of a flow is that of its requests together. Raises Unexpected.
    """
    times: list[float] = []
    queue = iter(flows)
    began = time.perf_counter()
    try:
        uvloop.run(_send(port, queue, connections, times))
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    seconds = time.perf_counter() - began
    times.sort()
    return Load(len(times), seconds, 1000 * times[len(times) // 2], 1000 * times[len(times) * 99 // 100])


def ok(answer: Answer) -> Any:
    """The body of an answer that must be 200. Raises Unexpected."""
    if answer.status != 200:
        raise Unexpected(f"{answer.status}: {answer.body!r}")
    return json.loads(answer.body)


async def _send(port: int, queue: Iterator[Flow], connections: int, times: list[float]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(_worker(port, queue, times))


async def _worker(port: int, queue: Iterator[Flow], times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for flow in queue:
            waited = 0.0
            request = next(flow)
            while True:
                began = time.perf_counter()
                writer.write(request)
                async with asyncio.timeout(ANSWER_SECONDS):
                    status, body = await _read(reader)
                waited += time.perf_counter() - began
                try:
                    request = flow.send(Answer(status, body))
                except StopIteration:
                    break
            times.append(waited)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    return int(head[9:12]), await reader.readexactly(length)
