"""Extraction against simulated tomograms whose truth is known: axes, signs, binning and both RELION versions."""

from __future__ import annotations

import csv
import subprocess
import sys
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest
import torch

from napari_disentangle.fourier import fourier_crop
from napari_disentangle.geometry import align_volumes, euler_to_matrix
from napari_disentangle.io import read_particles
from napari_disentangle.io.extract import extract
from napari_disentangle.sample import MAPS
from napari_disentangle.simulate import simulate_tomogram

if TYPE_CHECKING:
    from pathlib import Path

SIZE = (48, 144, 128)
LISTS = ("particles.star", "particles_relion4.star")


@pytest.fixture(scope="module")
def simulated(tmp_path_factory) -> Path:
    """A tomogram at SNR 100 without missing wedge or contrast transfer function."""
    out = tmp_path_factory.mktemp("t") / "tomogram"
    return simulate_tomogram(MAPS, out, count=12, size=SIZE, spacing=33, snr=100, defocus=0, seed=3).folder


@pytest.fixture(scope="module")
def of_shared_tool(shared_data, tmp_path_factory) -> Path:
    """The same from the independent simulator."""
    tool, out = shared_data.parent / "tools/simulate.py", tmp_path_factory.mktemp("t") / "tomogram"
    if not tool.is_file():
        pytest.skip(f"needs {tool}")
    size = ",".join(str(n) for n in SIZE)
    options = ["--count", "12", "--size", size, "--spacing", "33", "--snr", "100", "--defocus", "0"]
    subprocess.run(
        [sys.executable, str(tool), "tomogram", str(MAPS), str(out), *options], check=True, capture_output=True
    )
    return out


def boxes_of(out: Path) -> np.ndarray:
    with mrcfile.open(out / "particles.mrcs") as file:
        return file.data.copy()


def match(boxes: np.ndarray, folder: Path, *, bin: float = 1.0) -> np.ndarray:
    """Correlation (n,) with their maps of boxes that were aligned by the truth, in a sphere of 120 A radius."""
    with (folder / "truth.csv").open(newline="") as file:
        truth = list(csv.DictReader(file))
    rotations = euler_to_matrix([[float(row[k]) for k in ("rot", "tilt", "psi")] for row in truth])
    shifts = np.array([[float(row[f"shift_{k}"]) for k in "xyz"] for row in truth]) / bin
    aligned = align_volumes(
        torch.from_numpy(boxes), torch.from_numpy(rotations).float(), torch.from_numpy(shifts).float()
    ).numpy()
    n = boxes.shape[-1]
    axis = np.arange(n) - n // 2
    sphere = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2 < (12 / bin) ** 2
    found = []
    for box, row in zip(aligned, truth, strict=True):
        with mrcfile.open(MAPS / f"{row['identity']}_{row['state']}.mrc") as file:
            reference = fourier_crop(file.data.astype(np.float32), n, step=bin)
        found.append(np.corrcoef(box[sphere], reference[sphere])[0, 1])
    return np.array(found)


def check_both_lists(folder: Path, out: Path) -> None:
    for name in LISTS:
        particles = read_particles(folder / name, tomograms=folder / "tomograms.star")
        for bin in (1.0, 1.37):
            extract(particles, out / f"{name}-{bin}", box=32 if bin == 1 else 20, bin=bin)
    for bin in (1.0, 1.37):
        np.testing.assert_array_equal(*(boxes_of(out / f"{name}-{bin}") for name in LISTS))
    assert match(boxes_of(out / f"{LISTS[0]}-1.0"), folder).mean() > 0.97


def test_boxes_match_their_maps_and_do_not_depend_on_the_list(simulated, tmp_path):
    check_both_lists(simulated, tmp_path)


@pytest.mark.shared_data
def test_so_do_those_of_the_shared_simulator(of_shared_tool, tmp_path):
    check_both_lists(of_shared_tool, tmp_path)


def test_binned_boxes_match_their_binned_maps(simulated, tmp_path):
    particles = read_particles(simulated / "optimisation_set.star")
    extract(particles, tmp_path / "out", box=16, bin=2)
    assert match(boxes_of(tmp_path / "out"), simulated, bin=2).mean() > 0.96
    extract(particles, tmp_path / "inverted", box=16, bin=2, invert=True)
    assert match(boxes_of(tmp_path / "inverted"), simulated, bin=2).mean() < -0.96


def test_an_extraction_read_back_knows_its_particles(simulated, tmp_path):
    original = simulated / "particles.star"
    particles = read_particles(simulated / "optimisation_set.star").subset(np.array([5, 2, 7]))
    moved = particles.positions + np.array([[1.3, -2.0, 4.9], [0, 0, 0], [-3.0, 0.5, 0]])
    from dataclasses import replace

    extract(replace(particles, positions=moved), tmp_path / "out", box=20)
    again = read_particles(tmp_path / "out")
    np.testing.assert_array_equal(again.ids, [5, 2, 7])
    assert again.text == original.read_text()
    assert (tmp_path / "out/original.star").read_bytes() == original.read_bytes()
    assert again.original == original
    assert again.voxel_size == 10
    np.testing.assert_allclose(again.positions, moved, atol=1e-4)
    assert again.volumes.shape == (3, 20, 20, 20)
    np.testing.assert_array_equal(again.volumes.read(np.arange(3)), boxes_of(tmp_path / "out"))
    assert again.tilt_ranges() is None
    assert [t.name for t in again.tomograms] == ["sim_01"]


@pytest.mark.shared_data
def test_a_real_project_whose_files_disagree_in_size(shared_data, tmp_path):
    """Its sizes are explained when it is read; told which one counts, it gives boxes."""
    from napari_disentangle.errors import InputError

    project = shared_data / "real/microtubules/relion_project"
    star = project / "Picks/job_picks/optimisation_set.star"
    with pytest.raises(InputError, match="TS_01"):
        read_particles(star)
    particles = read_particles(star, size_from="volume")
    record = extract(particles, tmp_path / "out", box=16, edge="skip", invert=True)
    assert len(record.ids) + len(record.dropped) == len(particles)
    assert boxes_of(tmp_path / "out").shape == (len(record.ids), 16, 16, 16)
    assert record.voxel_size == pytest.approx(10.52, rel=1e-4)
