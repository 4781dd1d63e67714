"""Writing images: as a whole or not at all, in the format of the file's suffix."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from detect.errors import UserError
from detect.utils.atomic_io import replace_file

_TO_BGR = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}  # by the number of channels


def save_image(path: Path, image: np.ndarray, quality: int = 95) -> None:
    """Write an image (H, W, 3) uint8 RGB; `quality` is that of JPEG, from 0 to 100.

    PNG files also hold (H, W, 4) uint8 RGBA, and (H, W) uint8 or uint16 of one channel.

    It is not waited for until it lies on the disk: a thousand of them would take a thousand waits.

    Raises:
        UserError: the file cannot be written, or its format cannot hold an image of this size.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if path.suffix.lower() in (".jpg", ".jpeg") else []
    try:
        turned = image if image.ndim == 2 else cv2.cvtColor(image, _TO_BGR[image.shape[2]])
        good, data = cv2.imencode(path.suffix, turned, options)
    except cv2.error:
        good = False
    if not good:
        height, width = image.shape[:2]
        raise UserError(f"{path} cannot be written: {path.suffix} files hold no {width} x {height} pixels; take .png")
    replace_file(path, lambda part: part.write_bytes(data.tobytes()), durable=False)
