"""Images are known by their content, wherever they lie."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from halfsigma import UnknownImage, UsageError
from registry import images
from registry.lines import create_line
from registry.scores import ScoreRow, log_scores
from registry.tables import Line

AT = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)


@pytest.fixture
def files(tmp_path: Path, session: Session, line: Line) -> list[Path]:
    """Three files that the line has seen."""
    paths = [tmp_path / f"img{n}.png" for n in range(3)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes([n]) * 100)
    images.remember(session, line, {images.file_sha256(path): str(path) for path in paths})
    return paths


def test_the_hash_of_a_file_is_sha256_of_its_bytes(files: list[Path]) -> None:
    assert images.file_sha256(files[1]) == hashlib.sha256(bytes([1]) * 100).hexdigest()


def test_images_are_labelled_by_path_by_hash_or_by_a_copy_elsewhere(
    session: Session, line: Line, files: list[Path], tmp_path: Path
) -> None:
    copy = tmp_path / "copied-elsewhere.png"
    copy.write_bytes(files[2].read_bytes())
    targets: list[str | Path] = [files[0], images.file_sha256(files[1]).upper(), copy]
    assert images.label(session, line, targets, "defect", at=AT) == 3
    found = images.labelled(session, line, "defect")
    assert {image.path for image in found} == {str(path) for path in files}
    assert {image.labelled_at for image in found} == {AT}


def test_a_file_that_is_gone_is_known_by_its_path(session: Session, line: Line, files: list[Path]) -> None:
    files[0].unlink()
    assert images.label(session, line, [files[0]], "good") == 1


def test_a_path_at_which_several_images_lay_names_none_of_them(session: Session, line: Line, tmp_path: Path) -> None:
    """A camera's spool folder is emptied each morning, and its names begin anew."""
    spool = tmp_path / "img_0007.png"
    hashes = [f"{n:064x}" for n in range(30)]
    for n, sha256 in enumerate(reversed(hashes)):
        images.remember(session, line, {sha256: str(spool)})
        at = AT + timedelta(n)
        log_scores(session, line, 1, [ScoreRow(sha256, spool.name, at, at.date(), 1.0)])
    other = "f" * 64
    images.remember(session, line, {other: "/in/other.png"})
    with pytest.raises(UsageError, match=r"30 images lay at .*img_0007\.png, .*nothing was labelled") as refused:
        images.label(session, line, [other, spool], "defect")
    assert f"{hashes[0]} is the last, of 2026-12-23" in str(refused.value.hint)
    assert images.labelled(session, line, "defect") == []
    assert images.label(session, line, [hashes[0]], "defect") == 1


def test_of_images_that_nobody_scored_none_is_called_the_last(
    session: Session, line: Line, files: list[Path], tmp_path: Path
) -> None:
    images.remember(session, line, dict.fromkeys(map(images.file_sha256, files), str(tmp_path / "good.png")))
    with pytest.raises(UsageError, match="3 images lay at") as refused:
        images.label(session, line, [tmp_path / "good.png"], "good")
    assert "the last" not in str(refused.value.hint)


def test_a_relative_path_finds_the_image_too(
    session: Session, line: Line, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    files[0].unlink()
    monkeypatch.chdir(files[0].parent)
    assert images.label(session, line, ["img0.png", "img1.png"], "good") == 2


def test_the_same_image_named_twice_is_one(session: Session, line: Line, files: list[Path]) -> None:
    assert images.label(session, line, [files[0], images.file_sha256(files[0])], "good") == 1


def test_an_unknown_image_is_named_and_then_nothing_is_labelled(
    session: Session, line: Line, files: list[Path], tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.png"
    stranger.write_bytes(b"never seen")
    with pytest.raises(UnknownImage, match=r"line 'tiles' never saw .*stranger\.png; nothing was labelled"):
        images.label(session, line, [files[0], stranger], "defect")
    with pytest.raises(UnknownImage, match="and 2 more"):
        images.label(session, line, [f"gone{n}.png" for n in range(7)], "defect")
    assert images.labelled(session, line, "defect") == []


def test_a_label_is_of_one_line_only(session: Session, line: Line, files: list[Path]) -> None:
    other = create_line(session, "press", detector="patchcore")
    with pytest.raises(UnknownImage):
        images.label(session, other, [files[0]], "defect")


def test_a_label_that_does_not_exist_is_refused(session: Session, line: Line, files: list[Path]) -> None:
    with pytest.raises(UsageError, match="label 'bad', expected one of good, defect"):
        images.label(session, line, [files[0]], "bad")


def test_an_image_seen_again_elsewhere_keeps_its_label(session: Session, line: Line, files: list[Path]) -> None:
    sha256 = images.file_sha256(files[0])
    images.label(session, line, [files[0]], "defect")
    images.remember(session, line, {sha256: "/archive/img0.png"})
    session.expire_all()
    image = images.find(session, line, [sha256])[sha256]
    assert (image.path, image.label) == ("/archive/img0.png", "defect")


def test_a_label_can_be_taken_back_by_another(session: Session, line: Line, files: list[Path]) -> None:
    images.label(session, line, [files[0]], "defect")
    images.label(session, line, [files[0]], "good")
    assert images.labelled(session, line, "defect") == []


def test_the_vaults_copy_is_noted(session: Session, line: Line, files: list[Path]) -> None:
    sha256 = images.file_sha256(files[0])
    images.set_kept(session, line, {sha256: "/vault/00.png"})
    session.expire_all()
    assert images.find(session, line, [sha256])[sha256].kept_path == "/vault/00.png"
    with pytest.raises(UnknownImage):
        images.set_kept(session, line, {"0" * 64: "/vault/none.png"})


def test_thousands_of_images_are_found_at_once(session: Session, line: Line) -> None:
    hashes = [f"{n:064x}" for n in range(2500)]
    images.remember(session, line, {sha256: f"/in/{sha256}.png" for sha256 in hashes})
    assert len(images.find(session, line, [*hashes, "f" * 64])) == 2500
    assert images.label(session, line, hashes, "good") == 2500


def test_a_defect_has_a_kind_which_a_later_verdict_replaces(session: Session, line: Line, files: list[Path]) -> None:
    images.label(session, line, [files[0]], "defect", kind="crack")
    assert [image.kind for image in images.labelled(session, line, "defect")] == ["crack"]
    images.label(session, line, [files[0]], "good")
    assert [image.kind for image in images.labelled(session, line, "good")] == [None]


@pytest.mark.parametrize(
    ("as_label", "kind"), [("good", "crack"), ("defect", ""), ("defect", "a b"), ("defect", "x" * 65)]
)
def test_a_kind_is_one_word_about_a_defect(
    session: Session, line: Line, files: list[Path], as_label: str, kind: str
) -> None:
    with pytest.raises(UsageError, match="expected a defect's"):
        images.label(session, line, [files[0]], as_label, kind=kind)
    assert images.labelled(session, line, as_label) == []


def test_a_rare_kind_is_never_crowded_out_of_the_golden_set(session: Session, line: Line) -> None:
    hashes = [f"{n:064x}" for n in range(30)]
    images.remember(session, line, {sha256: f"{sha256}.png" for sha256 in hashes})
    for n, sha256 in enumerate(hashes):
        kind = "crack" if n < 2 else None if n == 2 else "dent"
        images.label(session, line, [sha256], "defect", kind=kind, at=AT + timedelta(minutes=n))
    chosen = images.golden_set(session, line, most=10)
    assert [image.sha256 for image in chosen if image.kind == "dent"] == hashes[:-8:-1]  # the last labelled first
    assert {image.sha256 for image in chosen if image.kind != "dent"} == set(hashes[:3])
    assert len(images.golden_set(session, line, most=100)) == 30
