"""Clouds as users bring them: far from zero, colours under many names, PCD, LAS, meshes in PLY, broken points."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from data.made_media import BYTES, PLACES, UTM, colours, pcd, ply, xyz

from isthmus.data.errors import DataError, Fault
from isthmus.data.media.files import read_media
from isthmus.data.media.limits import MediaLimits
from isthmus.data.media.points.meshes import POINTS
from isthmus.data.media.points.pcd import lzf
from isthmus.data.media.remarks import Remark, remarks
from isthmus.types import Modality

Array = np.ndarray[Any, Any]


def read(path: Path, limits: MediaLimits | None = None) -> Array:
    return read_media(path, Modality.POINTS, limits or MediaLimits()).array


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize(
    "names", ["red green blue", "r g b", "diffuse_red diffuse_green diffuse_blue", "Red Green Blue"]
)
def test_colours_of_a_ply_are_found_under_their_names(tmp_path: Path, names: str, text: bool) -> None:
    (tmp_path / "a.ply").write_bytes(ply(xyz() | colours(names, BYTES), text))
    assert np.allclose(read(tmp_path / "a.ply"), np.hstack([PLACES, BYTES / 255]))


@pytest.mark.parametrize(
    "values",
    [BYTES, BYTES.astype("f4"), BYTES.astype("u2") * 257, BYTES / 255, (BYTES / 255).astype("f4"), BYTES.astype("i4")],
    ids=lambda values: f"{values.dtype} to {values.max():g}",
)
def test_colours_of_every_range_are_scaled(tmp_path: Path, values: Array) -> None:
    (tmp_path / "a.ply").write_bytes(ply(xyz() | colours("red green blue", values)))
    np.savez(tmp_path / "b.npz", points=PLACES, rgb=values)
    np.savez(tmp_path / "c.npz", xyz=PLACES, colors=values)
    for name in ("a.ply", "b.npz", "c.npz"):
        assert np.allclose(read(tmp_path / name), np.hstack([PLACES, BYTES / 255]), atol=1e-6)
    if values.dtype.kind == "f":
        np.save(tmp_path / "d.npy", np.hstack([PLACES, values]))
        assert np.allclose(read(tmp_path / "d.npy"), np.hstack([PLACES, BYTES / 255]), atol=1e-6)


def test_splats_are_coloured_by_their_constant_harmonic(tmp_path: Path) -> None:
    terms = np.linspace(-3, 3, 120, dtype=np.float32).reshape(40, 3)
    (tmp_path / "a.ply").write_bytes(ply(xyz() | colours("f_dc_0 f_dc_1 f_dc_2", terms)))
    expected = np.clip(0.5 + terms / (2 * np.sqrt(np.pi)), 0, 1)
    assert np.allclose(read(tmp_path / "a.ply")[:, 3:], expected, atol=1e-6)


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.ply", "b.ply", "a.pcd"])
def test_coordinates_far_from_zero_are_moved_before_they_are_rounded(tmp_path: Path, name: str) -> None:
    far = PLACES.astype(np.float64) + UTM
    if name.endswith(".npy"):
        np.save(tmp_path / name, far)
    elif name.endswith(".npz"):
        np.savez(tmp_path / name, xyz=far, rgb=BYTES)
    elif name.endswith(".pcd"):
        (tmp_path / name).write_bytes(pcd("binary", {axis: far[:, i] for i, axis in enumerate("xyz")}))
    else:
        (tmp_path / name).write_bytes(ply(xyz("f8", UTM), text=name == "b.ply"))
    found = read(tmp_path / name)[:, :3]
    assert np.allclose(found, PLACES - PLACES.mean(axis=0), atol=1e-5)
    np.save(tmp_path / "near.npy", PLACES.astype(np.float64) + 5)
    assert np.allclose(read(tmp_path / "near.npy"), PLACES + 5)  # nothing would be lost, nothing is moved


@pytest.mark.parametrize("form", ["ascii", "binary", "binary_compressed"])
@pytest.mark.parametrize("kind", ["f4", "u4"])
def test_pcd_is_read_with_packed_colours(tmp_path: Path, form: str, kind: str) -> None:
    whole = BYTES.astype(np.uint32)
    packed = (whole[:, 0] << 16 | whole[:, 1] << 8 | whole[:, 2]).view(kind)
    (tmp_path / "a.pcd").write_bytes(pcd(form, xyz() | {"rgb": packed, "intensity": np.ones(40, "f4")}))
    assert np.allclose(read(tmp_path / "a.pcd"), np.hstack([PLACES, BYTES / 255]), atol=1e-6)
    (tmp_path / "a.pcd").write_bytes((tmp_path / "a.pcd").read_bytes()[:-300])
    with pytest.raises(DataError, match=r"a\.pcd: found no readable point cloud"):
        read(tmp_path / "a.pcd")


def test_lzf_repeats_what_it_has_made() -> None:
    # "ab", then 6 and 14 bytes from two and from one byte back.
    assert lzf(bytes([1]) + b"ab" + bytes([4 << 5, 1, 7 << 5, 5, 0]), 22) == b"ab" + b"ab" * 3 + b"b" * 14
    with pytest.raises(ValueError, match="refer to bytes before their start"):
        lzf(bytes([0]) + b"a" + bytes([1 << 5, 9]), 4)


@pytest.mark.parametrize("ending", ["las", "laz"])
@pytest.mark.parametrize("coloured", [True, False])
def test_surveys_are_read_with_their_colours(tmp_path: Path, ending: str, coloured: bool) -> None:
    laspy = pytest.importorskip("laspy")
    header = laspy.LasHeader(point_format=3, version="1.2")
    header.offsets, header.scales = UTM, [1e-4] * 3
    made = laspy.LasData(header)
    made.x, made.y, made.z = (PLACES.astype(np.float64) + UTM).T
    if coloured:
        made.red, made.green, made.blue = (BYTES.astype(np.uint16) * 257).T
    made.write(tmp_path / f"a.{ending}")
    found = read(tmp_path / f"a.{ending}")
    assert np.allclose(found[:, :3], PLACES - PLACES.mean(axis=0), atol=2e-4)
    assert np.allclose(found[:, 3:], BYTES / 255) if coloured else found.shape == (40, 3)
    with pytest.raises(DataError, match="found 40 points; expected at most 39"):
        read(tmp_path / f"a.{ending}", MediaLimits(points=39))


def test_a_survey_that_declares_more_records_than_it_holds_is_refused_at_once(tmp_path: Path) -> None:
    header = struct.pack("<4s20xBB74xI", b"LASF", 1, 2, 0xFFFFFFFF) + bytes(300)
    (tmp_path / "a.las").write_bytes(header)
    with pytest.raises(DataError, match=r"its header declares records of \d+ bytes in a file of 404"):
        read(tmp_path / "a.las")


@pytest.mark.parametrize("encoding", ["ascii", "binary"])
def test_a_mesh_in_a_ply_is_its_surface(tmp_path: Path, encoding: str) -> None:
    trimesh.creation.box(extents=(2.0, 1.0, 1.0)).export(tmp_path / "a.ply", encoding=encoding)
    points = read(tmp_path / "a.ply")
    assert points.shape == (POINTS, 3)
    assert np.abs(np.abs(points) - [1.0, 0.5, 0.5]).min(axis=1).max() < 1e-5
    data = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(data[: -len(data) // 8])
    with pytest.raises(DataError, match="no readable point cloud"):
        read(tmp_path / "a.ply")


@pytest.mark.parametrize("text", [True, False])
def test_other_elements_before_the_vertices_are_stepped_over(tmp_path: Path, text: bool) -> None:
    rows = b"0.5\n0.5\n" if text else struct.pack("<2f", 0.5, 0.5)
    (tmp_path / "a.ply").write_bytes(ply(xyz(), text, "element camera 2\nproperty float view\n", rows))
    assert np.allclose(read(tmp_path / "a.ply"), PLACES)


def test_a_byte_order_mark_is_no_reason_to_refuse(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_bytes(b"\xef\xbb\xbfv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (tmp_path / "a.off").write_bytes(b"\xef\xbb\xbfOFF\n3 1 0\n0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n")
    for name in ("a.obj", "a.off"):
        assert read(tmp_path / name).shape == (POINTS, 3)


def test_broken_points_are_named_or_left_out_on_request(tmp_path: Path) -> None:
    broken = PLACES.astype(np.float64)
    broken[[3, 17], 1] = np.nan, np.inf
    broken[5, 0] = 1e300  # no number of float32
    np.save(tmp_path / "a.npy", broken)
    with pytest.raises(DataError, match=r"3 of 40 points aren't finite: those of index 3, 5, 17\).*broken_points"):
        read(tmp_path / "a.npy")
    with remarks() as found:
        left = read(tmp_path / "a.npy", MediaLimits(broken_points=3))
    assert np.allclose(left, np.delete(PLACES, [3, 5, 17], axis=0))
    assert [kind for kind, _ in found] == [Remark.BROKEN_POINTS]
    with pytest.raises(DataError, match="3 of 40"):
        read(tmp_path / "a.npy", MediaLimits(broken_points=2))


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (
            {"pc": PLACES, "colors": BYTES},
            "its arrays are pc, colors; expected one called points or xyz, .*rgb or colors",
        ),
        ({"points": PLACES, "rgb": BYTES[:5]}, r"its 'points' is \(40, 3\) and its 'rgb' \(5, 3\)"),
        ({"points": PLACES, "rgb": PLACES}, "its colours reach from -.*normals aren.t colours"),
    ],
)
def test_an_npz_that_cannot_be_used_says_which_keys_are(tmp_path: Path, arrays: dict[str, Array], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said) as caught:
        read(tmp_path / "a.npz")
    assert caught.value.fault is Fault.CORRUPT


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (xyz() | {"red": BYTES[:, 0]}, "it has x, y, z, red: red without green, blue"),
        ({"x": PLACES[:, 0], "y": PLACES[:, 1]}, "it has x, y, and no z"),
    ],
)
def test_a_ply_says_which_property_lacks(tmp_path: Path, columns: dict[str, Array], said: str) -> None:
    (tmp_path / "a.ply").write_bytes(ply(columns))
    with pytest.raises(DataError, match=said):
        read(tmp_path / "a.ply")
