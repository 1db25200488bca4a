"""The demo's parts: a rendered brake pad, or the user's own photographs, written as the folders of a story.

`write_demo_part` and `write_own_part` fill a directory with good images to fit on, labelled defects, and one
folder a night; `STORY` says what happens in each night.
"""

from flows.demo.part.sources import BrakePadSource, OwnImagesSource, PartSource, Shot
from flows.demo.part.story import (
    OWN_STORY,
    STORY,
    DemoNight,
    DemoPart,
    NightPlan,
    write_demo_part,
    write_own_part,
)

__all__ = [
    "OWN_STORY",
    "STORY",
    "BrakePadSource",
    "DemoNight",
    "DemoPart",
    "NightPlan",
    "OwnImagesSource",
    "PartSource",
    "Shot",
    "write_demo_part",
    "write_own_part",
]
