from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from hw3.errors import InputError
from hw3.pictures import read_picture


def test_a_photograph_is_turned_upright_where_that_is_asked_for(tmp_path: Path) -> None:
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:, :10] = 255  # on the left as stored, so above as seen
    exif = Image.Exif()
    exif[0x0112] = 6  # turn a quarter clockwise
    path = tmp_path / "phone.png"
    Image.fromarray(pixels).save(path, exif=exif)
    assert read_picture(path).shape == (20, 30, 3)
    upright = read_picture(path, upright=True)
    assert upright.shape == (30, 20, 3)
    assert upright[:10].min() == 255 and upright[10:].max() == 0


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_more_than_8_bits_are_refused_not_clipped(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "deep.tif"
    values = np.full((4, 5), 30000, dtype={"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
    Image.fromarray(values).save(path)
    with pytest.raises(InputError, match=r"deep\.tif: .* not 8 bits a channel"):
        read_picture(path)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bits_a_colour_are_refused_not_halved(tmp_path: Path, ending: str, channels) -> None:
    path = tmp_path / f"deep.{ending}"  # Pillow opens each of them as 8 bits
    values = np.full((4, 5, channels), 30000, dtype=np.uint16)
    if ending == "png":
        cv2.imwrite(str(path), values)
    else:
        tifffile.imwrite(path, values, photometric="rgb")
    with pytest.raises(InputError, match=r"deep\.\w+: .*;16.* not 8 bits a channel"):
        read_picture(path)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "bmp", "gif", "webp", "ppm"])
def test_8_bits_are_taken_from_any_kind_of_file(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"plain.{ending}"
    Image.new("RGB", (6, 4), (250, 0, 0)).save(path)
    picture = read_picture(path)
    assert (picture.shape, picture.dtype) == ((4, 6, 3), np.uint8)
    assert np.abs(picture.astype(int) - (250, 0, 0)).max() <= 5  # JPEG and WebP are not exact


def test_transparency_is_left_out(tmp_path: Path) -> None:
    Image.new("RGBA", (6, 4), (10, 20, 30, 40)).save(tmp_path / "clear.png")
    assert read_picture(tmp_path / "clear.png")[0, 0].tolist() == [10, 20, 30]


def test_half_a_jpeg_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    noise = np.random.default_rng(0).integers(256, size=(200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"half\.jpg: cannot be decoded .*; give another copy"):
        read_picture(path)
