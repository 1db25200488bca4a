"""A story or a report as one HTML file that needs nothing but itself."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows.pages import words
from flows.pages.bakeoff import BakeoffPage
from flows.pages.bakeoff_charts import cost_chart, drift_chart
from flows.pages.charts import distribution_chart, timeline_chart
from flows.pages.contact_sheet import ContactSheet
from flows.pages.drill import DrillPage
from flows.pages.drill_charts import auroc_floor, before_after_chart, drill_shift_chart
from flows.pages.images import data_uri, heatmap_overlay
from flows.pages.palette import LOOKS
from flows.pages.story import ImagePanel, Report, Story
from halfsigma import __version__

MAX_BYTES = 8_000_000
"""What a mail server or a chat still takes."""
# Longer sides of the pictures, tried in turn until the page is small enough; thumbnails take a third.
_PICTURE_SIDES_PX = (560, 400, 280, 180, 96)

_TEMPLATES = Path(__file__).parent / "templates"


def render_story(story: Story, path: Path) -> Path:
    """Write the demo's page to `path`, smaller than `MAX_BYTES`; returns the path."""
    return _write("story.html.j2", path, story=story)


def render_report(report: Report, path: Path) -> Path:
    """Write the page of one line and night to `path`, smaller than `MAX_BYTES`; returns the path."""
    return _write("report.html.j2", path, report=report)


def render_drill(drill: DrillPage, path: Path) -> Path:
    """Write the page of a fire drill to `path`, smaller than `MAX_BYTES`; returns the path."""
    return _write("drill.html.j2", path, drill=drill)


def render_contact_sheet(sheet: ContactSheet, path: Path) -> Path:
    """Write the page of a curation to `path`, smaller than `MAX_BYTES`; returns the path."""
    return _write("contact_sheet.html.j2", path, sheet=sheet)


def render_bakeoff(page: BakeoffPage, path: Path) -> Path:
    """Write the page of a bake-off to `path`, smaller than `MAX_BYTES`; returns the path."""
    return _write("bakeoff.html.j2", path, page=page)


def _write(template: str, path: Path, **content: Story | Report | DrillPage | BakeoffPage | ContactSheet) -> Path:
    text = ""
    for side_px in _PICTURE_SIDES_PX:
        text = _environment(side_px).get_template(template).render(**content)
        if len(text.encode("utf-8")) < MAX_BYTES:
            break
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _environment(side_px: int) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=words.signed,
        interval=words.interval,
        percent=words.percent,
        figure=words.figure,
        paragraphs=_paragraphs,
        picture=partial(data_uri, max_side_px=side_px),
        thumbnail=partial(data_uri, max_side_px=side_px // 3),
        strip=partial(data_uri, max_side_px=side_px * 2 // 5),
        sheet_thumbnail=partial(data_uri, max_side_px=side_px // 4),
        overlay=partial(_overlay, side_px=side_px),
    )
    environment.globals.update(
        looks=LOOKS,
        timeline_chart=timeline_chart,
        distribution_chart=distribution_chart,
        drill_shift_chart=drill_shift_chart,
        before_after_chart=before_after_chart,
        auroc_floor=auroc_floor,
        cost_chart=cost_chart,
        drift_chart=drift_chart,
        product_version=__version__,
    )
    return environment


def _paragraphs(text: str) -> list[str]:
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]


def _overlay(panel: ImagePanel, *, side_px: int) -> str:
    if panel.heatmap is None:
        return ""
    # Without a threshold the map's own peak stands in for it, and nothing is outlined.
    threshold = panel.threshold if panel.threshold is not None else float(panel.heatmap.max())
    return data_uri(heatmap_overlay(panel.image, panel.heatmap, threshold), max_side_px=side_px)
