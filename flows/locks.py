"""One process at a time at one piece of work on this machine; the lock goes with the process, however that ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from halfsigma import IllegalTransition


@contextmanager
def alone(lock: Path, *, refusal: str, hint: str) -> Iterator[None]:
    """Hold the file ``lock``; IllegalTransition, with what is given, while another process does."""
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout as error:
        raise IllegalTransition(refusal, hint=hint) from error
