"""A canvas for cartoons: shapes in face coordinates, posed by an affine map, drawn large and made small."""

import math
from collections.abc import Iterable, Sequence

from PIL import Image, ImageDraw

WIDTH, HEIGHT = 178, 218
"""Of an aligned CelebA picture, in pixels."""

_CENTRE = (89.0, 112.0)
_OVERSAMPLING = 3

Point = tuple[float, float]
Colour = tuple[int, int, int] | tuple[int, int, int, int]


class Canvas:
    """Draws antialiased shapes; (0, 0) is the middle between the eyes of an upright face, x to the right, y down.

    Args:
        shift: where the face lies, in pixels right of and below its place in CelebA.
        roll: rotation of the head in degrees, clockwise.
        scale: size of the head, 1 for CelebA's.
    """

    def __init__(self, shift: Point = (0.0, 0.0), roll: float = 0.0, scale: float = 1.0) -> None:
        angle = math.radians(roll)
        self._cosine, self._sine = scale * math.cos(angle), scale * math.sin(angle)
        self._origin = (_CENTRE[0] + shift[0], _CENTRE[1] + shift[1])
        self.scale = scale
        self.image = Image.new("RGB", (WIDTH * _OVERSAMPLING, HEIGHT * _OVERSAMPLING))
        self._draw = ImageDraw.Draw(self.image, "RGBA")  # this mode blends translucent colours

    def place(self, point: Point) -> Point:
        """Where a point of the face lies in the finished picture, in pixels."""
        x, y = point
        return (
            self._origin[0] + x * self._cosine - y * self._sine,
            self._origin[1] + x * self._sine + y * self._cosine,
        )

    def polygon(self, points: Iterable[Point], colour: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon(self._pixels(points), fill=colour)

    def line(self, points: Iterable[Point], colour: Colour, width: float) -> None:
        """Draw a line with round ends; opaque colours only, as its pieces overlap."""
        pixels, thickness = self._pixels(points), width * self.scale * _OVERSAMPLING
        self._draw.line(pixels, fill=colour, width=max(1, round(thickness)), joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            half = thickness / 2
            self._draw.ellipse((x - half, y - half, x + half, y + half), fill=colour)

    def ellipse(self, centre: Point, radii: Point, colour: Colour) -> None:
        """Fill an ellipse with its axes along the head's."""
        self.polygon(arc(centre, radii), colour)

    def soft_ellipse(self, centre: Point, radii: Point, colour: tuple[int, int, int], opacity: int) -> None:
        """Fill an ellipse that fades out; ``opacity`` in 0..255 is that of its middle."""
        layers = 6
        for layer in range(layers):
            size = 1 - layer / layers
            self.ellipse(centre, (radii[0] * size, radii[1] * size), (*colour, opacity // layers))

    def finish(self) -> Image.Image:
        """The picture, WIDTH x HEIGHT."""
        return self.image.reduce(_OVERSAMPLING)

    def _pixels(self, points: Iterable[Point]) -> list[Point]:
        return [(x * _OVERSAMPLING, y * _OVERSAMPLING) for x, y in map(self.place, points)]


def arc(centre: Point, radii: Point, start: float = 0.0, stop: float = 360.0, number: int = 32) -> list[Point]:
    """Points of an ellipse; degrees from the right over below, as y points down."""
    angles = (math.radians(start + (stop - start) * step / (number - 1)) for step in range(number))
    return [(centre[0] + radii[0] * math.cos(a), centre[1] + radii[1] * math.sin(a)) for a in angles]


def mirrored(points: Sequence[Point]) -> list[Point]:
    """The same points on the other side of the face, in the same order."""
    return [(-x, y) for x, y in points]


def moved(points: Sequence[Point], x: float, y: float = 0.0) -> list[Point]:
    """The points shifted by (x, y)."""
    return [(px + x, py + y) for px, py in points]


def mix(first: Colour, second: Colour, share: float) -> tuple[int, int, int]:
    """``share`` of the second colour in the first."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first[:3], second[:3], strict=True))
    return red, green, blue
