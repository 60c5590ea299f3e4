"""Fourier cropping keeps the centre and the frequencies; the wedge is where a microscope leaves it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_disentangle.fourier import fourier_crop, low_passed, resampling_matrix, shell_index, wedge_mask
from napari_disentangle.geometry import euler_to_matrix


def fraction(mask: np.ndarray) -> float:
    """Of the whole spectrum, inside the largest sphere, where directions count alike."""
    n = mask.shape[0]
    twice = np.r_[1, np.full(n // 2 - 1, 2), 1]
    inside = (shell_index(n) < n // 2) * twice
    return float((mask * inside).sum() / inside.sum())


class TestCrop:
    @pytest.mark.parametrize("factor", [2, 3, 4])
    def test_below_nyquist_it_is_numpys_cropped_spectrum(self, factor):
        out = 8
        n = out * factor
        volume = np.random.default_rng(0).standard_normal((n, n, n)).astype(np.float32)
        small = fourier_crop(volume, out)
        at_centre = np.fft.ifftshift  # voxel n // 2 to the origin
        ours, theirs = np.fft.fftn(at_centre(small)), np.fft.fftn(at_centre(volume)) / factor**3
        k = np.r_[0 : out // 2, -out // 2 + 1 : 0]  # without Nyquist
        np.testing.assert_allclose(ours[np.ix_(k, k, k)], theirs[np.ix_(k, k, k)], atol=1e-4)

    @pytest.mark.parametrize("n", [7, 8])
    def test_to_the_same_size_it_changes_nothing(self, n):
        volume = np.random.default_rng(0).standard_normal((2, n, n, n)).astype(np.float32)
        np.testing.assert_allclose(fourier_crop(volume, n), volume, atol=1e-5)

    @given(st.integers(8, 24), st.integers(4, 24))
    @settings(deadline=None, max_examples=40)
    def test_the_centre_voxel_stays_the_centre(self, n, out):
        axis = np.arange(n) - n // 2
        r2 = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2
        volume = np.exp(-r2 / (2 * max(1.0, n / out) ** 2)).astype(np.float32)
        small = fourier_crop(volume, out)
        assert np.unravel_index(small.argmax(), small.shape) == (out // 2,) * 3

    @given(st.floats(1, 3), st.integers(6, 20))
    @settings(deadline=None, max_examples=40)
    def test_a_constant_stays_constant(self, step, out):
        np.testing.assert_allclose(resampling_matrix(24, out, step).sum(1), 1, atol=1e-9)

    def test_a_fractional_step_is_exact_in_its_voxel_size(self):
        n, step, out = 40, 2.5, 12
        x = np.arange(n) - n // 2
        waves = np.cos(2 * np.pi * 3 * x / n)  # three periods over the input
        coarse = resampling_matrix(n, out, step) @ waves
        np.testing.assert_allclose(coarse, np.cos(2 * np.pi * 3 * (np.arange(out) - out // 2) * step / n), atol=1e-9)

    def test_frequencies_that_the_output_cannot_hold_are_gone(self):
        n = 16
        x = np.arange(n) - n // 2
        np.testing.assert_allclose(resampling_matrix(n, 8, 2.0) @ np.cos(2 * np.pi * 6 * x / n), 0, atol=1e-9)

    def test_one_size_per_axis(self):
        assert fourier_crop(np.ones((2, 8, 12, 16), np.float32), 4).shape == (2, 4, 4, 4)


class TestWedge:
    def test_sixty_degrees_keep_two_thirds(self):
        assert fraction(wedge_mask(32, (-60, 60))) == pytest.approx(2 / 3, abs=0.04)

    @pytest.mark.parametrize("tilts", [(-90, 90), (0, 180 - 90), (-90, 0)])
    def test_the_plane_of_tilt_90_is_seen_by_a_series_that_reaches_it(self, tilts):
        mask = wedge_mask(16, tilts)
        assert mask[1, 0, 0]
        assert mask[-1, 0, 0]

    def test_nothing_is_missing_from_minus_90_to_90(self):
        assert wedge_mask(16, (-90, 90)).all()

    def test_tilt_axis_y_and_beam_z(self):
        mask = wedge_mask(16, (-60, 60))  # indices z, y, x
        assert mask[0, 0, 0]
        assert mask[0, 5, 0]  # along the tilt axis
        assert mask[0, 0, 5]
        assert not mask[5, 0, 0]  # along the beam
        assert not mask[5, 5, 0]

    def test_a_plane_of_tilt_is_kz_is_kx_tan_t(self):
        for tilt, seen in [(45, True), (57, True), (63, False), (-44, False)]:
            kx, kz = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
            n = 64
            at = (round(30 * kz), 0, round(30 * kx))
            assert wedge_mask(n, (-30, 60))[at] == seen, tilt

    def test_asymmetric_ranges_mirror(self):
        one, other = wedge_mask(17, (-40, 60)), wedge_mask(17, (-60, 40))
        flipped = np.roll(one[::-1], 1, axis=0)  # kz -> -kz
        np.testing.assert_array_equal(flipped, other)
        assert (one != other).any()

    def test_a_frame_turns_the_wedge_with_the_box(self):
        # a box turned by 90 degrees about y has its z axis along the tomogram's x: the beam is its x axis
        frame = euler_to_matrix((0, 90, 0))
        mask = wedge_mask(16, (-60, 60), frame)
        assert mask[5, 0, 0]
        assert not mask[0, 0, 5]
        assert mask[0, 5, 0]
        about_z = wedge_mask(16, (-60, 60), euler_to_matrix((90, 0, 0)))
        assert about_z[0, 5, 0]
        assert not about_z[5, 0, 5] or not about_z[3, 5, 0]  # the tilt axis is now along x
        np.testing.assert_array_equal(wedge_mask(16, (-60, 60), np.eye(3)), wedge_mask(16, (-60, 60)))

    def test_shells_count_from_the_origin(self):
        shell = shell_index(8)
        assert shell.shape == (8, 8, 5)
        assert (shell[0, 0, 0], shell[0, 0, 3], shell[-1, 0, 0], shell[1, 1, 1]) == (0, 3, 1, 2)


class TestLowPass:
    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize(("periods", "size"), [(4, 24), (3, 27)])
    def test_a_wave_of_the_resolution_falls_to_one_in_e(self, axis, periods, size):
        waves = np.cos(2 * np.pi * periods * np.arange(size) / size)
        volume = np.broadcast_to(np.expand_dims(waves, [k for k in range(3) if k != axis]), (size,) * 3)
        wavelength = 10.0 * size / periods  # A
        for resolution, left in (
            (wavelength, np.exp(-1)),
            (wavelength / 2, np.exp(-0.25)),
            (wavelength * 2, np.exp(-4)),
        ):
            found = low_passed(volume[None].astype(np.float32), 10.0, resolution)
            assert found.shape == (1, size, size, size)
            assert found.dtype == np.float32
            np.testing.assert_allclose(found[0], volume * left, atol=1e-5)

    def test_only_the_ratio_of_resolution_and_voxel_counts(self):
        noise = np.random.default_rng(0).standard_normal((2, 12, 12, 12)).astype(np.float32)
        np.testing.assert_allclose(low_passed(noise, 10, 30), low_passed(noise, 5, 15), atol=1e-6)

    @pytest.mark.parametrize("n", [15, 16])
    def test_nothing_moves_and_nothing_is_lost(self, n):
        volumes = np.zeros((2, n, n, n), np.float32)
        volumes[0, n // 2, n // 2 + 1, n // 2 - 2] = volumes[1, 3, 4, 5] = 1
        found = low_passed(volumes, 10, 40)
        np.testing.assert_allclose(found.sum((1, 2, 3)), 1, atol=1e-5)
        for before, after in zip(volumes, found, strict=True):
            assert np.argmax(after) == np.argmax(before)
            assert after.max() < 0.2

    def test_each_volume_stands_alone(self):
        noise = np.random.default_rng(0).standard_normal((3, 10, 10, 10)).astype(np.float32)
        one_by_one = np.concatenate([low_passed(volume[None], 10, 30) for volume in noise])
        np.testing.assert_allclose(low_passed(noise, 10, 30), one_by_one, atol=1e-6)
