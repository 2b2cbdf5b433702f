"""Pictures from files, as every part of the package reads them."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from hw3.errors import InputError


def read_picture(path: Path, upright: bool = False) -> np.ndarray:
    """(height, width, 3) uint8 RGB; an InputError if the file cannot be decoded to it.

    Args:
        path: of any colour or grey image with 8 bits a channel; transparency is left out.
        upright: whether to turn it as a camera has noted (EXIF).

    Example:
        >>> Image.new("L", (64, 48), 7).save(folder / "road.png")
        >>> image = read_picture(folder / "road.png")
        >>> image.shape, image[0, 0].tolist()
        ((48, 64, 3), [7, 7, 7])
    """
    try:  # by Pillow, because OpenCV passes half a JPEG off as a whole one
        with Image.open(path) as image:
            stored = {image.mode, *_stored_modes(image)}
            if any(mode == "F" or mode.startswith("I") or ";16" in mode for mode in stored):
                raise ValueError(f"mode {', '.join(sorted(stored))}, not 8 bits a channel")
            turned = ImageOps.exif_transpose(image) if upright else image
            return np.array(turned.convert("RGB"))
    except Exception as error:  # Pillow's decoders raise many kinds; all mean: unreadable
        raise InputError(f"{path}: cannot be decoded ({error}); give another copy") from None


def _stored_modes(image: Image.Image) -> list[str]:
    """How the file holds its pixels. Pillow opens 16 bits a channel as RGB, without the low 8."""
    modes = [tile[3] for tile in image.tile]
    return [mode if isinstance(mode, str) else str(mode[0]) for mode in modes if mode]
