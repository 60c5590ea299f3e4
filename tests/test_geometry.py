"""Rotations and rigid motions do what the conventions say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from napari_disentangle.errors import InputError
from napari_disentangle.geometry import (
    align_volumes,
    euler_to_matrix,
    geodesic_angle,
    matrix_to_euler,
    place_volumes,
    quaternion_to_matrix,
    random_rotations,
    random_rotations_like,
    rotation_from_6d,
    rotation_from_vector,
    rotation_grid,
    symmetry_matrices,
    xyz_to_zyx,
)

degrees = st.floats(-360, 360)
euler = st.tuples(degrees, degrees, degrees)


def blob(n: int, *, at: tuple[float, float, float] = (0, 0, 0), width: float = 1.6) -> torch.Tensor:
    """A Gaussian (1, n, n, n) at an xyz place from voxel n // 2."""
    axis = torch.arange(n) - n // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    distance = (x - at[0]) ** 2 + (y - at[1]) ** 2 + (z - at[2]) ** 2
    return torch.exp(-distance / (2 * width**2))[None]


def centre_of_mass(volume: torch.Tensor) -> np.ndarray:
    """In voxels from n // 2, xyz."""
    v = volume[0].double().numpy()
    axes = np.indices(v.shape) - v.shape[0] // 2
    return np.array([(a * v).sum() / v.sum() for a in axes[::-1]])


class TestEuler:
    @given(euler)
    @settings(deadline=None, max_examples=100)
    def test_angles_and_back_are_the_same_rotation(self, angles):
        matrix = euler_to_matrix(angles)
        np.testing.assert_allclose(euler_to_matrix(matrix_to_euler(matrix)), matrix, atol=1e-6)

    @given(st.floats(-179, 179), st.floats(1, 179), st.floats(-179, 179))
    @settings(deadline=None, max_examples=100)
    def test_matrix_and_back_are_the_same_angles_away_from_the_poles(self, rot, tilt, psi):
        np.testing.assert_allclose(matrix_to_euler(euler_to_matrix((rot, tilt, psi))), (rot, tilt, psi), atol=1e-6)

    @pytest.mark.parametrize("tilt", [0, 180])
    def test_at_the_poles_psi_is_0_and_nothing_warns(self, tilt):
        matrix = euler_to_matrix((30, tilt, 40))
        angles = matrix_to_euler(matrix)
        assert angles[2] == pytest.approx(0)
        np.testing.assert_allclose(euler_to_matrix(angles), matrix, atol=1e-9)

    def test_it_is_relions_matrix(self):
        # RELION's Euler_angles2matrix, written out: A takes the reference to the particle
        rot, tilt, psi = np.radians([20.0, 50.0, -70.0])
        ca, cb, cg, sa, sb, sg = *np.cos([rot, tilt, psi]), *np.sin([rot, tilt, psi])
        cc, cs, sc, ss = cb * ca, cb * sa, sb * ca, sb * sa
        expected = [
            [cg * cc - sg * sa, cg * cs + sg * ca, -cg * sb],
            [-sg * cc - cg * sa, -sg * cs + cg * ca, sg * sb],
            [sc, ss, cb],
        ]
        np.testing.assert_allclose(euler_to_matrix((20, 50, -70)), expected, atol=1e-12)

    def test_any_number_of_leading_axes(self):
        assert euler_to_matrix(np.zeros((2, 0, 3))).shape == (2, 0, 3, 3)
        assert matrix_to_euler(np.tile(np.eye(3), (2, 5, 1, 1))).shape == (2, 5, 3)

    @given(euler, euler)
    @settings(deadline=None, max_examples=50)
    def test_the_product_of_two_rotations_is_one_after_the_other(self, a, b):
        vector = np.array([0.3, -1, 2])
        first, second = euler_to_matrix(a), euler_to_matrix(b)
        both = euler_to_matrix(matrix_to_euler(second @ first))
        np.testing.assert_allclose(both @ vector, second @ (first @ vector), atol=1e-6)


class TestRotations:
    def test_random_ones_are_rotations_and_uniform(self):
        matrices = random_rotations(4000, np.random.default_rng(0))
        np.testing.assert_allclose(matrices @ matrices.transpose(0, 2, 1), np.tile(np.eye(3), (4000, 1, 1)), atol=1e-9)
        assert np.linalg.det(matrices).min() > 0
        np.testing.assert_allclose(matrices.mean(0), 0, atol=0.04)
        # uniform on SO(3): the mean angle from anything is pi / 2 + 2 / pi
        assert geodesic_angle(matrices, np.eye(3)).mean() == pytest.approx(126.5, abs=2)

    def test_torchs_are_as_uniform_and_seeded(self):
        like = torch.zeros(1)
        a, b = (random_rotations_like(4000, like, torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(a, b)
        assert geodesic_angle(a.numpy(), np.eye(3)).mean() == pytest.approx(126.5, abs=2)

    @given(st.lists(st.floats(-5, 5), min_size=6, max_size=6))
    @settings(deadline=None, max_examples=50)
    def test_six_numbers_give_a_rotation(self, numbers):
        vectors = torch.tensor([numbers], dtype=torch.float64)
        a, b = vectors[0, :3], vectors[0, 3:]
        if a.norm() < 1e-2 or torch.linalg.cross(a, b).norm() < 1e-2 * max(1.0, float(a.norm() * b.norm())):
            return
        matrix = rotation_from_6d(vectors)[0]
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-6)
        assert torch.linalg.det(matrix) == pytest.approx(1)
        np.testing.assert_allclose(matrix[:, 0], a / a.norm(), atol=1e-6)

    def test_a_vector_gives_the_rotation_about_it(self):
        vectors = np.random.default_rng(0).normal(0, 1, (5, 4, 3))
        vectors[0] = 0
        vectors[1] *= 1e-4
        about = torch.tensor(vectors, requires_grad=True)
        turned = rotation_from_vector(about)
        expected = Rotation.from_rotvec(vectors.reshape(-1, 3)).as_matrix().reshape(5, 4, 3, 3)
        np.testing.assert_allclose(turned.detach(), expected, atol=1e-11)
        turned[..., 0, 1].sum().backward()
        np.testing.assert_allclose(about.grad[0], np.tile([0, 0, -1], (4, 1)), atol=1e-5)  # at 0 it is smooth

    def test_a_quarter_turn_about_z_takes_x_to_y(self):
        half = np.sqrt(0.5)
        matrix = quaternion_to_matrix(torch.tensor([half, 0, 0, half], dtype=torch.float32))
        np.testing.assert_allclose(matrix @ torch.tensor([1.0, 0, 0]), [0, 1, 0], atol=1e-6)

    def test_geodesic_angle(self):
        assert geodesic_angle(np.eye(3), euler_to_matrix((0, 37, 0))) == pytest.approx(37)
        assert geodesic_angle(euler_to_matrix((180, 0, 0)), np.eye(3)) == pytest.approx(180)

    def test_a_grid_leaves_no_hole(self):
        grid = rotation_grid(30)
        probes = random_rotations(200, np.random.default_rng(1))
        nearest = geodesic_angle(probes[:, None], grid[None]).min(1)
        assert nearest.max() < 30
        assert len(grid) < 3000

    def test_xyz_and_zyx_reverse_each_other(self):
        np.testing.assert_array_equal(xyz_to_zyx([[1, 2, 3]]), [[3, 2, 1]])


class TestSymmetry:
    @pytest.mark.parametrize(("name", "order"), [("C1", 1), ("C7", 7), ("d7", 14), ("T", 12), ("O", 24), ("I", 60)])
    def test_it_is_a_group(self, name, order):
        matrices = symmetry_matrices(name)
        assert len(matrices) == order
        products = (matrices[:, None] @ matrices[None]).reshape(-1, 1, 3, 3)
        assert geodesic_angle(products, matrices[None]).min(1).max() < 1e-3

    @pytest.mark.parametrize(
        ("name", "axis"), [("C3", (0, 0, 1)), ("C3:x", (1, 0, 0)), ("C3:1,1,0", (1, 1, 0)), ("C3:0,0,-2", (0, 0, 1))]
    )
    def test_its_axis_stays_where_it_is(self, name, axis):
        for matrix in symmetry_matrices(name):
            np.testing.assert_allclose(matrix @ axis, axis, atol=1e-9)

    @pytest.mark.parametrize("name", ["", "C", "C0", "C-2", "banana", "C7:w", "C7:0,0,0", "C7:1,2", "C7:nan,0,1"])
    def test_what_is_none_is_told(self, name):
        with pytest.raises(InputError, match="is not a symmetry"):
            symmetry_matrices(name)


class TestWarping:
    def test_a_particle_is_sampled_at_a_x_plus_p(self):
        rotation = torch.tensor(euler_to_matrix((20, 40, 60)))[None].float()
        shift = torch.tensor([[1.5, -0.5, 2.0]])
        at = rotation[0] @ torch.tensor([3.0, 0, 1]) + shift[0]
        aligned = align_volumes(blob(24, at=tuple(at.tolist())), rotation, shift)
        np.testing.assert_allclose(centre_of_mass(aligned), [3, 0, 1], atol=0.05)

    def test_placing_puts_the_reference_where_the_pose_says(self):
        rotation = torch.tensor(euler_to_matrix((20, 40, 60)))[None].float()
        shift = torch.tensor([[1.5, -0.5, 2.0]])
        placed = place_volumes(blob(24, at=(3, 0, 1)), rotation, shift)
        np.testing.assert_allclose(
            centre_of_mass(placed), rotation[0] @ torch.tensor([3.0, 0, 1]) + shift[0], atol=0.05
        )

    @pytest.mark.parametrize("n", [15, 16])
    def test_aligning_undoes_placing(self, n):
        rng = np.random.default_rng(2)
        volumes = blob(n, at=(2, -1, 1), width=1.8).repeat(5, 1, 1, 1)
        rotations = torch.tensor(random_rotations(5, rng)).float()
        shifts = torch.tensor(rng.uniform(-1, 1, (5, 3))).float()
        back = align_volumes(place_volumes(volumes, rotations, shifts), rotations, shifts)
        assert np.corrcoef(back.flatten(), volumes.flatten())[0, 1] > 0.985

    @pytest.mark.parametrize("shape", [(8, 8, 8), (9, 9, 9), (6, 8, 10)])
    def test_the_centre_is_voxel_n_over_2(self, shape):
        volume = torch.zeros(1, *shape)
        volume[0, shape[0] // 2, shape[1] // 2, shape[2] // 2] = 1
        turned = align_volumes(volume, torch.tensor(euler_to_matrix([(33, 44, 55)])).float(), torch.zeros(1, 3))
        assert turned.argmax() == volume.argmax()
        assert turned.max() == pytest.approx(1, abs=1e-5)

    def test_the_identity_changes_nothing_and_whole_voxels_only_move(self):
        volume = torch.randn(1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
        same = torch.eye(3)[None]
        np.testing.assert_allclose(align_volumes(volume, same, torch.zeros(1, 3)), volume, atol=1e-5)
        moved = align_volumes(volume, same, torch.tensor([[1.0, 0, 0]]))  # x is the last axis
        np.testing.assert_allclose(moved[..., :-1], volume[..., 1:], atol=1e-5)
        assert moved[..., -1].abs().max() < 1e-4
