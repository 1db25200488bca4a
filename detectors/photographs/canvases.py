"""Canvases of any number in bounded memory: the first in memory, the others in an unnamed scratch file."""

from __future__ import annotations

import math
import os
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, overload

import numpy as np
from numpy.typing import NDArray

from halfsigma import DetectorError

IN_MEMORY_BYTES = 2**29
"""Half a gigabyte: 2,700 coloured canvases of 256 px, 680 of 512 px, three times as many gray ones."""

_ROOM = "make room in the folder of temporary files, or point TMPDIR to another disk"


class StoredCanvas(Protocol):
    """A canvas somewhere."""

    def load(self) -> NDArray[np.uint8]:
        """(h, w, 3), the same bytes each time."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class InMemory:
    """A canvas in memory, of gray pictures one channel."""

    planes: NDArray[np.uint8]
    """(h, w, 3), or (h, w, 1) where the three are equal."""

    @classmethod
    def of(cls, canvas: NDArray[np.uint8]) -> InMemory:
        """Of (h, w, 3)."""
        gray = bool((canvas == canvas[..., :1]).all())
        return cls(np.ascontiguousarray(canvas[..., :1] if gray else canvas).copy())

    def load(self) -> NDArray[np.uint8]:
        return np.ascontiguousarray(np.broadcast_to(self.planes, (*self.planes.shape[:2], 3)))


class _Scratch:
    """An unnamed file, closed with the last canvas in it; read and written by place, so from any thread."""

    def __init__(self, folder: Path | None) -> None:
        file = tempfile.TemporaryFile(dir=folder, prefix="halfsigma-")  # noqa: SIM115  # closed by the finalizer
        self._descriptor = file.fileno()
        weakref.finalize(self, file.close)

    def write(self, data: memoryview, offset: int) -> int:
        return os.pwrite(self._descriptor, data, offset)

    def read(self, n_bytes: int, offset: int) -> bytes:
        return os.pread(self._descriptor, n_bytes, offset)


@dataclass(frozen=True, slots=True, eq=False)
class InScratch:
    """A canvas in a file, read when it is asked for; the file is not mapped, so that its pages are nobody's memory."""

    file: _Scratch
    offset: int
    shape: tuple[int, ...]

    def load(self) -> NDArray[np.uint8]:
        data = self.file.read(math.prod(self.shape), self.offset)
        return InMemory(np.frombuffer(data, np.uint8).reshape(self.shape)).load()


@dataclass(slots=True)
class CanvasStore:
    """Keeps what it is given up to `IN_MEMORY_BYTES`; what comes then goes to a file that vanishes with its canvases.

    Attributes:
        folder: for the file; by default the system's folder for temporary files.
    """

    folder: Path | None = None
    _in_memory: int = 0
    _written: int = 0
    _file: _Scratch | None = field(default=None, repr=False)

    def keep(self, canvas: NDArray[np.uint8]) -> StoredCanvas:
        """Store (h, w, 3).

        Raises:
            DetectorError: the scratch file cannot be written.
        """
        kept = InMemory.of(canvas)
        if self._in_memory + kept.planes.nbytes <= IN_MEMORY_BYTES:
            self._in_memory += kept.planes.nbytes
            return kept
        try:
            if self._file is None:
                self._file = _Scratch(self.folder)
            n_written = self._file.write(kept.planes.data, self._written)
        except OSError as error:
            raise DetectorError(
                f"the scratch file of the canvases cannot be written: {error.strerror}", hint=_ROOM
            ) from error
        if n_written != kept.planes.nbytes:
            raise DetectorError("the disk of the canvases' scratch file is full", hint=_ROOM)
        stored = InScratch(self._file, self._written, kept.planes.shape)
        self._written += kept.planes.nbytes
        return stored


class Canvases(Sequence[NDArray[np.uint8]]):
    """Stored canvases as a sequence of arrays, each loaded when it is asked for."""

    def __init__(self, stored: Sequence[StoredCanvas]) -> None:
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> Canvases: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Canvases:
        return Canvases(self._stored[index]) if isinstance(index, slice) else self._stored[index].load()

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (each.load() for each in self._stored)


class Chosen(Sequence[NDArray[np.uint8]]):
    """Some canvases of a sequence, each loaded when it is asked for."""

    def __init__(self, canvases: Sequence[NDArray[np.uint8]], indices: NDArray[np.int64]) -> None:
        self._canvases, self._indices = canvases, indices

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> Chosen: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | Chosen:
        if isinstance(index, slice):
            return Chosen(self._canvases, self._indices[index])
        return self._canvases[int(self._indices[index])]
