#!/usr/bin/env python3
"""Draws examples/boat.png (a boat at sunset) and examples/boat-rotated.jpg (the same picture stored lying on its side, with the
EXIF orientation that turns it upright).

    python3 tools/examples/picture.py examples

Needs numpy and Pillow. The same versions give the same bytes; nothing is random.
"""
import sys

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 512, 288
HORIZON = 176
SUN = (344, 150, 34)
ORIENTATION = 0x0112


def ramp(t, stops):
    """Colours between the stops `(position, (r, g, b))`."""
    at = [s[0] for s in stops]
    return np.stack([np.interp(t, at, [s[1][c] for s in stops]) for c in range(3)], axis=-1)


def over(picture, mask, colour):
    """Paints a colour where the mask is, by its strength from 0 to 1."""
    return picture + mask[..., None] * (np.asarray(colour, float) - picture)


def inside(x, y, corners):
    """1 inside of the convex polygon, 0 outside, with a soft edge of a pixel."""
    mask = np.ones_like(x)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1]):
        distance = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / np.hypot(bx - ax, by - ay)
        mask *= np.clip(distance + 0.5, 0, 1)
    return mask


def sky(x, y):
    picture = ramp(y / HORIZON, [(0, (38, 40, 92)), (0.45, (150, 74, 120)), (0.8, (244, 140, 92)), (1, (255, 206, 130))])
    distance = np.hypot(x - SUN[0], y - SUN[1])
    picture = over(picture, 0.55 * np.exp(-distance / 60), (255, 226, 150))
    for centre, height, length, width in [(52, 7, 190, 90), (74, 5, 300, 340), (102, 6, 230, 210), (124, 4, 260, 430)]:
        shape = np.exp(-(((y - centre - 5 * np.sin(x / 47 + centre)) / height) ** 2) - ((x - width) / length) ** 2)
        picture = over(picture, 0.5 * shape, (255, 176, 140))
    return over(picture, np.clip(SUN[2] - distance + 0.5, 0, 1), (255, 244, 200))


def hills(picture, x, y):
    for base, size, length, colour in [(158, 15, 83, (120, 70, 112)), (167, 11, 57, (82, 52, 96))]:
        edge = base - size * (0.5 + 0.5 * np.sin(x / length + base)) - 0.3 * size * np.sin(x / 19 + base)
        picture = over(picture, np.clip(y - edge + 0.5, 0, 1) * (x < SUN[0] - 60 + 3 * (y - base)), colour)
    return picture


def sea(picture, x, y):
    depth = np.clip((y - HORIZON) / (HEIGHT - HORIZON), 0, 1)
    water = ramp(depth, [(0, (240, 160, 116)), (0.25, (146, 88, 120)), (1, (24, 38, 80))])
    waves = np.sin(y * (3.2 - 2.3 * depth) + 2.5 * np.sin(x / (14 + 40 * depth)) + x / 31)
    water = over(water, 0.16 * np.clip(waves, 0, 1), (255, 214, 170))
    path = np.exp(-(((x - SUN[0] - 6 * waves) / (16 + 46 * depth)) ** 2)) * (0.45 + 0.55 * (waves > 0.1))
    water = over(water, 0.8 * path * (1 - 0.45 * depth), (255, 232, 170))
    return over(picture, np.clip(y - HORIZON + 0.5, 0, 1), np.zeros(3)) + np.clip(y - HORIZON + 0.5, 0, 1)[..., None] * water


def boat(picture, x, y):
    shadow = np.exp(-(((x - 170) / 58) ** 2) - ((y - 242) / 7) ** 2)
    picture = over(picture, 0.6 * shadow, (16, 22, 52))
    picture = over(picture, inside(x, y, [(166, 96), (169, 96), (169, 222), (166, 222)]), (60, 36, 40))
    picture = over(picture, inside(x, y, [(171, 102), (214, 210), (171, 214)]), (250, 232, 208))
    picture = over(picture, inside(x, y, [(163, 112), (163, 213), (124, 208)]), (228, 120, 92))
    return over(picture, inside(x, y, [(112, 220), (226, 220), (206, 241), (132, 241)]), (74, 40, 44))


def gulls(picture, x, y):
    for gx, gy, size in [(420, 58, 11), (446, 70, 8), (398, 76, 7)]:
        wing = gy + 0.5 * size * np.abs(np.sin((x - gx) / size * 2.4)) * -1
        picture = over(picture, np.clip(1.6 - np.abs(y - wing), 0, 1) * (np.abs(x - gx) < size), (48, 36, 66))
    return picture


def draw():
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    picture = sky(x, y)
    for layer in (hills, sea, boat, gulls):
        picture = layer(picture, x, y)
    return Image.fromarray(np.clip(np.rint(picture), 0, 255).astype(np.uint8))


def main(folder):
    picture = draw()
    picture.save(f"{folder}/boat.png", optimize=True)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the reader turns it a quarter clockwise
    lying = picture.transpose(Image.Transpose.ROTATE_90).resize((HEIGHT // 2, WIDTH // 2), Image.Resampling.LANCZOS)
    lying.save(f"{folder}/boat-rotated.jpg", quality=90, exif=exif)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
