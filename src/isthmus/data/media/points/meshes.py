"""Triangle meshes -> point clouds on their surface, by trimesh, which parses glTF, OBJ, OFF and PLY."""

from __future__ import annotations

import json
import struct
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from isthmus.data.media.limits import MediaLimits

ENDINGS = (".glb", ".gltf", ".obj", ".off")
POINTS = 4096
"""Number of points sampled from a mesh. Encoders subsample them."""


def read_mesh(path: Path, limits: MediaLimits, points: int = POINTS, faces: int = 0) -> np.ndarray[Any, Any]:
    """A file -> (``points``, 3), sampled uniformly on its surface with a fixed seed; without colours.

    Args:
        path: of one of :data:`ENDINGS`, or a ``.ply`` whose header has been checked against the limits.
        limits: caps on its vertices.
        points: number of samples.
        faces: the least number of faces.

    Other files are never opened: a ``.gltf`` must embed its buffers, and an ``.obj``'s materials are ignored.

    Raises:
        DataError: the file exceeds a limit.
        Exception: a parser's errors for a broken file, which the caller converts.
    """
    from trimesh import load_scene
    from trimesh.sample import sample_surface

    ending = path.suffix.lower()
    if ending in (".glb", ".gltf"):
        _declared(path, ending, limits)
    elif ending == ".off":
        _declared_off(path, limits)
    # Without a resolver, trimesh opens no files that this one names. Some editors write a byte order mark.
    with BytesIO(path.read_bytes().removeprefix(b"\xef\xbb\xbf")) as file:
        # Its processing would allocate memory up to the largest vertex index, even if there is no such vertex.
        scene = load_scene(file, file_type=ending[1:], allow_remote=False, process=False)
    for geometry in scene.geometry.values():
        limits.check(path, points=len(geometry.vertices))
        corners = np.asarray(getattr(geometry, "faces", ()))
        if len(corners) and not 0 <= corners.min() <= corners.max() < len(geometry.vertices):
            raise ValueError(f"its triangles name corners up to {corners.max()} of {len(geometry.vertices)}")
    mesh = scene.to_mesh()
    limits.check(path, points=len(mesh.vertices))
    if not len(mesh.faces):
        raise ValueError("it holds no triangles")
    if len(mesh.faces) < faces:
        raise ValueError(f"{len(mesh.faces)} of {faces} faces are there")
    if not np.isfinite(mesh.vertices).all():
        raise ValueError("it holds corners that aren't finite")
    if not mesh.area > 0:
        raise ValueError("its triangles have no area")
    sampled: np.ndarray[Any, Any] = np.asarray(sample_surface(mesh, points, seed=0)[0])
    return sampled


def _declared(path: Path, ending: str, limits: MediaLimits) -> None:
    """Checks a glTF's declared numbers of vertices against the limits: an accessor needs no bytes in the file."""
    with path.open("rb") as file:
        length = -1
        if ending == ".glb":
            magic, _, _, length, _ = struct.unpack("<4sIIII", file.read(20))
            if magic != b"glTF":
                raise ValueError("it doesn't begin with 'glTF'")
            _chunks_fit(path)
        content = json.loads(file.read(length))
    counts = [int(accessor["count"]) for accessor in content.get("accessors", [])]
    limits.check(path, points=sum(counts))
    drawn = 0
    for node in content.get("nodes", []):
        if "mesh" in node:
            primitives = content["meshes"][node["mesh"]]["primitives"]
            drawn += sum(counts[primitive["attributes"]["POSITION"]] for primitive in primitives)
    limits.check(path, points=drawn)


def _chunks_fit(path: Path) -> None:
    """Refuses a chunk that is longer than the file, since readers allocate its declared length."""
    size, at = path.stat().st_size, 12
    with path.open("rb") as file:
        while at + 8 <= size:
            file.seek(at)
            (length,) = struct.unpack("<I", file.read(4))
            at += 8 + length
    if at > size:
        raise ValueError(f"its chunks reach to byte {at} of {size}")


def _declared_off(path: Path, limits: MediaLimits) -> None:
    with path.open("rb") as file:
        words = file.read(4096).removeprefix(b"\xef\xbb\xbf").removeprefix(b"OFF").split()
    if words and words[0].isdigit():
        limits.check(path, points=int(words[0]))
