"""Tests that fail and keep a socket or a thread, each beside one that passes."""

# mypy: ignore-errors

import gc
import socket
import threading

gate = threading.Event()
late = []


def test_sockets():
    kept = [socket.socket()]
    kept.append(kept)
    raise AssertionError


def test_beside_the_sockets():
    gc.collect()


def test_thread():
    def later():
        gate.wait()
        raise ValueError

    late.append(threading.Thread(target=later))
    late[0].start()
    raise AssertionError


def test_beside_the_thread():
    gate.set()
    late[0].join()
