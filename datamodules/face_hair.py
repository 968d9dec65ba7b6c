"""Hair, hats, glasses, jewellery and clothes of a cartoon face."""

import math

from datamodules.face_attributes import Attributes, Scene
from datamodules.face_canvas import Canvas, Colour, Point, arc, mix
from datamodules.face_features import hair_colour

_GOLD = (238, 190, 60)
_TURN = 5.0


def draw_back_hair(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """What of long hair lies behind the head: to the shoulders if straight or wavy, else to the chin."""
    if face["Bald"] or face["Male"]:
        return
    colour = mix(hair_colour(face, scene), (10, 5, 5), 0.25)
    long = face["Straight_Hair"] or face["Wavy_Hair"]
    bottom, width = (82.0, 52.0) if long else (48.0, 49.0)
    side = [_side_point(face, width, -8 + (bottom + 8) * step / 30) for step in range(31)]
    left = [(-x, y) for x, y in side[::-1]]
    canvas.polygon([*arc((0, -8), (width, 56), 180, 360), *side, *left], colour)
    for x, y in _strands(face, bottom):
        canvas.line([(x, y), (x + 1, y + 10)], mix(colour, (255, 255, 255), 0.22), 1.5)


def _side_point(face: Attributes, width: float, y: float) -> Point:
    wave = 5.0 * math.sin(y / 5.2) if face["Wavy_Hair"] else 0.0
    taper = 0.0 if face["Straight_Hair"] or face["Wavy_Hair"] else 9.0 * max(0.0, (y - 20) / 28) ** 2
    return width + wave - taper, y


def _strands(face: Attributes, bottom: float) -> list[Point]:
    """Where highlights lie: in rows if straight, scattered if wavy."""
    if face["Straight_Hair"]:
        return [(side * x, y) for side in (-1, 1) for x in (43, 48) for y in range(-6, int(bottom) - 10, 10)]
    if face["Wavy_Hair"]:
        return [(side * (45 + 4 * (y // 13 % 2)), y) for side in (-1, 1) for y in range(-6, int(bottom) - 10, 13)]
    return []


def draw_front_hair(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """The hair on top of the head, its hairline, and bangs."""
    colour = hair_colour(face, scene)
    light = mix(colour, (255, 255, 255), 0.25)
    if face["Bald"]:
        _draw_fringe_of_bald_head(canvas, face, colour)
        return
    width, top = (43.0, 62.0) if face["Male"] else (46.0, 63.0)
    crown = [_crown_point(face, width, top, angle) for angle in range(180, 361, 3)]
    canvas.polygon(crown + _hairline(face, width), colour)
    if face["Straight_Hair"]:
        for x in range(-30, 31, 12):
            canvas.line([(x * 0.6, -58), (x, -42)], light, 1.6)
    if face["Wavy_Hair"]:
        for x, y in ((-28, -40), (-14, -50), (4, -52), (21, -45)):
            canvas.line(arc((x, y), (7, 4.5), 190, 350, 8), light, 1.8)
            canvas.line(arc((x + 9, y - 3), (5, 3.5), 170, 10, 8), mix(colour, (0, 0, 0), 0.3), 1.5)
    if face["Bangs"]:
        _draw_bangs(canvas, face, colour)


def _crown_point(face: Attributes, width: float, top: float, angle: int) -> Point:
    radians = math.radians(angle)
    bump = 0.0
    if face["Wavy_Hair"]:
        bump = 3.5 * abs(math.sin(radians * 9))
    elif face["Straight_Hair"] and face["Male"]:
        bump = 6.0 * abs((angle / 15) % 1 - 0.5)
    return (width + bump) * math.cos(radians), -4 + (top - 4 + bump) * math.sin(radians)


def _hairline(face: Attributes, width: float) -> list[Point]:
    """The lower edge of the hair from the right ear to the left one."""
    ear = 2.0 if face["Male"] else 14.0
    if face["Receding_Hairline"]:
        right = [(width - 2, ear), (37, -6), (34, -18), (27, -34), (19, -43), (12, -44), (6, -38), (0, -36)]
    else:
        right = [(width - 2, ear), (37, -6), (33, -20), (24, -31), (10, -35), (0, -34)]
    return right + [(-x, y) for x, y in right[-2::-1]]


def _draw_bangs(canvas: Canvas, face: Attributes, colour: Colour) -> None:
    tips = [(x, -21.0 if index % 2 else -17.0) for index, x in enumerate(range(-33, 34, 6))]
    canvas.polygon(
        [(-37, -30), *arc((0, -28), (37, 20), 180, 360, 12), *tips[::-1]], mix(colour, (255, 255, 255), 0.07)
    )
    for x in range(-27, 34, 12):
        canvas.line([(x * 0.8, -37), (x, -20)], mix(colour, (0, 0, 0), 0.3), 1.4)


def _draw_fringe_of_bald_head(canvas: Canvas, face: Attributes, colour: Colour) -> None:
    edge = 36.0 if face["Oval_Face"] else 40.0
    for side in (-1, 1):
        canvas.polygon(
            [(side * (edge - 4), -18), (side * (edge + 4), -14), (side * (edge + 4), 6), (side * (edge - 2), 4)], colour
        )
    canvas.soft_ellipse((-10, -40), (14, 8), (255, 255, 255), 190)


def draw_clothes(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """Shoulders, with a necklace or a tie."""
    shoulders = [(-90, 140), (-76, 88), (-34, 72), (-17, 66), (0, 84), (17, 66), (34, 72), (76, 88), (90, 140)]
    if face["Wearing_Necktie"]:
        canvas.polygon(shoulders, mix(scene.clothes, (20, 20, 30), 0.55))
        canvas.polygon([(-24, 64), (24, 64), (15, 140), (-15, 140)], (245, 245, 248))
        canvas.polygon(
            [(-8, 65), (8, 65), (5, 75), (12, 140), (-12, 140), (-5, 75)], mix(scene.accessory, (200, 20, 30), 0.4)
        )
        return
    canvas.polygon(shoulders, scene.clothes)


def draw_jewellery(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """Necklace and earrings."""
    if face["Wearing_Necklace"]:
        half = 23 if face["Male"] else 18
        for x, y in arc((0, 60), (half, 15), 0, 180, 11):
            canvas.ellipse((x, y), (2.6, 2.6), _GOLD)
    if face["Wearing_Earrings"]:
        for side in (-1, 1):
            x = side * (38 if face["Oval_Face"] else 42) - 2 * scene.turn
            canvas.ellipse((x, 25), (4.6, 6.4), mix(_GOLD, (90, 60, 0), 0.35))
            canvas.ellipse((x, 24), (3.4, 4.8), mix(_GOLD, (255, 255, 255), 0.3))


def draw_glasses(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """Dark frames with faint lenses."""
    if not face["Eyeglasses"]:
        return
    look, frame = _TURN * scene.turn, mix(scene.accessory, (10, 10, 12), 0.75)
    for side in (-1, 1):
        middle = (side * 19.5 + look, 0.5)
        canvas.ellipse(middle, (14, 12), (220, 235, 255, 45))
        canvas.line(arc(middle, (14.5, 12.5)), frame, 2.8)
        canvas.line([(side * 34 + look, -2), (side * 42, -4)], frame, 2.8)
    canvas.line(arc((look, 1), (5.5, 3.5), 190, 350, 8), frame, 2.8)


def draw_hat(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """A hat with a brim and a band; it leaves the forehead free."""
    if not face["Wearing_Hat"]:
        return
    colour = scene.accessory
    canvas.polygon([(-45, -36), (-40, -72), (-24, -80), (24, -80), (40, -72), (45, -36)], colour)
    canvas.polygon([(-45.5, -44), (45.5, -44), (46, -35), (-46, -35)], mix(colour, (255, 255, 255), 0.6))
    canvas.ellipse((0, -34), (62, 6.5), mix(colour, (0, 0, 0), 0.25))
