"""A triangle mesh with colours -> points on its surface, at random and uniform by area."""

from __future__ import annotations

import torch
from torch import Tensor


def surface_points(
    vertices: Tensor, faces: Tensor, colours: Tensor, count: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """``count`` positions on the surface, uniform by area, and colours interpolated from the triangles' corners.

    Args:
        vertices: (V, 3).
        faces: (F, 3) int64, indices of vertices.
        colours: (V, 3).
        count: number of points.
        generator: the random generator of positions, on the CPU.

    Returns:
        (count, 3) float32 and (count, 3) float32, both on the CPU.

    Raises:
        ValueError: the mesh has no area.
    """
    vertices, faces, colours = vertices.detach().cpu().double(), faces.cpu(), colours.detach().cpu().double()
    corners = vertices[faces]
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    if not float(areas.sum()) > 0:
        raise ValueError(f"mesh: found {len(faces)} triangles of no area; expected a surface to take points from")
    chosen = faces[torch.multinomial(areas, count, replacement=True, generator=generator)]
    first, second = torch.rand(2, count, generator=generator, dtype=torch.float64)
    # The square root makes positions uniform over a triangle (Osada et al., 2002, section 3.1).
    root = first.sqrt()
    weights = torch.stack([1 - root, root * (1 - second), root * second], dim=1)[..., None]
    return (weights * vertices[chosen]).sum(1).float(), (weights * colours[chosen]).sum(1).float()
