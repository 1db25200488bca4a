"""Copies of the images that must outlive the folder they came from: verified goods and labelled images."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from halfsigma import RegistryError


@dataclass(frozen=True, slots=True)
class Vault:
    """A folder of images by content: the same image is kept once, whatever it is called.

    >>> Vault(Path("images")).path_of("tiles", "ab12", ".png").as_posix()
    'images/tiles/ab/ab12.png'
    """

    root: Path

    def path_of(self, line: str, sha256: str, suffix: str) -> Path:
        """Where that image of that line is kept."""
        return self.root / line / sha256[:2] / f"{sha256}{suffix.lower()}"

    def keep(self, line: str, source: Path, sha256: str) -> Path:
        """Copy ``source`` whole or not at all; an image that is kept already is left as it is.

        Raises:
            RegistryError: the source is gone, or the vault cannot be written.
        """
        target = self.path_of(line, sha256, source.suffix)
        try:
            if target.is_file() and target.stat().st_size == source.stat().st_size:
                return target
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, unfinished = tempfile.mkstemp(dir=target.parent, prefix=".unfinished-")
            os.close(handle)
            try:
                shutil.copyfile(source, unfinished)
                Path(unfinished).replace(target)
            finally:
                Path(unfinished).unlink(missing_ok=True)
        except OSError as error:
            raise RegistryError(
                f"{source.name} cannot be kept in {self.root}: {error.strerror}", hint="check rights and free space"
            ) from error
        return target
