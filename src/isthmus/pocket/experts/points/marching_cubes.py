"""The tables of marching cubes, which a Shap-E renderer stores among its weights.

Source: Lorensen and Cline, 1987; corners and edges are numbered as in diffusers' ``MeshDecoder``. The tables are
computed: on each face of a cube the surface separates runs of inside corners, and the lines of all faces form loops.
"""

from __future__ import annotations

from itertools import pairwise, product

import torch
from torch import Tensor

CASES = 256
MOST = 5
"""The most triangles in one cube."""

# Corners are numbered x + 2 y + 4 z. Faces list theirs anticlockwise, as seen from outside the cube.
_FACES = ((0, 4, 6, 2), (1, 3, 7, 5), (0, 1, 5, 4), (2, 6, 7, 3), (0, 2, 3, 1), (4, 5, 7, 6))


def _edge(first: int, second: int) -> int:
    """The number of the edge between two neighbouring corners: along x 0 to 3, along y 4 to 7, along z 8 to 11."""
    axis = (first ^ second).bit_length() - 1
    low = min(first, second)
    others = [(low >> other) & 1 for other in range(3) if other != axis]
    return 4 * axis + others[0] + 2 * others[1]


def loops(case: int) -> list[list[int]]:
    """The loops in which the surface intersects a cube's faces, as ordered edges; bit c of ``case``: c is inside.

    Diagonally opposite inside corners of a face are always separated, in both adjacent cubes, so that neighbouring
    cubes always match.
    """
    after: dict[int, int] = {}
    for face in _FACES:
        signs = [(case >> corner) & 1 for corner in face]
        for start in range(4):
            if signs[start] and not signs[start - 1]:
                end = start
                while signs[(end + 1) % 4]:
                    end += 1
                entered = _edge(face[start - 1], face[start])
                after[entered] = _edge(face[end % 4], face[(end + 1) % 4])
    found: list[list[int]] = []
    while after:
        first, edge = after.popitem()
        loop = [first]
        while edge != first:
            loop.append(edge)
            edge = after.pop(edge)
        found.append(loop)
    return found


def tables() -> tuple[Tensor, Tensor]:
    """``cases`` (256, 5, 3) int64, the edges of each case's triangles, and ``masks`` (256, 5), which of them exist.

    Triangles are anticlockwise as seen from outside the surface.
    """
    cases = torch.zeros(CASES, MOST, 3, dtype=torch.long)
    masks = torch.zeros(CASES, MOST, dtype=torch.bool)
    for case in range(CASES):
        triangles = [(loop[0], *pair) for loop in loops(case) for pair in pairwise(loop[1:])]
        for place, triangle in enumerate(triangles):
            cases[case, place] = torch.tensor(triangle)
            masks[case, place] = True
    return cases, masks


def corners() -> list[tuple[int, int, int]]:
    """(x, y, z) of each corner, by its number."""
    return [(x, y, z) for z, y, x in product((0, 1), repeat=3)]
