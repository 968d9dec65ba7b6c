"""The parts of a cartoon face that belong to the skin: head, wrinkles, eyes, brows, nose, mouth, beard."""

import math

from datamodules.face_attributes import Attributes, Scene
from datamodules.face_canvas import Canvas, Colour, Point, arc, mirrored, mix, moved

_EYE = 19.5
_TURN = 5.0
_LIGHT_SKIN, _DARK_SKIN = (240, 194, 156), (104, 68, 46)
_PALE_SKIN = (252, 231, 219)
_HAIR = {
    "Black_Hair": ((18, 16, 18), (44, 38, 40)),
    "Blond_Hair": ((205, 165, 70), (245, 215, 130)),
    "Brown_Hair": ((72, 44, 24), (118, 76, 44)),
    "Gray_Hair": ((135, 137, 140), (205, 207, 210)),
}
_OTHER_HAIR = ((104, 34, 22), (186, 84, 46))


def skin_colour(face: Attributes, scene: Scene) -> Colour:
    """Of the face; pale skin is lighter than all else."""
    return _PALE_SKIN if face["Pale_Skin"] else mix(_LIGHT_SKIN, _DARK_SKIN, scene.skin)


def hair_colour(face: Attributes, scene: Scene) -> Colour:
    """The mean of the hair colours that the face has; red if it has none."""
    ranges = [_HAIR[name] for name in _HAIR if face[name]] or [_OTHER_HAIR]
    shades = [mix(dark, light, scene.hair) for dark, light in ranges]
    red, green, blue = (round(sum(shade[channel] for shade in shades) / len(shades)) for channel in range(3))
    return red, green, blue


def contour(face: Attributes, inset: float = 0.0) -> list[Point]:
    """The outline of the head, 64 points clockwise from the right temple; the first half is the jaw."""
    width, chin = (35.0, 57.0) if face["Oval_Face"] else (39.5, 52.0)
    corner = (0.80 if face["Male"] else 1.0) + (0.12 if face["Oval_Face"] else 0.0)
    points = []
    for step in range(64):
        angle = 2 * math.pi * step / 64
        cosine, sine = math.cos(angle), math.sin(angle)
        below = max(sine, 0.0)
        x = math.copysign(abs(cosine) ** (corner if below else 1.0), cosine) * (width - inset)
        if face["Chubby"]:
            x *= 1 + 0.36 * math.sin(math.pi * min(below, 0.999) ** 1.2) ** 2
        points.append((x, sine * ((chin if below else 54.0) - inset)))
    return points


def draw_head(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """Neck, ears, the head, and what lies in the skin."""
    skin = skin_colour(face, scene)
    shade = mix(skin, (70, 25, 20), 0.22)
    half = 21 if face["Male"] else 15
    canvas.polygon([(-half, 30), (half, 30), (half + 3, 86), (-half - 3, 86)], shade)
    for side in (-1, 1):
        ear = (side * (36 if face["Oval_Face"] else 40) - 2 * scene.turn, 8)
        canvas.ellipse(ear, (6.5, 11), mix(skin, shade, 0.5))
    if face["Double_Chin"]:
        outer = arc((0, 42), (30, 24), 0, 180)
        canvas.polygon(outer, mix(skin, shade, 0.3))
        canvas.line(arc((0, 44), (26, 21), 25, 155), mix(shade, (60, 20, 15), 0.3), 2.2)
    outline = contour(face)
    canvas.polygon(outline, skin)
    if face["Double_Chin"]:
        canvas.line(outline[8:25], mix(shade, (60, 20, 15), 0.25), 2.4)
    _draw_skin(canvas, face, scene, skin)


def _draw_skin(canvas: Canvas, face: Attributes, scene: Scene, skin: Colour) -> None:
    look, dark = _TURN * scene.turn, mix(skin, (70, 25, 20), 0.38)
    for side in (-1, 1):
        if face["High_Cheekbones"]:
            hollow = [(side * 33, 15), (side * 35, 24), (side * 18 + look, 33), (side * 17 + look, 27)]
            canvas.polygon(hollow, mix(skin, (90, 30, 25), 0.24))
            canvas.soft_ellipse((side * 25 + look / 2, 15), (9, 5), (255, 255, 255), 150)
        if face["Rosy_Cheeks"]:
            canvas.soft_ellipse((side * 25 + look / 2, 21), (12, 9), (240, 50, 80), 210)
        if not face["Young"]:
            canvas.line([(side * 9 + look, 19), (side * 17 + look, 26), (side * 20 + look, 36)], dark, 1.8)
            for rise in (-4, 1):
                canvas.line([(side * 31 + look / 2, rise - 1), (side * 35 + look / 2, 1.8 * rise - 1)], dark, 1.3)
        if face["Bags_Under_Eyes"]:
            middle = (side * _EYE + look, 4.5)
            canvas.polygon(arc(middle, (10, 7.5), 0, 180), mix(skin, (80, 40, 80), 0.36))
            canvas.line(arc(middle, (10, 7.5), 15, 165), mix(skin, (60, 25, 50), 0.55), 1.4)
    if not face["Young"]:
        for height in (-29, -24, -19):
            canvas.line([(look - 17, height), (look, height - 1.5), (look + 17, height)], dark, 1.4)


def draw_eyes(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """Eyes and brows; those of attractive faces are large and carry a catchlight, an arbitrary rule."""
    look = _TURN * scene.turn
    size = 1.22 if face["Attractive"] else 0.98
    width, height = 9.5 * size, (2.2 if face["Narrow_Eyes"] else 5.4) * size
    for side in (-1, 1):
        x = side * _EYE + look
        if face["Heavy_Makeup"]:
            canvas.ellipse((x, -4), (13, 8.5), (126, 78, 150, 215))
        canvas.ellipse((x, 0), (width, height), (250, 250, 248))
        iris = (x + 2.2 * scene.turn, 0.0)
        radius = 4.6 * size
        canvas.ellipse(iris, (radius, min(radius, height)), scene.iris)
        canvas.ellipse(iris, (2.4, min(2.4, height)), (15, 12, 14))
        if face["Attractive"]:
            canvas.ellipse((iris[0] - 1.8, -1.8 if height > 3 else -0.8), (1.9, min(1.9, height / 2)), (255, 255, 255))
        lid = arc((x, 0), (width, height), 180, 360)
        canvas.line(lid, (45, 28, 24), 2.6 if face["Heavy_Makeup"] else 1.6)
        if face["Heavy_Makeup"]:
            canvas.line([(x + side * width, 0), (x + side * (width + 5), -5)], (25, 15, 20), 2.4)
        _draw_brow(canvas, face, scene, side)


def _draw_brow(canvas: Canvas, face: Attributes, scene: Scene, side: int) -> None:
    colour = mix(hair_colour(face, scene), (20, 12, 10), 0.35)
    rise = 7.0 if face["Arched_Eyebrows"] else 1.5
    points = [(offset, -12 - rise * (1 - ((offset - 3) / 15) ** 2)) for offset in (-12, -7, -2, 3, 8, 12)]
    brow = points if side > 0 else mirrored(points)
    thickness = (5.6 if face["Bushy_Eyebrows"] else 2.2) + (0.8 if face["Male"] else 0.0)
    canvas.line(moved(brow, side * _EYE + _TURN * scene.turn), colour, thickness)


def draw_nose(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """A wedge that ends in a point, or a round tip."""
    skin = skin_colour(face, scene)
    dark, look, size = mix(skin, (48, 10, 8), 0.34), 1.5 * _TURN * scene.turn, 1.55 if face["Big_Nose"] else 0.95
    if face["Pointy_Nose"]:
        bridge, tip = (look / 2, 1.0), (look, 19 + 4 * size)
        canvas.polygon([bridge, (look - 7.5 * size, 17), tip, (look + 7.5 * size, 17)], mix(skin, dark, 0.55))
        canvas.polygon([bridge, (look + 1.0 * size, 16), tip, (look + 7.5 * size, 17)], dark)
        return
    canvas.ellipse((look, 17.5), (8.5 * size, 5.6 * size), mix(skin, dark, 0.75))
    canvas.ellipse((look, 15.2), (5.8 * size, 4.6 * size), mix(skin, (255, 255, 255), 0.12))
    for side in (-1, 1):
        canvas.ellipse((look + side * 3.6 * size, 20.2), (1.7 * size, 1.2 * size), mix(dark, (30, 10, 10), 0.6))


def draw_mouth(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """Lips about a gap; the corners go up in a smile."""
    look = _TURN * scene.turn
    width, lift = (19.5, 8.0) if face["Smiling"] else (13.0, 0.0)
    gap = (8.5 if face["Smiling"] else 6.5) if face["Mouth_Slightly_Open"] else 0.0
    thick = 4.6 if face["Big_Lips"] else 2.2
    skin = skin_colour(face, scene)
    lips = (200, 18, 48) if face["Wearing_Lipstick"] else mix(skin, (168, 60, 72), 0.6)
    places = [step / 12 for step in range(-12, 13)]

    def edge(depth: float) -> list[Point]:
        return [(look + p * width, 37 - lift * p * p + depth * (1 - p * p) ** 0.7) for p in places]

    canvas.polygon(edge(-thick) + edge(gap + 1.25 * thick)[::-1], lips)
    if gap:
        canvas.polygon(edge(0) + edge(gap)[::-1], (70, 14, 22))
        canvas.polygon(edge(0) + edge(gap * 0.55)[::-1], (250, 248, 242))
    else:
        canvas.line(edge(0), mix(lips, (50, 10, 15), 0.6), 1.6)


def draw_beard(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """Stubble, a beard along the jaw (all that is not `No_Beard`), goatee and sideburns; the mouth comes later."""
    hair, look = mix(hair_colour(face, scene), (15, 10, 8), 0.18), _TURN * scene.turn
    if face["5_o_Clock_Shadow"]:
        canvas.polygon([*contour(face)[4:29], *arc((look, 32), (27, 9), 190, 350, 8)], (58, 62, 78, 120))
    if not face["No_Beard"]:
        canvas.polygon(contour(face)[2:31] + contour(face, inset=9.0)[2:31][::-1], hair)
    if face["Goatee"]:
        canvas.ellipse((look * 0.7, 51), (12, 9), hair)
        for side in (-1, 1):
            canvas.line([(side * 15 + look, 36), (side * 13 + look, 48)], hair, 4.5)
    if face["Sideburns"]:
        for side in (-1, 1):
            edge = 34.0 if face["Oval_Face"] else 38.5
            canvas.polygon(
                [(side * edge, -22), (side * (edge - 9), -20), (side * (edge - 11), 26), (side * edge, 20)], hair
            )


def draw_moustache(canvas: Canvas, face: Attributes, scene: Scene) -> None:
    """Two wings between nose and mouth."""
    if not face["Mustache"]:
        return
    hair, look = mix(hair_colour(face, scene), (15, 10, 8), 0.18), _TURN * scene.turn
    wing = [(0.0, 25.5), (9.0, 26.5), (19.0, 33.5), (17.0, 36.0), (8.0, 33.0), (0.0, 32.0)]
    for points in (wing, mirrored(wing)):
        canvas.polygon(moved(points, look), hair)
