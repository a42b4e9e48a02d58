"""Depth, thermal pictures, IMU recordings and other arrays from files: values, units, rates, limits and faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import read_media, save_media
from isthmus.data.media.limits import MediaLimits
from isthmus.modalities import DEPTH, IMU, THERMAL, Modality
from isthmus.types import Media

DEPTHS = np.arange(500, 500 + 24, dtype=np.uint16).reshape(4, 6) * 3
MOTION = np.random.default_rng(0).normal(size=(6, 50)).astype(np.float32)


def test_depths_are_metres_whatever_they_are_stored_as(tmp_path: Path) -> None:
    Image.fromarray(DEPTHS).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", DEPTHS)
    np.save(tmp_path / "c.npy", DEPTHS / 1000)
    np.savetxt(tmp_path / "d.csv", DEPTHS / 1000, delimiter=",")
    for file in sorted(tmp_path.iterdir()):
        found = read_media(file, DEPTH)
        assert found.modality is DEPTH and found.array.dtype == np.float32 and found.source == str(file)
        np.testing.assert_allclose(found.array, DEPTHS / 1000, rtol=1e-6)


def test_thermal_pictures_are_shades_from_0_to_1(tmp_path: Path) -> None:
    shades = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    Image.fromarray(shades).save(tmp_path / "a.png")
    Image.fromarray(np.repeat(shades[..., None], 3, axis=2)).save(tmp_path / "b.png")
    Image.fromarray(shades.astype(np.uint16) * 257).save(tmp_path / "c.png")
    for file in sorted(tmp_path.iterdir()):
        np.testing.assert_allclose(read_media(file, THERMAL).array, shades / 255, atol=1e-6)


def test_a_recordings_rate_comes_from_its_file_or_from_the_conversation(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", samples=MOTION, rate=100)
    np.save(tmp_path / "b.npy", MOTION)
    names = "ax,ay,az,gx,gy,gz"
    np.savetxt(tmp_path / "c.csv", MOTION.T, delimiter=",", header=f"# rate: 100\n{names}", comments="")
    timed = np.vstack([np.arange(50) / 100, MOTION]).T
    np.savetxt(tmp_path / "d.csv", timed, delimiter=",", header=f"time,{names}", comments="")
    for file in sorted(tmp_path.iterdir()):
        found = read_media(file, IMU, rate=100.0 if file.suffix == ".npy" else None)
        assert found.rate == pytest.approx(100)
        np.testing.assert_allclose(found.array, MOTION, rtol=1e-5, atol=1e-6)
    with pytest.raises(DataError, match=r"found the rate None.*an .npy whose conversation says its 'rate'"):
        read_media(tmp_path / "b.npy", IMU)


@pytest.mark.parametrize("head", ["# rate: 100\n", "time,"])
def test_tables_of_spreadsheets_begin_with_a_byte_order_mark(head: str, tmp_path: Path) -> None:
    rows = "\n".join(f"{'' if '#' in head else f'{n / 100},'}{n},0,0,0,0,0" for n in range(5))
    (tmp_path / "a.csv").write_text(f"\ufeff{head}ax,ay,az,gx,gy,gz\n{rows}\n", encoding="utf-8")
    found = read_media(tmp_path / "a.csv", IMU)
    assert found.rate == pytest.approx(100) and found.array[0].tolist() == [0, 1, 2, 3, 4]
    (tmp_path / "b.csv").write_text("\ufeff1.5,2\n3,4\n", encoding="utf-8")
    assert read_media(tmp_path / "b.csv", DEPTH).array.ravel().tolist() == [1.5, 2, 3, 4]


def test_uneven_times_become_even(tmp_path: Path) -> None:
    times = np.array([0.0, 0.1, 0.4, 0.5])
    np.savetxt(
        tmp_path / "a.csv",
        np.vstack([times, *[times * k for k in range(6)]]).T,
        delimiter=",",
        header="t,a,b,c,d,e,f",
        comments="",
    )
    found = read_media(tmp_path / "a.csv", IMU)
    assert found.rate == pytest.approx(6)
    np.testing.assert_allclose(found.array[3], 3 * np.linspace(0, 0.5, 4), atol=1e-6)


@pytest.mark.parametrize("modality", [DEPTH, THERMAL, IMU])
def test_what_is_written_is_read_again(modality: Modality, tmp_path: Path) -> None:
    medium = Media(IMU, MOTION, rate=12.5) if modality is IMU else Media(modality, MOTION.clip(0, 1))
    path = save_media(medium, tmp_path / f"a{modality.spec.file_endings[0]}")
    again = read_media(path, modality)
    assert np.array_equal(again.array, medium.array) and again.rate == medium.rate


def written(path: Path, content: Any) -> Path:
    if isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif path.suffix == ".png":
        Image.fromarray(content).save(path)
    else:
        np.save(path, content)
    return path


@pytest.mark.parametrize(
    ("modality", "name", "content", "message"),
    [
        (DEPTH, "a.png", np.zeros((4, 4), np.uint8), "8 bits hold shades and no measurements"),
        (DEPTH, "a.png", np.zeros((4, 4, 3), np.uint8), "mode RGB, which holds colours and no grey values"),
        (DEPTH, "a.npy", np.full((4, 4), np.inf), "values that aren't finite"),
        (DEPTH, "a.npy", np.zeros((4, 4, 2)), r"found \(4, 4, 2\)"),
        (DEPTH, "a.jpg", "", "the ending '.jpg' is none of .npy, .csv"),
        (THERMAL, "a.npy", np.full((4, 4), 37.0), "from 0 to 1"),
        (IMU, "a.csv", "ax,ay\n1,2,3\n", "2 names of columns and 3 columns"),
        (IMU, "a.csv", "time,a,b,c,d,e,f\n1,0,0,0,0,0,0\n1,0,0,0,0,0,0\n", "its times don't rise"),
        (IMU, "a.csv", "# rate: 9\na,b,c\n1,2,3\n", r"found \(3, 1\) float32 at rate 9.0 for imu"),
        (IMU, "a.csv", "# rate: 0\na,b,c,d,e,f\n1,2,3,4,5,6\n", "found the rate 0.0"),
        (IMU, "a.npy", np.array(["x"], dtype=object), "Python objects"),
    ],
)
def test_faults_say_what_was_found(modality: Modality, name: str, content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        read_media(written(tmp_path / name, content), modality)


def test_limits_hold_before_anything_is_decoded_and_after(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((30, 30)))
    np.savez(tmp_path / "b.npz", samples=np.zeros((6, 900)), rate=10)
    (tmp_path / "c.csv").write_text("1,1\n" * 90, encoding="utf-8")
    for name, modality, limits in (
        ("a.npy", DEPTH, MediaLimits(pixels=800)),
        ("b.npz", IMU, MediaLimits(seconds=80)),
        ("c.csv", DEPTH, MediaLimits(pixels=100)),
        ("b.npz", IMU, MediaLimits(bytes=20_000)),
    ):
        with pytest.raises(DataError) as caught:
            read_media(tmp_path / name, modality, limits)
        assert caught.value.fault is Fault.LIMIT
