"""Pages for people: whole, self-contained, honest about what is missing, and safe against any text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from rich.console import Console

from flows.pages import (
    CauseRow,
    Chapter,
    Curation,
    Distribution,
    Fact,
    GateRow,
    ImagePanel,
    NightRow,
    Report,
    Story,
    Thumbnail,
    gates_table,
    heatmap_overlay,
    nights_table,
    render_report,
    render_story,
)
from flows.pages.charts import distribution_chart, timeline_chart
from flows.pages.palette import LOOKS
from flows.pages.render import MAX_BYTES

RNG = np.random.default_rng(0)
NASTY = """<script>alert("x")</script> & 'quotes'"""


class _Page(HTMLParser):
    """Collects what a page would load and whether its tags close."""

    VOID = frozenset({"meta", "img", "br", "hr", "input", "link"})

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "data", "srcset")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def _read(path: Path) -> _Page:
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    page.close()
    assert page.open == [], "every tag is closed"
    return page


def _night(number: int = 0, **changes: object) -> NightRow:
    row = NightRow(
        night=date(2026, 11, 16) + timedelta(days=number),
        verdict="stable",
        n=110,
        bulk_shift_sd=0.08,
        bulk_shift_ci=(-0.12, 0.28),
        fpr=0.009,
        n_reject=3,
        version="v1",
        action="none",
        explanation="Nothing has moved.",
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def _photo(side: int = 64) -> np.ndarray:
    return RNG.integers(0, 255, (side, side, 3), dtype=np.uint8)


def _distribution() -> Distribution:
    window = RNG.normal(3, 1, 80)
    return Distribution("16 November", RNG.normal(0, 1, 100), window, 2.3, window[:2])


def _chapter(**changes: object) -> Chapter:
    chapter = Chapter(
        title="The lamp has aged",
        text="First paragraph.\n\nSecond paragraph.",
        verdict="drift",
        facts=(Fact("false rejects", "64 %", "before"),),
        panels=(
            ImagePanel("with a map", _photo(), RNG.uniform(0, 2, (8, 8)), 1.4, 1.0, "defect"),
            ImagePanel("without", _photo()),
        ),
        distributions=(_distribution(),),
        causes=(CauseRow("brightness", "darker", -3.2, 0.7), CauseRow("noise", "noisier", 0.4)),
        gates=(
            GateRow("false positives", 0.009, 0.02, True),
            GateRow("recall", "0.7", "0.9", False, "30 defects"),
        ),
        curation=Curation(110, 98, (("near-duplicates", 12),), (Thumbnail(_photo()),), (Thumbnail(_photo(), "x"),)),
    )
    return replace(chapter, **changes)  # type: ignore[arg-type]


def _story(**changes: object) -> Story:
    story = Story("Four nights", "One camera.", (_night(),), (_chapter(),), (Fact("retrains", "1"),))
    return replace(story, **changes)  # type: ignore[arg-type]


def _report(**changes: object) -> Report:
    report = Report("pads", date(2026, 11, 18), "drift", "It moved.", datetime(2026, 11, 19, tzinfo=UTC))
    return replace(report, **changes)  # type: ignore[arg-type]


def test_a_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    page = _read(render_story(_story(), tmp_path / "story.html"))
    assert page.loads and all(address.startswith("data:image/jpeg;base64,") for address in page.loads)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in (tmp_path / "story.html").read_text(encoding="utf-8")


def test_a_story_shows_all_that_it_was_given(tmp_path: Path) -> None:
    text = _read(render_story(_story(), tmp_path / "new" / "folder" / "story.html")).text
    for expected in (
        "Four nights", "+0.08 SD", "0.9 %", "3 of 110", "Nothing has moved.", "Second paragraph.", "drift",
        "✕ rejected · 1.4 / 1", "−3.20 SD", "70 %", "✓ passed", "✕ failed", "98 of 110",
        "12 – near-duplicates",
    ):  # fmt: skip
        assert expected in text, expected


def test_nothing_given_is_nothing_shown(tmp_path: Path) -> None:
    story = _story(nights=(), chapters=(Chapter("Only words", "Here."),), facts=())
    text = _read(render_story(story, tmp_path / "story.html")).text
    assert "Night after night" not in text and "gate" not in text and "Only words" in text
    assert "drift" in _read(render_report(_report(), tmp_path / "report.html")).text


@pytest.mark.parametrize("verdict", sorted(LOOKS))
def test_every_verdict_has_its_word_on_the_page_and_in_the_terminal(verdict: str, tmp_path: Path) -> None:
    row = _night(verdict=verdict)
    page = _read(render_report(_report(nights=(row,), verdict=verdict), tmp_path / "report.html"))
    console = Console(width=160, record=True, file=open("/dev/null", "w"))
    console.print(nights_table([row]))
    for text in (page.text, console.export_text()):
        assert LOOKS[verdict].word in text and LOOKS[verdict].sign in text  # type: ignore[index]
    console.file.close()


def test_unknown_figures_are_dashes_and_not_zeros(tmp_path: Path) -> None:
    row = _night(verdict="insufficient", bulk_shift_sd=None, bulk_shift_ci=None, fpr=None)
    page = _read(render_report(_report(nights=(row,)), tmp_path / "report.html"))
    assert "–" in page.text and "0.00" not in page.text and "None" not in page.text


def test_text_from_outside_is_never_markup(tmp_path: Path) -> None:
    story = _story(
        title=NASTY,
        nights=(_night(explanation=NASTY, action=NASTY, version=NASTY), _night(1, version="v2", title=NASTY)),
        chapters=(
            _chapter(
                title=NASTY,
                text=NASTY,
                panels=(ImagePanel(NASTY, _photo()),),
                distributions=(replace(_distribution(), title=NASTY, window_label=NASTY, reference_label=NASTY),),
                causes=(CauseRow(NASTY, NASTY, 1.0),),
                gates=(GateRow(NASTY, NASTY, NASTY, True, NASTY),),
            ),
        ),
    )
    page = _read(render_story(story, tmp_path / "story.html"))
    assert "script" not in page.tags
    assert "[bold]" in _terminal(nights_table([_night(action="[bold]")]))


def _terminal(table: object) -> str:
    console = Console(width=160, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_terminal_shows_one_line_a_night_and_one_a_gate() -> None:
    lines = _terminal(nights_table([_night(k) for k in range(3)])).splitlines()
    assert sum("2026-11-1" in line for line in lines) == 3
    assert "✕ failed" in _terminal(gates_table([GateRow("recall", 0.7, 0.9, False)]))


def test_a_page_full_of_large_photographs_stays_small_enough_to_send(tmp_path: Path) -> None:
    panels = tuple(ImagePanel(f"{k}", _photo(700), RNG.uniform(0, 2, (8, 8)), 1.0, 1.0) for k in range(30))
    path = render_story(_story(chapters=(_chapter(panels=panels),)), tmp_path / "story.html")
    assert path.stat().st_size < MAX_BYTES


def test_many_nights_are_a_chart_and_a_table_with_the_latest_first(tmp_path: Path) -> None:
    rows = tuple(_night(k) for k in range(60))
    text = _read(render_report(_report(nights=rows), tmp_path / "report.html")).text
    assert "46 earlier nights" in text
    latest = text[text.index("The latest first") :]
    assert latest.index("2027-01-14") < latest.index("2026-11-16")


@pytest.mark.parametrize("shift", [-300.0, -0.5, 0.0, 0.5, 1e6])
def test_the_timeline_is_well_formed_and_within_its_frame_whatever_the_shift(shift: float) -> None:
    rows = [
        _night(0),
        _night(1, bulk_shift_sd=None),
        _night(2, bulk_shift_sd=shift, bulk_shift_ci=None, version="v2"),
    ]
    root = ElementTree.fromstring(timeline_chart(rows))
    heights = [float(each.attrib["cy"]) for each in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(heights) == 2 and all(0 <= y <= 250 for y in heights)
    assert "v2 takes over" in "".join(root.itertext())


def test_no_nights_are_an_empty_timeline() -> None:
    ElementTree.fromstring(timeline_chart([]))


@pytest.mark.parametrize(
    ("reference", "window", "threshold"),
    [
        ([1.0, 1.0], [1.0], 1.0),
        ([1e9, 1e9], [1e9], None),
        ([0.0, 1.0], [1e9, -1e9], None),
        ([0.0, 1.0], [], 0.5),
        ([1e-9, 2e-9, 3e-9], [2e-9], 2.5e-9),
        ([0.0, 1.0], [0.5], 1e6),
    ],
)
def test_a_distribution_is_well_formed_whatever_the_scores(
    reference: list[float], window: list[float], threshold: float | None
) -> None:
    item = Distribution("x", np.array(reference), np.array(window), threshold, np.array(window[:1]))
    chart = distribution_chart(item)
    ElementTree.fromstring(chart)
    assert "nan" not in chart and "inf" not in chart


def test_an_overlay_leaves_the_quiet_part_a_photograph_and_marks_the_loud_one() -> None:
    image = _photo(64)
    scores = np.full((8, 8), 0.2, np.float32)
    scores[2:4, 2:4] = 3.0
    overlay = heatmap_overlay(image, scores, 1.0)
    assert overlay.shape == (64, 64, 3) and overlay.dtype == np.uint8
    np.testing.assert_array_equal(overlay[40:, 40:], image[40:, 40:])
    assert np.abs(overlay[18:30, 18:30].astype(int) - image[18:30, 18:30]).mean() > 20


@pytest.mark.parametrize("image", [np.zeros((20, 30), np.uint8), np.full((20, 30, 3), 4000, np.uint16)])
def test_an_overlay_takes_gray_and_sixteen_bits_and_broken_maps(image: np.ndarray) -> None:
    broken = np.full((3, 5), np.nan, np.float32)
    assert heatmap_overlay(image, broken, 0.0).shape == (20, 30, 3)
