"""The simulator: labels, conventions, wedge and noise are what is said of them."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import torch

from napari_disentangle.errors import InputError
from napari_disentangle.fourier import wedge_mask
from napari_disentangle.geometry import align_volumes, euler_to_matrix
from napari_disentangle.io.star import StarFile
from napari_disentangle.sample import MAPS
from napari_disentangle.simulate import simulate_stack, simulate_tomogram
from napari_disentangle.simulate.microscope import contrast_transfer

if TYPE_CHECKING:
    from pathlib import Path

SHIFTS = ("shift_x", "shift_y", "shift_z")


def read(path: Path) -> np.ndarray:
    with mrcfile.open(path) as file:
        return file.data.astype(np.float32)


def truth_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "truth.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def poses(truth: list[dict[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    """Rotations (n, 3, 3) and shifts (n, 3) in voxels."""
    angles = [[float(row[k]) for k in ("rot", "tilt", "psi")] for row in truth]
    return euler_to_matrix(angles), np.array([[float(row[k]) for k in SHIFTS] for row in truth])


def cut(volume: np.ndarray, truth: list[dict[str, str]], box: int = 32) -> np.ndarray:
    """Boxes around the whole voxels that a tomogram's truth gives."""
    places = [[int(float(row[k])) - box // 2 for k in "zyx"] for row in truth]
    return np.stack([volume[z : z + box, y : y + box, x : x + box] for z, y, x in places])


def match(boxes: np.ndarray, truth: list[dict[str, str]], maps: Path, *, sign: int = 1) -> np.ndarray:
    """Correlation (n,) of boxes, aligned by the truth, with their maps, in a sphere of 12 voxels."""
    rotations, shifts = poses(truth)
    aligned = align_volumes(
        torch.from_numpy(boxes), torch.from_numpy(rotations).float(), torch.from_numpy(sign * shifts).float()
    ).numpy()
    axis = np.arange(32) - 16
    sphere = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2 < 12**2
    references = {path.stem: read(path)[sphere] for path in maps.glob("*.mrc")}
    pairs = zip(aligned[:, sphere], truth, strict=True)
    return np.array([np.corrcoef(box, references[f"{row['identity']}_{row['state']}"])[0, 1] for box, row in pairs])


@pytest.fixture(scope="module")
def clean_stack(tmp_path_factory) -> Path:
    """A stack at SNR 100 without a contrast transfer function."""
    return simulate_stack(MAPS, tmp_path_factory.mktemp("s") / "stack", per=8, snr=100, defocus=0, seed=1).folder


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory) -> Path:
    """A tomogram at SNR 100, nothing missing."""
    out = tmp_path_factory.mktemp("t") / "tomogram"
    return simulate_tomogram(MAPS, out, count=20, size=(48, 160, 128), snr=100, seed=2).folder


class TestStack:
    def test_every_map_has_as_many_particles_as_asked_for(self, clean_stack):
        truth = truth_of(clean_stack)
        counts = Counter((row["identity"], row["state"]) for row in truth)
        assert set(counts.values()) == {8}
        assert {"_".join(k) for k in counts} == {p.stem for p in MAPS.glob("*.mrc")}
        assert [int(row["particle"]) for row in truth] == list(range(48))
        boxes = read(clean_stack / "particles.mrcs")
        assert boxes.shape == (48, 32, 32, 32)
        assert boxes.mean(dtype=np.float64) == pytest.approx(0, abs=1e-5)
        assert boxes.std(dtype=np.float64) == pytest.approx(1, abs=1e-4)

    def test_files_tell_the_voxel_and_that_it_is_a_stack_of_volumes(self, tmp_path):
        done = simulate_stack(MAPS, tmp_path / "out", per=1, voxel=7.5, defocus=3e4, wedge=50, snr=0.2, seed=9)
        with mrcfile.open(done.stack, header_only=True) as file:
            assert file.header.ispg == 401
            assert float(file.voxel_size.x) == 7.5
        star = StarFile.read(done.particles)
        assert star.block("optics").numbers("rlnImagePixelSize") == [7.5]
        assert star.block("optics").column("rlnImageDimensionality") == ["3"]
        assert star.block("particles").column("rlnImageName")[1] == "000002@particles.mrcs"
        assert set(star.block("particles").numbers("rlnDefocusU")) == {3e4}
        meta = json.loads(done.meta.read_text())
        assert meta["schema_version"] == 1
        assert (meta["voxel"], meta["tilt_range"], meta["defocus"], meta["snr"], meta["seed"]) == (
            7.5,
            [-50, 50],
            3e4,
            0.2,
            9,
        )

    def test_aligned_by_the_truth_a_particle_is_its_map(self, clean_stack):
        truth = truth_of(clean_stack)
        boxes = read(clean_stack / "particles.mrcs")
        assert match(boxes, truth, MAPS).mean() > 0.975
        assert match(boxes, truth, MAPS, sign=-1).mean() < 0.9  # the shift has a sign

    def test_a_seed_repeats_everything(self, tmp_path):
        for name, seed in (("a", 4), ("b", 4), ("c", 5)):
            simulate_stack(MAPS, tmp_path / name, per=2, seed=seed, junk=0.2)
        for file in ("truth.csv", "particles.star", "meta.json"):
            assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
        a, b, c = (read(tmp_path / name / "particles.mrcs") for name in "abc")
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()

    def test_the_wedge_is_empty_and_nothing_else(self, tmp_path):
        simulate_stack(MAPS, tmp_path / "out", per=2, wedge=60)
        power = np.abs(np.fft.rfftn(read(tmp_path / "out/particles.mrcs"), axes=(1, 2, 3))) ** 2
        sampled = wedge_mask(32, (-60, 60))
        sampled[0, 0, 0] = False  # the mean was subtracted
        outside = ~sampled
        outside[0, 0, 0] = False
        assert power[:, outside].max() < 1e-8 * power[:, sampled].mean()
        assert (power[:, sampled].mean(0) > 1e-3 * power[:, sampled].mean()).all()

    @pytest.mark.parametrize("wedge", [90, 60])
    @pytest.mark.parametrize("snr", [1.0, 0.1])
    def test_the_snr_is_as_asked(self, tmp_path, snr, wedge):
        # the same seed without noise to speak of is the signal alone, up to one factor
        simulate_stack(MAPS, tmp_path / "noisy", per=4, snr=snr, wedge=wedge, seed=1)
        simulate_stack(MAPS, tmp_path / "signal", per=4, snr=1e6, wedge=wedge, seed=1)
        noisy, signal = (read(tmp_path / k / "particles.mrcs").astype(np.float64) for k in ("noisy", "signal"))
        scale = (noisy * signal).sum() / (signal**2).sum()
        noise = noisy - scale * signal
        measured = (scale * signal).var((1, 2, 3)).mean() / noise.var((1, 2, 3)).mean()
        assert measured == pytest.approx(snr, rel=0.03)

    def test_junk_has_no_particle(self, tmp_path):
        simulate_stack(MAPS, tmp_path / "out", per=10, snr=10, junk=0.3, seed=1)
        truth = truth_of(tmp_path / "out")
        junk = np.array([row["identity"] == "junk" for row in truth])
        assert junk.sum() == 18
        assert {row["state"] for row in truth if row["identity"] == "junk"} == {"junk"}
        middle = read(tmp_path / "out/particles.mrcs")[:, 13:19, 13:19, 13:19].mean((1, 2, 3))
        assert middle[junk].max() < middle[~junk].mean() / 3

    def test_the_largest_tilt_is_obeyed(self, tmp_path):
        simulate_stack(MAPS, tmp_path / "out", per=20, max_tilt=30)
        tilts = np.array([float(row["tilt"]) for row in truth_of(tmp_path / "out")])
        assert 20 < tilts.max() <= 30

    def test_shifts_reach_as_far_as_asked(self, clean_stack):
        _, shifts = poses(truth_of(clean_stack))
        assert 1.8 < np.abs(shifts).max() <= 2


class TestTomogram:
    def test_aligned_by_the_truth_a_particle_is_its_map(self, tmp_path):
        out = tmp_path / "out"
        simulate_tomogram(MAPS, out, count=10, size=(48, 128, 96), spacing=33, snr=100, defocus=0, shift=2.4)
        truth = truth_of(out)
        boxes = cut(read(out / "tomogram.mrc"), truth)
        assert match(boxes, truth, MAPS).mean() > 0.97
        assert match(boxes, truth, MAPS, sign=-1).mean() < 0.9

    def test_both_lists_give_the_places_of_the_truth(self, tomogram):
        truth = truth_of(tomogram)
        corner = np.array([[float(row[k]) for k in "xyz"] for row in truth])
        five = StarFile.read(tomogram / "particles.star").block("particles")
        four = StarFile.read(tomogram / "particles_relion4.star").block("particles")
        centred = np.stack([five.numbers(f"rlnCenteredCoordinate{k}Angst") for k in "XYZ"], 1)
        np.testing.assert_allclose(centred / 10 + np.array([128, 160, 48]) / 2, corner)
        np.testing.assert_allclose(np.stack([four.numbers(f"rlnCoordinate{k}") for k in "XYZ"], 1), corner)

    def test_particles_lie_apart_and_inside(self, tomogram):
        corner = np.array([[float(row[k]) for k in "xyz"] for row in truth_of(tomogram)])
        assert len(corner) == 20
        distance = np.linalg.norm(corner[:, None] - corner, axis=-1) + 1e3 * np.eye(len(corner))
        assert distance.min() > 24
        assert corner.min() >= 16
        assert (corner + 16 <= [128, 160, 48]).all()

    def test_fewer_particles_where_they_do_not_fit(self, tmp_path):
        done = simulate_tomogram(MAPS, tmp_path / "out", count=50, size=(40, 64, 64), seed=1)
        assert 1 <= done.count < 50
        assert len(truth_of(done.folder)) == done.count

    def test_the_tilt_series_tells_range_and_defocus(self, tmp_path):
        done = simulate_tomogram(MAPS, tmp_path / "out", count=3, size=(32, 64, 64), wedge=48, defocus=2e4, voxel=8)
        row = StarFile.read(done.tomograms).block("global")
        assert row.column("rlnTomoTiltSeriesStarFile") == ["tilt_series/sim_01.star"]
        assert [row.numbers(f"rlnTomoSize{k}")[0] for k in "XYZ"] == [64, 64, 32]
        series = StarFile.read(done.folder / "tilt_series/sim_01.star").block("sim_01")
        tilts = series.numbers("rlnTomoNominalStageTiltAngle")
        assert (tilts.min(), tilts.max()) == (-48, 48)
        np.testing.assert_allclose(np.diff(tilts), 3)
        assert set(series.numbers("rlnDefocusU")) == {2e4}
        optimisation_set = StarFile.read(done.optimisation_set).blocks[0]
        assert optimisation_set.column("rlnTomoParticlesFile") == ["particles.star"]
        assert optimisation_set.column("rlnTomoTomogramsFile") == ["tomograms.star"]
        with mrcfile.open(done.tomogram) as file:
            assert file.is_volume()
            assert float(file.voxel_size.z) == 8
            power = np.abs(np.fft.rfftn(file.data)) ** 2
        kx, kz = np.fft.rfftfreq(64), np.abs(np.fft.fftfreq(32))
        missing = np.broadcast_to(kz[:, None, None] > kx * np.tan(np.radians(48)) + 1e-6, power.shape)
        assert power[missing].max() < 1e-8 * power[~missing].mean()

    def test_the_snr_is_as_asked(self, tmp_path):
        for name, snr in (("noisy", 0.2), ("signal", 1e6)):
            simulate_tomogram(MAPS, tmp_path / name, count=15, size=(48, 128, 96), snr=snr, seed=1)
        truth = truth_of(tmp_path / "signal")
        noisy, signal = (read(tmp_path / k / "tomogram.mrc") for k in ("noisy", "signal"))
        assert cut(signal, truth).var((1, 2, 3)).mean() / (noisy - signal).var() == pytest.approx(0.2, rel=0.02)


class TestMicroscope:
    def test_protein_stays_bright_at_low_resolution(self):
        values = contrast_transfer(np.linspace(0, 1 / 50**2, 20), 5e4)
        assert values[0] == pytest.approx(0.07)
        assert (values > 0).all()

    def test_the_first_zero_is_where_the_phase_is_pi(self):
        # at 300 kV the wavelength is 0.0197 A; without Cs the first zero of -sin lies at 1 / sqrt(lambda dz)
        zero = 1 / (0.0197 * 5e4)
        below, above = contrast_transfer(np.array([zero * 0.9, zero * 1.05]), 5e4)
        assert below > 0 > above


class TestRefusals:
    @pytest.mark.parametrize(
        ("settings", "sentence"),
        [
            ({"snr": 0}, "SNR"), ({"wedge": 0}, "--wedge"), ({"wedge": 91}, "--wedge"), ({"voxel": 0}, "--voxel"),
            ({"max_tilt": 200}, "--max-tilt"), ({"shift": -1}, "shift"), ({"seed": -1}, "seed"), ({"per": 0}, "at least 1"),
            ({"junk": 1}, "junk"),
        ],
    )  # fmt: skip
    def test_settings_out_of_range(self, tmp_path, settings, sentence):
        with pytest.raises(InputError, match=sentence):
            simulate_stack(MAPS, tmp_path / "out", **settings)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("more", "sentence"),
        [({"size": (16, 64, 64)}, "--size"), ({"size": (64, 64)}, "three numbers"), ({"count": 0}, "at least 1")],
    )
    def test_tomograms_that_cannot_be(self, tmp_path, more, sentence):
        with pytest.raises(InputError, match=sentence):
            simulate_tomogram(MAPS, tmp_path / "out", **more)
        assert not list(tmp_path.iterdir())

    def test_no_maps(self, tmp_path):
        with pytest.raises(InputError, match=r"holds no \.mrc maps"):
            simulate_stack(tmp_path, tmp_path / "out")

    def test_maps_of_two_sizes(self, tmp_path):
        for n in (16, 20):
            with mrcfile.new(tmp_path / f"a_{n}.mrc") as file:
                file.set_data(np.zeros((n, n, n), np.float32))
        with pytest.raises(InputError, match=r"a_20\.mrc has shape"):
            simulate_stack(tmp_path, tmp_path / "out")

    def test_an_existing_folder(self, tmp_path):
        simulate_stack(MAPS, tmp_path / "out", per=1)
        with pytest.raises(InputError, match="--overwrite"):
            simulate_stack(MAPS, tmp_path / "out", per=1)
        assert simulate_stack(MAPS, tmp_path / "out", per=2, overwrite=True).count == 12


@pytest.mark.shared_data
class TestSharedTool:
    """Our conventions are those of the simulator that the project's figures are made with."""

    def run(self, shared_data: Path, kind: str, out: Path, *more: str) -> None:
        tool = shared_data.parent / "tools/simulate.py"
        if not tool.is_file():
            pytest.skip(f"needs {tool}")
        subprocess.run(
            [sys.executable, str(tool), kind, str(MAPS), str(out), "--snr", "100", "--defocus", "0", *more],
            check=True, capture_output=True,
        )  # fmt: skip

    def test_stacks_align_by_either_truth(self, shared_data, tmp_path):
        self.run(shared_data, "stack", tmp_path / "theirs", "--per", "4")
        simulate_stack(MAPS, tmp_path / "ours", per=4, snr=100, defocus=0)
        theirs, ours = (
            match(read(tmp_path / k / "particles.mrcs"), truth_of(tmp_path / k), MAPS).mean()
            for k in ("theirs", "ours")
        )
        assert theirs == pytest.approx(ours, abs=0.01)
        assert theirs > 0.975
        for file in ("truth.csv", "particles.star"):
            assert (tmp_path / "ours" / file).exists()
        assert truth_of(tmp_path / "ours")[0].keys() == truth_of(tmp_path / "theirs")[0].keys()
        meta = [json.loads((tmp_path / k / "meta.json").read_text()) for k in ("ours", "theirs")]
        assert meta[1].items() <= meta[0].items()

    def test_tomograms_align_by_either_truth(self, shared_data, tmp_path):
        self.run(
            shared_data, "tomogram", tmp_path / "theirs", "--count", "10", "--size", "48,128,96", "--spacing", "33"
        )
        simulate_tomogram(MAPS, tmp_path / "ours", count=10, size=(48, 128, 96), spacing=33, snr=100, defocus=0)
        for name in ("theirs", "ours"):
            truth = truth_of(tmp_path / name)
            assert match(cut(read(tmp_path / name / "tomogram.mrc"), truth), truth, MAPS).mean() > 0.97
        assert truth_of(tmp_path / "ours")[0].keys() == truth_of(tmp_path / "theirs")[0].keys()

    def test_the_transfer_functions_agree(self, shared_data, tmp_path):
        # a point-like map shows the transfer function itself
        point = np.zeros((32, 32, 32), np.float32)
        point[16, 16, 16] = 1
        (tmp_path / "maps").mkdir()
        with mrcfile.new(tmp_path / "maps/point_0.mrc") as file:
            file.set_data(point)
        tool = shared_data.parent / "tools/simulate.py"
        options = ["--snr", "1e9", "--per", "1", "--shift", "0", "--max-tilt", "0"]
        subprocess.run(
            [sys.executable, str(tool), "stack", str(tmp_path / "maps"), str(tmp_path / "theirs"), *options],
            check=True, capture_output=True,
        )  # fmt: skip
        simulate_stack(tmp_path / "maps", tmp_path / "ours", per=1, snr=1e9, shift=0, max_tilt=0)
        # turned in the xy plane, the point stays one along z
        powers = []
        for name in ("theirs", "ours"):
            spectrum = np.fft.rfftn(read(tmp_path / name / "particles.mrcs")[0])
            line = np.abs(spectrum[1:16, 0, 0])
            powers.append(line / np.linalg.norm(line))
        np.testing.assert_allclose(powers[1], powers[0], atol=1e-3)
