"""Whether the model explains what was answered at the same time: some order of the requests' steps must."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from copy import copy

from tests.model.operations import OPERATIONS
from tests.model.state import Answer, Lives, Refused, Request

Order = tuple[int, ...]


def play(
    lives: Lives, requests: Sequence[Request], order: Order
) -> tuple[Lives, list[tuple[Hashable, ...]], list[Answer | None]]:
    """The model's lives once the requests have taken a step each time that the order names them.

    Also what each of them has seen so far, and its answer, if that is known yet.
    """
    lives = [copy(life) for life in lives]
    running = [OPERATIONS[request.name](lives, request) for request in requests]
    seen: list[tuple[Hashable, ...]] = [()] * len(requests)
    answers: list[Answer | None] = [None] * len(requests)
    for turn in order:
        if answers[turn] is not None:
            continue
        try:
            seen[turn] += (next(running[turn]),)
        except StopIteration as end:
            answers[turn] = end.value
        except Refused as refused:
            answers[turn] = refused.answer
    return lives, seen, answers


def explained(lives: Lives, requests: Sequence[Request], fits: Callable[[Lives], bool]) -> Lives | None:
    """The lives after the requests, in the first order that leads to all their answers and to lives that fit."""
    tried: set[Hashable] = set()
    # The last is tried first: an order in which each request ends before another one begins.
    orders: list[Order] = [()]
    while orders:
        order = orders.pop()
        after, seen, answers = play(lives, requests, order)
        if any(answer not in (None, request.answer) for answer, request in zip(answers, requests, strict=True)):
            continue
        state = (*(tuple(vars(life).values()) for life in after), *seen, *answers)
        if state in tried:
            continue
        tried.add(state)
        if None not in answers:
            if fits(after):
                return after
            continue
        waiting = [turn for turn, answer in enumerate(answers) if answer is None and turn != (order or (-1,))[-1]]
        orders += [(*order, turn) for turn in reversed(waiting)]
        if order and answers[order[-1]] is None:
            orders.append((*order, order[-1]))
    return None


def told(lives: Lives, requests: Sequence[Request]) -> list[tuple[Lives, list[Answer | None]]]:
    """What the model would have made of them, one after another: for the reader of a failure."""
    order = tuple(turn for turn in range(len(requests)) for _ in range(6))
    after, _, answers = play(lives, requests, order)
    return [(after, answers)]
