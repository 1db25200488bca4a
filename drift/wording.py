"""What moved, and what happened to the pictures, in the words of the people at the line."""

from __future__ import annotations

import math
from collections.abc import Sequence


def covariate_phrase(name: str, usual: float, tonight: float) -> str:
    """The move in people's words.

    >>> covariate_phrase("brightness", 0.5, 0.44)
    'the picture is 12 % darker'
    >>> covariate_phrase("rotation", 0.0, 2.0)
    'the part is turned by 2.0°'
    """
    difference = tonight - usual
    percent = 100.0 * abs(difference) / abs(usual) if usual else math.inf
    amount = f"{percent:.0f} % " if percent < 1000.0 else "much "
    match name:
        case "brightness":
            return f"the picture is {amount}{'brighter' if difference > 0 else 'darker'}"
        case "contrast":
            return f"the contrast is {amount}{'higher' if difference > 0 else 'lower'}"
        case "sharpness":
            share = 100.0 * abs(1.0 - math.exp(difference / 2.0))
            sharper, more = ("sharper", "more") if difference > 0 else ("softer", "less")
            return f"the picture is {sharper}, with {share:.0f} % {more} fine detail"
        case "noise":
            return f"the picture is {amount}{'noisier' if difference > 0 else 'smoother'}"
        case "offset_x":
            return f"the part sits {abs(100 * difference):.1f} % of the picture's width to the {'right' if difference > 0 else 'left'}"
        case "offset_y":
            return f"the part sits {abs(100 * difference):.1f} % of the picture's height {'lower' if difference > 0 else 'higher'}"
        case "rotation":
            return f"the part is turned by {abs(difference):.1f}°"
        case "scale":
            return f"the part appears {100 * abs(difference):.1f} % {'larger' if difference > 0 else 'smaller'}"
        case "gradient_x":
            return f"the light moved by {100 * abs(difference):.0f} % to the {'right' if difference > 0 else 'left'}"
        case "gradient_y":
            return f"the light moved by {100 * abs(difference):.0f} % to the {'bottom' if difference > 0 else 'top'}"
        case "warmth":
            return f"the light is {100 * abs(math.expm1(difference)):.0f} % {'warmer' if difference > 0 else 'colder'}"
        case "speckle":
            return f"single pixels stand out {'more' if difference > 0 else 'less'}"
        case "grain_direction":
            return f"detail {'from top to bottom' if difference > 0 else 'from left to right'} is smeared"
        case "saturation":
            return f"{100 * tonight:.1f} % of the pixels are at black or white instead of {100 * usual:.1f} %"
        case "width" | "height":
            return f"the picture's {name} is {tonight:.0f} px instead of {usual:.0f} px"
        case _:
            return f"{name} is {tonight:.3g} instead of {usual:.3g}"


def disturbance_phrase(kind: str, strength: float, direction_deg: float, sides_px: Sequence[float]) -> str:
    """What happened, with how much of it; `sides_px` are the picture's width and height, or empty.

    >>> disturbance_phrase("defocus", 1.2, 0.0, [])
    'the picture is 1.2 px softer'
    >>> disturbance_phrase("gain", 0.88, 0.0, [])
    'the picture is 12 % darker'
    >>> disturbance_phrase("shift", 12.0, 270.0, [240.0, 300.0])
    'the part sits 12 px (4.0 % of the picture) lower'
    """
    match kind:
        case "gain":
            return f"the picture is {100 * abs(strength - 1):.0f} % {'brighter' if strength > 1 else 'darker'}"
        case "gamma":
            return f"the middle tones are {'darker' if strength > 1 else 'brighter'}, as by a gamma of {strength:.2f}"
        case "gradient":
            return f"the light falls off by {100 * strength:.0f} % {_towards(direction_deg)}"
        case "warmth":
            return f"the light is {100 * abs(strength):.0f} % {'warmer' if strength > 0 else 'colder'}"
        case "defocus":
            return f"the picture is {strength:.1f} px softer"
        case "motion":
            return f"the picture is smeared over {strength:.0f} px by motion"
        case "noise":
            return f"the sensor adds noise of {100 * strength:.1f} % of white"
        case "dead_pixels":
            return f"{100 * strength:.2g} % of the pixels are dead or stuck"
        case "jpeg":
            return f"the pictures are compressed, as by JPEG of quality {max(strength, 1.0):.0f}"
        case "shift":
            side = sum(sides_px) / len(sides_px) if sides_px else 0.0
            if len(sides_px) == 2 and direction_deg % 90.0 == 0.0:
                side = sides_px[0] if direction_deg % 180.0 == 0.0 else sides_px[1]
            share = f" ({100 * strength / side:.1f} % of the picture)" if side else ""
            return f"the part sits {strength:.0f} px{share} {_place(direction_deg)}"
        case "rotation":
            return f"the part is turned by {abs(strength):.1f}° {'counter-clockwise' if strength > 0 else 'clockwise'}"
        case "scale":
            return f"the part appears {100 * abs(strength - 1):.1f} % {'larger' if strength > 1 else 'smaller'}"
        case _:
            return f"{kind} of {strength:.3g}"


_OCTANTS = ("right", "upper right", "top", "upper left", "left", "lower left", "bottom", "lower right")


def _octant(direction_deg: float) -> int:
    return round(direction_deg / 45.0) % 8


def _towards(direction_deg: float) -> str:
    return f"towards the {_OCTANTS[_octant(direction_deg)]}"


def _place(direction_deg: float) -> str:
    return {2: "higher", 6: "lower"}.get(_octant(direction_deg), f"to the {_OCTANTS[_octant(direction_deg)]}")
