"""Pages for people: the demo's story, a line's report, its fire drill and its bake-off as one HTML file each, and tables for the terminal.

`story` holds the inputs as plain frozen dataclasses; nothing here knows a database, a detector or a flow.
"""

from flows.pages.bakeoff import BakeoffPage, BakeoffRow
from flows.pages.contact_sheet import ContactSheet, SheetGroup, SheetImage
from flows.pages.drill import DrillLadder, DrillPage, DrillStep
from flows.pages.images import heatmap_overlay
from flows.pages.mosaic import write_mosaic
from flows.pages.render import (
    render_bakeoff,
    render_contact_sheet,
    render_drill,
    render_report,
    render_story,
)
from flows.pages.story import (
    CauseRow,
    Chapter,
    Command,
    Curation,
    Distribution,
    Fact,
    GateRow,
    ImagePanel,
    NightRow,
    Report,
    Story,
    Thumbnail,
    VersionRow,
)
from flows.pages.terminal import gates_table, nights_table

__all__ = [
    "BakeoffPage",
    "BakeoffRow",
    "CauseRow",
    "Chapter",
    "Command",
    "ContactSheet",
    "Curation",
    "Distribution",
    "DrillLadder",
    "DrillPage",
    "DrillStep",
    "Fact",
    "GateRow",
    "ImagePanel",
    "NightRow",
    "Report",
    "SheetGroup",
    "SheetImage",
    "Story",
    "Thumbnail",
    "VersionRow",
    "gates_table",
    "heatmap_overlay",
    "nights_table",
    "render_bakeoff",
    "render_contact_sheet",
    "render_drill",
    "render_report",
    "render_story",
    "write_mosaic",
]
