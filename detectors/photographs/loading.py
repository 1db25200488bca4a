"""Reading many photographs, some of which may be broken, while the next step already works on the first ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from detectors.photographs.images import Photograph, n_pixels_in, read_photograph
from halfsigma import ImageError

READ_AHEAD = 8
"""Photographs decoded in advance: enough to hide the disk."""
WAITING_PIXELS = 160_000_000
"""Of all of them: eight of 20 megapixels, two of 65; of 16-bit colour that is a gigabyte."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that could not be read, and why."""

    path: Path
    reason: str


def read_ahead(paths: Sequence[Path]) -> Iterator[Photograph | Unreadable]:
    """Photographs in the order of ``paths``, decoded by two threads ahead of their use.

    At most `READ_AHEAD` of them wait, and no more than `WAITING_PIXELS`, but always one.
    """
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="read") as pool:
        waiting: deque[Future[Photograph | Unreadable]] = deque()
        sizes: deque[int] = deque()
        try:
            for path in paths:
                sizes.append(n_pixels_in(path))
                while waiting and (len(waiting) >= READ_AHEAD or sum(sizes) > WAITING_PIXELS):
                    sizes.popleft()
                    yield waiting.popleft().result()
                waiting.append(pool.submit(_read, path))
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
