"""Rotations, Euler angles and rigid warping: the only home of axis conventions.

Arrays are indexed (z, y, x); vectors and rotation matrices are in xyz. A rotation ``A`` takes the reference to the
particle: ``x_particle = A @ x_reference + p``, about voxel ``n // 2`` of the box.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray
    from torch import Generator, Tensor

    Floats = NDArray[np.float64]


def euler_to_matrix(angles: ArrayLike) -> Floats:
    """Return RELION's ``A(rot, tilt, psi)``, reference -> particle.

    Parameters
    ----------
    angles : (..., 3)
        rot, tilt and psi in degrees (intrinsic ZYZ).

    Returns
    -------
    (..., 3, 3)
        Matrices that left-multiply column vectors of xyz.
    """
    from scipy.spatial.transform import Rotation

    a = np.asarray(angles, dtype=np.float64)
    flat = Rotation.from_euler("ZYZ", a.reshape(-1, 3), degrees=True).inv().as_matrix()
    return flat.reshape(*a.shape, 3)


def matrix_to_euler(matrices: ArrayLike) -> Floats:
    """Return rot, tilt and psi in degrees, the inverse of `euler_to_matrix`.

    At tilt 0 or 180 degrees only rot + psi (or rot - psi) is defined; psi is then 0.

    Parameters
    ----------
    matrices : (..., 3, 3)

    Returns
    -------
    (..., 3)
    """
    import warnings

    from scipy.spatial.transform import Rotation

    m = np.asarray(matrices, dtype=np.float64)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Gimbal lock")  # told in the docstring; the matrix is still exact
        angles = Rotation.from_matrix(m.reshape(-1, 3, 3)).inv().as_euler("ZYZ", degrees=True)
    return angles.reshape(*m.shape[:-2], 3)


def xyz_to_zyx(vectors: ArrayLike) -> NDArray[Any]:
    """Reverse the last axis, (..., 3): xyz vectors to array order; its own inverse."""
    return np.asarray(vectors)[..., ::-1]


def random_rotations(count: int, rng: np.random.Generator) -> Floats:
    """Return (count, 3, 3) rotations, uniform on SO(3)."""
    from scipy.spatial.transform import Rotation

    quaternions = rng.standard_normal((count, 4))
    return Rotation.from_quat(quaternions).as_matrix()


def geodesic_angle(a: ArrayLike, b: ArrayLike) -> Floats:
    """Return the angle in degrees between rotations (..., 3, 3), broadcast against each other."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    trace = np.einsum("...ij,...ij->...", a, b)
    return np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1)))


def rotation_grid(spacing: float) -> Floats:
    """Return (m, 3, 3) rotations that cover SO(3) evenly, neighbours about `spacing` degrees apart.

    A Fibonacci sphere of directions times evenly spaced in-plane angles.
    """
    step = np.radians(spacing)
    directions = max(int(np.ceil(4 * np.pi / step**2)), 12)
    turns = max(int(np.ceil(2 * np.pi / step)), 1)
    k = np.arange(directions) + 0.5
    tilt = np.degrees(np.arccos(1 - 2 * k / directions))
    rot = np.degrees(np.pi * (1 + np.sqrt(5)) * k) % 360
    psi = np.arange(turns) * (360 / turns)
    angles = np.stack(
        [np.repeat(rot, turns), np.repeat(tilt, turns), (np.tile(psi, directions) - np.repeat(rot, turns)) % 360],
        axis=-1,
    )
    return euler_to_matrix(angles)


def symmetry_matrices(symmetry: str) -> Floats:
    """Return the (k, 3, 3) rotations of a point group: "C1", "C7", "D7", "T", "O", "I"; axis along z.

    "C7:x" or "C7:0.1,0.2,0.97" puts the main axis elsewhere (xyz).
    """
    from scipy.spatial.transform import Rotation

    group, _, axis_text = symmetry.partition(":")
    try:
        matrices = Rotation.create_group(group.upper(), axis="Z").as_matrix()
        named = {"": (0.0, 0.0, 1.0), "z": (0.0, 0.0, 1.0), "y": (0.0, 1.0, 0.0), "x": (1.0, 0.0, 0.0)}
        axis = np.array(named.get(axis_text.lower()) or [float(v) for v in axis_text.split(",")], dtype=np.float64)
        if axis.shape != (3,) or not 0 < np.linalg.norm(axis) < np.inf:
            raise ValueError(axis_text)
    except ValueError as error:
        from napari_disentangle.errors import InputError

        raise InputError(
            f'"{symmetry}" is not a symmetry; write C7, D7, T, O or I, with an axis if it is not z, as in "C7:x".'
        ) from error
    turn = (
        Rotation.align_vectors([axis], [[0.0, 0.0, 1.0]])[0].as_matrix() if not np.allclose(axis[:2], 0) else np.eye(3)
    )
    return turn @ matrices @ turn.T


def rotation_from_6d(vectors: Tensor) -> Tensor:
    """Return rotations from six free numbers each (Zhou et al. 2019, "On the continuity of rotation representations").

    Parameters
    ----------
    vectors : (..., 6)
        Two 3-vectors, orthonormalised by Gram and Schmidt.

    Returns
    -------
    (..., 3, 3)
    """
    import torch
    from torch.nn.functional import normalize

    a, b = vectors[..., :3], vectors[..., 3:]
    first = normalize(a, dim=-1)
    second = normalize(b - (first * b).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def rotation_from_vector(vectors: Tensor) -> Tensor:
    """Return (..., 3, 3) rotations by ``|v|`` radians about ``v`` (..., 3), xyz, by Rodrigues' formula; smooth at 0."""
    import torch

    angle = (vectors.square().sum(-1) + 1e-12).sqrt()[..., None, None]
    zero = torch.zeros_like(vectors[..., 0])
    x, y, z = vectors.unbind(-1)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).reshape(*vectors.shape[:-1], 3, 3)
    half = (angle / 2).sin() / angle
    return torch.eye(3).to(vectors) + angle.sin() / angle * skew + 2 * half.square() * (skew @ skew)


def random_rotations_like(count: int, like: Tensor, generator: Generator | None = None) -> Tensor:
    """Return (count, 3, 3) rotations uniform on SO(3), on the device of `like`, drawn from a CPU `generator`."""
    import torch
    from torch.nn.functional import normalize

    q = normalize(torch.randn(count, 4, generator=generator), dim=-1).to(like)
    return quaternion_to_matrix(q)


def quaternion_to_matrix(q: Tensor) -> Tensor:
    """Return (..., 3, 3) from unit quaternions (..., 4) in the order w, x, y, z."""
    import torch

    w, x, y, z = q.unbind(-1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, -1).reshape(*q.shape[:-1], 3, 3)


def align_volumes(volumes: Tensor, rotations: Tensor, shifts: Tensor) -> Tensor:
    """Move particles to their reference: sample each at ``A x + p``.

    Parameters
    ----------
    volumes : (b, z, y, x)
    rotations : (b, 3, 3)
        ``A``, reference -> particle, in xyz.
    shifts : (b, 3)
        ``p`` in voxels, xyz.

    Returns
    -------
    (b, z, y, x)
        Trilinear; zero outside the box.
    """
    import torch
    import torch.nn.functional as F

    b, nz, ny, nx = volumes.shape
    size = torch.tensor([nx, ny, nz], device=volumes.device, dtype=volumes.dtype)
    centre = torch.tensor([nx // 2, ny // 2, nz // 2], device=volumes.device, dtype=volumes.dtype)
    axes = [torch.arange(k, device=volumes.device, dtype=volumes.dtype) - k // 2 for k in (nz, ny, nx)]
    z, y, x = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([x, y, z], -1).reshape(1, -1, 3)
    source = points @ rotations.transpose(1, 2) + shifts[:, None]
    grid = (2 * (source + centre) + 1) / size - 1
    return F.grid_sample(volumes[:, None], grid.reshape(b, nz, ny, nx, 3), align_corners=False)[:, 0]


def place_volumes(volumes: Tensor, rotations: Tensor, shifts: Tensor) -> Tensor:
    """Put references where their particles are: sample each at ``A^T (x - p)``, the inverse of `align_volumes`.

    Shapes and units as there.
    """
    inverse = rotations.transpose(1, 2)
    return align_volumes(volumes, inverse, -(inverse @ shifts[..., None])[..., 0])


def sample_images(images: Tensor, matrices: Tensor, shifts: Tensor) -> Tensor:
    """Sample images at ``M x + p``, about pixel n // 2.

    Parameters
    ----------
    images : (b, y, x) or (b, c, y, x)
    matrices : (b, 2, 2)
        ``M``, in xy.
    shifts : (b, 2)
        ``p`` in pixels, xy.

    Returns
    -------
    As `images`
        Bilinear; zero outside the image.
    """
    import torch
    import torch.nn.functional as F

    ny, nx = images.shape[-2:]
    size = torch.tensor([nx, ny], device=images.device, dtype=images.dtype)
    centre = torch.tensor([nx // 2, ny // 2], device=images.device, dtype=images.dtype)
    axes = [torch.arange(k, device=images.device, dtype=images.dtype) - k // 2 for k in (ny, nx)]
    y, x = torch.meshgrid(*axes, indexing="ij")
    points = torch.stack([x, y], -1).reshape(1, -1, 2)
    source = points @ matrices.transpose(1, 2) + shifts[:, None]
    grid = ((2 * (source + centre) + 1) / size - 1).reshape(-1, ny, nx, 2)
    coloured = images if images.ndim == 4 else images[:, None]
    return F.grid_sample(coloured, grid, align_corners=False).reshape(images.shape)
