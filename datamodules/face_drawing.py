"""A whole cartoon face from its attributes and its scene."""

import math

import numpy as np
from PIL import Image, ImageFilter

from datamodules.face_attributes import Attributes, Scene
from datamodules.face_canvas import HEIGHT, WIDTH, Canvas, Point
from datamodules.face_features import (
    contour,
    draw_beard,
    draw_eyes,
    draw_head,
    draw_moustache,
    draw_mouth,
    draw_nose,
)
from datamodules.face_hair import (
    draw_back_hair,
    draw_clothes,
    draw_front_hair,
    draw_glasses,
    draw_hat,
    draw_jewellery,
)

_LAYERS = (
    draw_back_hair,
    draw_head,
    draw_beard,
    draw_clothes,
    draw_nose,
    draw_mouth,
    draw_moustache,
    draw_eyes,
    draw_front_hair,
    draw_jewellery,
    draw_glasses,
    draw_hat,
)

_LANDMARKS: tuple[Point, ...] = ((-19.5, 0.0), (19.5, 0.0), (0.0, 20.0), (-14.0, 37.0), (14.0, 37.0))
_LOOK = 5.0
_BLUR = 3.2


def draw_face(attributes: Attributes, scene: Scene) -> Image.Image:
    """Draw the face that has exactly these attributes; equal arguments give equal pixels.

    Each attribute decides something that is drawn. Those without a look of their own got one, by arbitrary rules:
    `Attractive` faces have large eyes with a catchlight, those that are not `Young` have lines on brow and cheeks,
    `Male` faces an angular jaw, a broad neck and short hair, and a face that is not `No_Beard` has hair along its jaw.

    Args:
        attributes: all names of `ATTRIBUTE_NAMES`.
        scene: all else.

    Returns:
        An RGB image of 178 x 218 pixels.
    """
    canvas = _canvas(scene)
    canvas.image.paste(_background(scene).resize(canvas.image.size, Image.Resampling.BILINEAR))
    for layer in _LAYERS:
        layer(canvas, attributes, scene)
    image = _lit(canvas.finish(), scene)
    return image.filter(ImageFilter.GaussianBlur(_BLUR)) if attributes["Blurry"] else image


def landmarks(scene: Scene) -> list[tuple[int, int]]:
    """Pixels of left eye, right eye, nose, left and right corner of the mouth, left and right as one sees them."""
    canvas, look = _canvas(scene), _LOOK * scene.turn
    placed = (canvas.place((x + look * (1.5 if x == 0 else 1.0), y)) for x, y in _LANDMARKS)
    return [(round(x), round(y)) for x, y in placed]


def bounding_box(attributes: Attributes, scene: Scene) -> tuple[int, int, int, int]:
    """Left, top, width and height of the head without hair and hat, in pixels, cut to the picture."""
    canvas = _canvas(scene)
    columns, rows = zip(*(canvas.place(point) for point in contour(attributes)), strict=True)
    left, top = max(0, math.floor(min(columns))), max(0, math.floor(min(rows)))
    right, bottom = min(WIDTH, math.ceil(max(columns))), min(HEIGHT, math.ceil(max(rows)))
    return left, top, right - left, bottom - top


def _canvas(scene: Scene) -> Canvas:
    return Canvas(scene.shift, scene.roll, scene.scale)


def _ramp(degrees: float) -> np.ndarray:
    """From -1 to 1 at most, rising in one direction, (HEIGHT, WIDTH, 1)."""
    x, y = np.linspace(-1, 1, WIDTH)[None, :], np.linspace(-1, 1, HEIGHT)[:, None]
    angle = math.radians(degrees)
    return ((x * math.cos(angle) + y * math.sin(angle)) / math.sqrt(2))[..., None]


def _background(scene: Scene) -> Image.Image:
    first, second = (np.array(colour, float) for colour in scene.background)
    pixels = first + (second - first) * (_ramp(scene.background_angle)[::4, ::4] + 1) / 2
    return Image.fromarray(pixels.astype(np.uint8))


def _lit(image: Image.Image, scene: Scene) -> Image.Image:
    light = scene.brightness * (1 + scene.light * _ramp(0.0))
    return Image.fromarray(np.clip(np.asarray(image) * light, 0, 255).astype(np.uint8))
