"""Images side by side in one picture."""

import math

import numpy as np
import numpy.typing as npt

SEPARATOR, BACKGROUND = 2, 96
"""Between the images of a grid: pixels, and their grey."""


def grid(images: npt.NDArray[np.uint8], min_side: int = 84) -> npt.NDArray[np.uint8]:
    """Images [N, C, H, W], C of 1 (grey) or 3 (RGB), as one nearly square picture [H', W'] or [H', W', 3], row by row.

    Each image is enlarged by the smallest whole factor that makes its shorter side at least `min_side` pixels.
    """
    count, channels, height, width = images.shape
    assert images.dtype == np.uint8
    assert channels in (1, 3)
    scale = math.ceil(min_side / min(height, width))
    columns = math.ceil(math.sqrt(count))
    step_y, step_x = height * scale + SEPARATOR, width * scale + SEPARATOR
    size = (math.ceil(count / columns) * step_y + SEPARATOR, columns * step_x + SEPARATOR, channels)
    canvas = np.full(size, BACKGROUND, np.uint8)
    for index, image in enumerate(images.repeat(scale, axis=2).repeat(scale, axis=3)):
        top, left = index // columns * step_y + SEPARATOR, index % columns * step_x + SEPARATOR
        canvas[top : top + height * scale, left : left + width * scale] = image.transpose(1, 2, 0)
    return canvas.squeeze(2) if channels == 1 else canvas
