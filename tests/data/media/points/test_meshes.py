"""Meshes become points on their surface; animations become videos; hostile headers cost no memory."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points.meshes import POINTS
from isthmus.types import Modality


@pytest.mark.parametrize("ending", ["glb", "gltf", "obj", "off"])
def test_points_lie_evenly_on_the_surface(tmp_path: Path, ending: str) -> None:
    box = trimesh.creation.box(extents=(2.0, 1.0, 1.0))
    path = tmp_path / f"box.{ending}"
    if ending == "gltf":
        path.write_bytes(trimesh.exchange.gltf.export_gltf(box, merge_buffers=True, embed_buffers=True)["model.gltf"])
    else:
        box.export(path)
    points = read_media(path, Modality.POINTS).array
    assert points.shape == (POINTS, 3) and points.dtype == np.float32
    depth = np.abs(np.abs(points) - [1.0, 0.5, 0.5]).min(axis=1)
    assert depth.max() < 1e-5
    # The two ends are 2 of the 10 units of area.
    assert (np.abs(points[:, 0]) > 1 - 1e-5).mean() == pytest.approx(0.2, abs=0.03)
    assert np.array_equal(points, read_media(path, Modality.POINTS).array)


def glb(told: dict[str, Any]) -> bytes:
    text = json.dumps(told).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(text), len(text), 0x4E4F534A) + text


def test_headers_of_hostile_meshes(tmp_path: Path) -> None:
    accessor = {"componentType": 5126, "type": "VEC3", "count": 1 << 40}
    (tmp_path / "a.glb").write_bytes(glb({"asset": {"version": "2.0"}, "accessors": [accessor]}))
    shared = [{"primitives": [{"attributes": {"POSITION": 0}}]}]
    copies = {"accessors": [{**accessor, "count": 1000}], "meshes": shared, "nodes": [{"mesh": 0}] * 10_000}
    (tmp_path / "b.glb").write_bytes(glb({"asset": {"version": "2.0"}, **copies}))
    (tmp_path / "c.off").write_text("OFF\n99999999999 1 0\n0 0 0\n", encoding="ascii")
    for name in ("a.glb", "b.glb", "c.off"):
        with pytest.raises(DataError, match=f"{name}: found .* points") as caught:
            read_media(tmp_path / name, Modality.POINTS)
        assert caught.value.fault is Fault.LIMIT


def test_a_chunk_longer_than_its_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.glb").write_bytes(glb({"asset": {"version": "2.0"}}) + struct.pack("<II", 3 << 30, 0x004E4942))
    with pytest.raises(DataError, match=r"its chunks reach to byte \d+ of \d+"):
        read_media(tmp_path / "a.glb", Modality.POINTS)


def test_an_npy_header_that_declares_gigabytes_of_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 3 << 30) + b"{}")
    with pytest.raises(DataError, match=r"a\.npy: .*its header declares a length of 3221225472 bytes"):
        read_media(tmp_path / "a.npy", Modality.POINTS)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\n", "no readable point cloud"),
        ("b.obj", "v 0 0 0\nv 0 0 0\nv 0 0 0\nf 1 2 3\n", "no readable point cloud"),
        ("c.obj", "v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "no readable point cloud"),
        ("d.off", "OFF\n3 1 0\n0 0 0\n", "no readable point cloud"),
        ("e.glb", "glTF", "no readable point cloud"),
    ],
)
def test_broken_meshes_are_one_error(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text, encoding="ascii")
    with pytest.raises(DataError, match=name) as caught:
        read_media(tmp_path / name, Modality.POINTS)
    assert says in str(caught.value) and caught.value.fault is Fault.CORRUPT


def test_animated_webp_is_a_video(tmp_path: Path) -> None:
    pictures = [np.full((9, 7, 3), 60 * k, dtype=np.uint8) for k in range(4)]
    images = [Image.fromarray(picture) for picture in pictures]
    images[0].save(tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=125, lossless=True)
    video = read_media(tmp_path / "a.webp", Modality.VIDEO)
    assert np.array_equal(video.array, np.stack(pictures)) and video.rate == pytest.approx(8.0)
    with pytest.raises(DataError, match="found 4 frames"):
        read_media(tmp_path / "a.webp", Modality.VIDEO, MediaLimits(frames=3))
    (tmp_path / "b.webp").write_bytes((tmp_path / "a.webp").read_bytes()[:-40])
    with pytest.raises(DataError, match=r"b\.webp: found no readable video"):
        read_media(tmp_path / "b.webp", Modality.VIDEO)
