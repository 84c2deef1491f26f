"""Writes the golden files of the two resizes into tests/data/resize/.

    pip install numpy 'pillow<13'     # from 13 on, Pillow chooses the order of the axes by their lengths
    python tools/golden/resize.py

in-HxW.npy            u8 [H, W, 3]: a gradient, a disc and stripes with a little noise from a linear congruential generator
clip-HxW-S.npy        f32 [1, 3, S, S]: the antialiased bicubic with CLIP's mean and deviation, by dense float64 matrices
lanczos-HxW-hxw.npy   u8 [h, w, 3]: Pillow's own Image.resize(LANCZOS)

The first resize is defined in the module doc of src/host/resize.rs; here each axis is one dense matrix
(bicubic @ blur @ reflection), which is another route than the sparse taps of the Rust code.
"""
from pathlib import Path

import numpy as np
from PIL import Image

OUT = Path(__file__).resolve().parents[2] / "tests" / "data" / "resize"
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32).reshape(1, 3, 1, 1)

# (height, width) -> (sizes of the CLIP square, (height, width) of the Lanczos resize)
CASES = {
    (37, 53): ([16], [(19, 24), (37, 20), (20, 53)]),
    (11, 7): ([14], [(32, 20), (3, 21)]),
    (40, 41): ([15], [(39, 42)]),
    (5, 90): ([12], [(9, 31), (1, 1)]),
}


def picture(height, width):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    stripes = 127.5 + 127.5 * np.sign(np.sin((x + 2 * y) * 0.9))
    rgb = np.stack([255 * x / (width - 1), 255 * y / (height - 1), stripes], -1)
    disc = (x - 0.4 * width) ** 2 + (y - 0.5 * height) ** 2 < (0.3 * min(height, width)) ** 2
    rgb[disc] = (220, 60, 90)
    state, noise = 12345, []
    for _ in range(height * width * 3):
        state = (state * 1103515245 + 12345) % 2**31
        noise.append(state / 2**31 - 0.5)
    rgb += 20 * np.array(noise).reshape(height, width, 3)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)


def reflection(length, radius):
    """[length + 2 radius, length]: each padded sample as the sample it mirrors."""
    mirrored = np.pad(np.arange(length), radius, mode="reflect")
    return np.eye(length)[mirrored]


def blur(length, size):
    """[length, length + 2 radius]: the Gaussian of the antialiasing."""
    factor = length / size
    sigma = max((factor - 1) / 2, 0.001)
    taps = int(max(4 * sigma, 3)) | 1
    kernel = np.exp(-0.5 * ((np.arange(taps) - taps // 2) / sigma) ** 2)
    kernel /= kernel.sum()
    matrix = np.zeros((length, length + taps - 1))
    for i in range(length):
        matrix[i, i:i + taps] = kernel
    return matrix @ reflection(length, taps // 2)


def bicubic(length, size, a=-0.75):
    """[size, length]: cubic convolution, corners aligned, edges repeated."""
    matrix = np.zeros((size, length))
    for o in range(size):
        at = o * (length - 1) / (size - 1)
        first = int(np.floor(at))
        for j in range(first - 1, first + 3):
            d = abs(at - j)
            near = (a + 2) * d**3 - (a + 3) * d**2 + 1
            far = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            matrix[o, np.clip(j, 0, length - 1)] += near if d <= 1 else far if d < 2 else 0.0
    return matrix


def clip(image, size):
    height, width, _ = image.shape
    x = (image.astype(np.float32) / np.float32(255) * 2 - 1).astype(np.float64)
    rows = bicubic(height, size) @ blur(height, size)
    columns = bicubic(width, size) @ blur(width, size)
    y = np.einsum("oh,hwc,pw->cop", rows, x, columns)[None].astype(np.float32)
    return (((y + 1) / 2 - MEAN) / STD).astype(np.float32)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for (height, width), (squares, sizes) in CASES.items():
        image = picture(height, width)
        name = f"{height}x{width}"
        np.save(OUT / f"in-{name}.npy", image)
        for size in squares:
            np.save(OUT / f"clip-{name}-{size}.npy", clip(image, size))
        for h, w in sizes:
            small = Image.fromarray(image).resize((w, h), Image.Resampling.LANCZOS)
            np.save(OUT / f"lanczos-{name}-{h}x{w}.npy", np.asarray(small))


if __name__ == "__main__":
    main()
