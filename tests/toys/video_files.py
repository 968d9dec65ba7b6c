"""Writes tiny real videos; in a lossless codec what is read back is what was written."""

import av
import numpy as np


def write_video(path, frames, codec=None, *, lossless=True, rotation=0, rate=25):
    """Frames uint8 (F, H, W, 3) as .avi (FFV1) or .mp4 (H.264), lossless or in their usual lossy form."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mp4 = path.suffix == ".mp4"
    codec = codec or {(True, True): "libx264rgb", (True, False): "libx264", (False, True): "ffv1"}.get(
        (mp4, lossless), "mpeg4"
    )
    options = {"qp": "0"} if codec == "libx264rgb" else {}
    pixels = {"libx264rgb": "rgb24", "ffv1": "bgr0"}.get(codec, "yuv420p")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        if rotation:
            stream.set_display_rotation(rotation)
        for frame in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def noise(number, height=48, width=64, seed=0):
    """Frames (number, height, width, 3), coarse noise; the red of the first rows is the frame's place."""
    random = np.random.default_rng(seed)
    frames = random.integers(0, 256, (number, height // 8, width // 8, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    frames[:, :4, :, 0] = np.arange(number)[:, None, None]
    return frames


def walker(number, height=144, width=180, *, speed=3, start=-10, seed=0):
    """A figure that walks from left to right: frames (F, H, W, 3) and its silhouettes bool (F, H, W)."""
    random = np.random.default_rng(seed)
    background = random.integers(60, 90, (height // 12, width // 12, 3)).repeat(12, 0).repeat(12, 1)
    y, x = np.mgrid[:height, :width]
    frames, masks = [], []
    for frame in range(number):
        centre, swing = start + speed * frame, 9 * np.sin(frame / 2)
        head = (x - centre) ** 2 + (y - 50) ** 2 <= 49
        body = (abs(x - centre) <= 6) & (y >= 57) & (y <= 90)
        legs = [abs(x - centre - sign * swing * (y - 90) / 25) <= 3 for sign in (-1, 1)]
        mask = head | body | ((legs[0] | legs[1]) & (y > 90) & (y <= 115))
        frames.append(np.where(mask[..., None], (200, 150, 120), background))
        masks.append(mask)
    return np.stack(frames).astype(np.uint8), np.stack(masks)


FACE = np.array(
    [(-60 * np.cos(a), 70 * np.sin(a)) for a in np.linspace(0, np.pi, 17)]
    + [(x, -38 - 6 * np.sin((x + 50) / 38 * np.pi)) for x in np.linspace(-50, -12, 5)]
    + [(x, -38 - 6 * np.sin((x - 12) / 38 * np.pi)) for x in np.linspace(12, 50, 5)]
    + [(0, y) for y in np.linspace(-18, 10, 4)]
    + [(x, 17) for x in np.linspace(-12, 12, 5)]
    + [(-30 + 9 * x, -20 + 5 * y) for x, y in ((-1, 0), (-0.4, -1), (0.4, -1), (1, 0), (0.4, 1), (-0.4, 1))]
    + [(30 + 9 * x, -20 + 5 * y) for x, y in ((-1, 0), (-0.4, -1), (0.4, -1), (1, 0), (0.4, 1), (-0.4, 1))]
    + [(-22 * np.cos(a), 38 - 8 * np.sin(a)) for a in np.linspace(0, np.pi, 7)]
    + [(22 * np.cos(a), 38 + 9 * np.sin(a)) for a in np.linspace(0, np.pi, 7)[1:-1]]
    + [(-15 * np.cos(a), 38 - 3 * np.sin(a)) for a in np.linspace(0, np.pi, 5)]
    + [(15 * np.cos(a), 38 + 3 * np.sin(a)) for a in np.linspace(0, np.pi, 5)[1:-1]]
)
"""The 68 landmarks of a face that looks straight, (x, y) from its middle; symmetric, as the mirror table says."""


def talking_face(number, height=180, width=240, *, scale=0.6, turn=0.25):
    """A face that nods aside and opens its mouth: frames (F, H, W, 3) and landmarks (F, 68, 2)."""
    from PIL import Image, ImageDraw

    frames, landmarks = [], []
    for frame in range(number):
        shape = FACE.copy()
        shape[48:, 1] += np.where(shape[48:, 1] > 38, 10 * abs(np.sin(frame / 4)), 0)
        angle = turn * np.sin(frame / 6)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        points = scale * shape @ rotation + (width / 2 + 12 * np.sin(frame / 5), height / 2)
        image = Image.new("RGB", (width, height), (40, 60, 80))
        draw = ImageDraw.Draw(image)
        brow = points[17:27] + scale * np.array([0, -25]) @ rotation
        draw.polygon([tuple(p) for p in np.concatenate([points[:17], brow[::-1]])], fill=(220, 180, 150))
        for part, colour in (
            (slice(36, 42), (255, 255, 255)),
            (slice(42, 48), (90, 140, 255)),
            (slice(48, 60), (180, 40, 40)),
        ):
            draw.polygon([tuple(p) for p in points[part]], fill=colour)
        for part in (slice(17, 22), slice(22, 27), slice(27, 31)):
            draw.line([tuple(p) for p in points[part]], fill=(60, 40, 20), width=2)
        frames.append(np.asarray(image))
        landmarks.append(points)
    return np.stack(frames), np.stack(landmarks)


def write_openface(path, landmarks, *, lost=()):
    """Landmarks (F, 68, 2) as a table of OpenFace, in which some frames were lost."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["frame", " timestamp", " confidence", " success"]
    names += [f" {axis}_{index}" for axis in "xy" for index in range(68)]
    lines = [",".join(names)]
    for frame, points in enumerate(landmarks):
        found = frame not in lost
        values = points if found else np.zeros_like(points)
        numbers = [frame + 1, frame / 30, 0.98 * found, int(found), *values.T.ravel()]
        lines.append(", ".join(f"{number:.4f}" if isinstance(number, float) else str(number) for number in numbers))
    path.write_text("\n".join(lines) + "\n")
