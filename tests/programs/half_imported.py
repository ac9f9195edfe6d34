"""Let the import of httpx fail in one thread while another one waits for it, and print what each of them got."""

import errno
import os
import sys
import threading
import time
from types import CodeType

from neo_daemons.checks import http

answers: list[str] = []


def make() -> None:
    try:
        answers.append(type(http.make_client(verify=False)).__name__)
    except Exception as error:
        answers.append(str(error))


second = threading.Thread(target=make)


def place_of_second() -> tuple[CodeType, int] | None:
    """Where the second thread is, once it makes its client."""
    frame = innermost = sys._current_frames().get(second.ident or 0)
    while frame is not None and frame.f_code is not http.make_client.__code__:
        frame = frame.f_back
    return None if frame is None or innermost is None else (innermost.f_code, innermost.f_lasti)


class Lacking:
    """Fails within the first import, once the second thread waits for it."""

    def __init__(self) -> None:
        self._has_failed = False

    def find_spec(self, name: str, *_: object) -> None:
        if name != "httpx._client" or self._has_failed:
            return
        self._has_failed = True
        second.start()
        before = None
        while (now := place_of_second()) is None or now != before:
            before = now
            time.sleep(0.02)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


sys.meta_path.insert(0, Lacking())
make()
second.join()
print(*answers, sep=", ")
