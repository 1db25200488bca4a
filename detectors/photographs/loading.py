"""Reading many photographs, some of which may be broken, while the next step already works on the first ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from detectors.photographs.images import Photograph, read_photograph
from halfsigma import ImageError

READ_AHEAD = 8
"""Photographs decoded in advance: enough to hide the disk, few enough for 20-megapixel images."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: Path
    reason: str


def read_ahead(paths: Sequence[Path]) -> Iterator[Photograph | Unreadable]:
    """Photographs in the order of ``paths``, decoded by two threads ahead of their use."""
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="read") as pool:
        waiting: deque[Future[Photograph | Unreadable]] = deque()
        remaining = iter(paths)
        try:
            for path in remaining:
                waiting.append(pool.submit(_read, path))
                if len(waiting) >= READ_AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read(path: Path) -> Photograph | Unreadable:
    try:
        return read_photograph(path)
    except ImageError as error:
        return Unreadable(path, error.message)
