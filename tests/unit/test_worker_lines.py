"""A node's connections to Redis: a server that answers nothing, or is gone, is noticed."""  # Q6

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import redis

from penstock.worker.lines import CommandLine, Line
from penstock.worker.loop import Loop

ANSWER_S = 0.1


class Server:
    """Takes one connection and answers its handshake; `answer` says what to do about what else comes."""

    def __init__(self, answer: Callable[[socket.socket, bytes], bool]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        taken, _ = self._listening.accept()
        self._listening.close()
        with taken:
            while data := taken.recv(65536):
                taken.sendall(b"+OK\r\n" * data.count(b"CLIENT"))
                if b"CLIENT" not in data and not self._answer(taken, data):
                    return


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


def turn_until(loop: Loop, is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    till = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < till
        loop.call_in(0.02, lambda: None)
        loop.turn()


class Asking(Line):
    """Counts what it hears."""

    heard = 0

    def answer(self, reply: object) -> None:
        self.heard += 1


def test_a_server_that_falls_silent_is_lost_though_it_answered_before(loop: Loop) -> None:
    def answer(taken: socket.socket, data: bytes) -> bool:
        if b"QUICK" in data:
            taken.sendall(b"+OK\r\n")
        return True

    line = Asking(loop, redis.Redis(port=Server(answer).port), lambda: True)
    line.open()
    for number in range(5):
        line.write("QUICK", answer_s=ANSWER_S)
        turn_until(loop, lambda number=number: line.heard > number)  # type: ignore[misc]
    until = time.monotonic() + 2 * ANSWER_S  # nothing is asked, so nothing is missed
    turn_until(loop, lambda: time.monotonic() > until)
    assert line.connected
    line.write("SILENCE", answer_s=ANSWER_S)
    turn_until(loop, lambda: not line.connected)
    line.close()


def test_a_connection_that_is_reset_while_much_is_to_be_sent_is_lost(loop: Loop) -> None:
    is_full = threading.Event()

    def answer(taken: socket.socket, data: bytes) -> bool:
        is_full.wait(10)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False

    line = CommandLine(loop, redis.Redis(port=Server(answer).port))
    line.open()
    line.call(lambda reply: None, "SET", "key", "x" * 50_000_000)
    is_full.set()
    turn_until(loop, lambda: not line.connected)
    line.close()
