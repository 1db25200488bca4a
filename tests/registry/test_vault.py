"""The vault keeps an image once, whole, under its content."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from halfsigma import RegistryError
from registry.vault import Vault

CONTENT = b"the bytes of an image"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "camera" / "part1.PNG"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    return path


def test_an_image_outlives_its_source(source: Path, tmp_path: Path) -> None:
    kept = Vault(tmp_path / "vault").keep("tiles", source, SHA256)
    source.unlink()
    assert kept.read_bytes() == CONTENT
    assert kept.suffix == ".png"


def test_the_same_image_is_kept_once_and_left_as_it_is(source: Path, tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    first = vault.keep("tiles", source, SHA256)
    written = first.stat().st_mtime_ns
    again = source.with_name("another name.png")
    source.rename(again)
    assert vault.keep("tiles", again, SHA256) == first
    assert first.stat().st_mtime_ns == written
    assert [path for path in (tmp_path / "vault").rglob("*") if path.is_file()] == [first]


def test_a_copy_that_was_cut_off_is_made_again(source: Path, tmp_path: Path) -> None:
    vault = Vault(tmp_path / "vault")
    vault.keep("tiles", source, SHA256).write_bytes(CONTENT[:5])
    assert vault.keep("tiles", source, SHA256).read_bytes() == CONTENT


def test_a_source_that_is_gone_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match="gone.png cannot be kept"):
        Vault(tmp_path / "vault").keep("tiles", tmp_path / "gone.png", SHA256)
    assert not [path for path in (tmp_path / "vault").rglob("*") if path.is_file()]


def test_a_vault_that_cannot_be_written_is_an_error_with_a_remedy(source: Path, tmp_path: Path) -> None:
    (tmp_path / "vault").touch()
    with pytest.raises(RegistryError, match="cannot be kept") as caught:
        Vault(tmp_path / "vault").keep("tiles", source, SHA256)
    assert "rights" in caught.value.hint
