"""info, simulate and extract as a person uses them, with good files and with bad ones."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import mrcfile
import numpy as np
import pytest

from napari_disentangle import io
from napari_disentangle.cli import main
from napari_disentangle.sample import MAPS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated tomogram of a few particles, with its lists."""
    out = tmp_path_factory.mktemp("simulated") / "tomogram"
    size = ["--size", "40,80,80", "--count", "6", "--wedge", "60", "--snr", "1"]
    assert main(["simulate", "tomogram", str(MAPS), str(out), *size]) == 0
    return out


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., str]:
    """Run a command that must fail with one sentence and leave nothing behind; return the sentence."""

    def run(*arguments: object) -> str:
        before = sorted(tmp_path.rglob("*"))
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert "mistake in napari-disentangle" not in err
        assert sorted(tmp_path.rglob("*")) == before
        return err

    return run


def test_simulate_stack(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["simulate", "stack", str(MAPS), str(tmp_path / "out"), "--per", "2"]) == 0
    particles = io.read_particles(tmp_path / "out" / "particles.star")
    assert f"{len(particles)} particles" in capsys.readouterr().out
    assert len(particles) == 2 * len(list(MAPS.glob("*.mrc")))


def test_info_tells_people_what_was_understood(tomogram: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["info", str(tomogram / "optimisation_set.star"), str(tomogram / "tomogram.mrc")]) == 0
    out, err = capsys.readouterr()
    assert "6 positions" in out
    assert "80" in out
    assert err == ""


def test_info_json_is_nothing_but_json(tomogram: Path, capsys: pytest.CaptureFixture[str]):
    files = [str(tomogram / name) for name in ("optimisation_set.star", "tomogram.mrc", "particles_relion4.star")]
    assert main(["info", *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["schema_version"] == 1
    assert [one["path"] for one in told["files"]] == files
    assert told["files"][0]["particles"] == 6
    assert told["files"][0]["tomograms"][0]["tilt_range"] == pytest.approx([-60, 60])


def test_extract_passes_every_option_on(tomogram: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    options = ["--box", "12", "--bin", "2.5", "--invert", "--no-normalise", "--tilt-range", "-50,40"]
    assert main(["extract", str(tomogram / "optimisation_set.star"), str(tmp_path / "out"), *options]) == 0
    record = json.loads((tmp_path / "out" / "extraction.json").read_text())
    assert (record["box"], record["bin"], record["invert"], record["normalise"]) == (12, 2.5, True, False)
    assert record["tomograms"][0]["tilt_range"] == [-50, 40]
    assert "6 boxes of 12 voxels at 25 A" in capsys.readouterr().out
    assert io.read_particles(tmp_path / "out").volumes is not None


def test_extract_does_not_overwrite_unless_told(tomogram: Path, tmp_path: Path, refused: Callable[..., str]):
    command = ["extract", str(tomogram / "optimisation_set.star"), str(tmp_path / "out"), "--box", "16"]
    assert main(command) == 0
    assert "--overwrite" in refused(*command)
    assert main([*command, "--overwrite"]) == 0


def test_no_such_file(refused: Callable[..., str], tmp_path: Path):
    assert "absent.star" in refused("info", tmp_path / "absent.star")
    assert "absent.star" in refused("extract", tmp_path / "absent.star", tmp_path / "out", "--box", 16)


def test_a_truncated_map(refused: Callable[..., str], tomogram: Path, tmp_path: Path):
    cut = tmp_path / "cut.mrc"
    cut.write_bytes((tomogram / "tomogram.mrc").read_bytes()[:5000])
    assert "truncated" in refused("info", cut)
    assert "truncated" in refused(
        "extract", tomogram / "particles_relion4.star", tmp_path / "out", "--box", 16, "--tomogram", cut
    )


def test_a_foreign_file(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "picture.mrc").write_bytes(b"\x89PNG" * 2000)
    (tmp_path / "words.star").write_text("not a list\n")
    assert "picture.mrc" in refused("info", tmp_path / "picture.mrc")
    assert "words.star" in refused("info", tmp_path / "words.star")


def test_an_empty_list(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "empty.star").write_text("data_particles\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n")
    assert "empty.star" in refused("extract", tmp_path / "empty.star", tmp_path / "out", "--box", 16)


def test_missing_columns(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "few.star").write_text("data_particles\n\nloop_\n_rlnCoordinateX #1\n_rlnCoordinateY #2\n1 2\n")
    assert "rlnCoordinateZ" in refused("extract", tmp_path / "few.star", tmp_path / "out", "--box", 16)


def test_every_box_outside(refused: Callable[..., str], tomogram: Path, tmp_path: Path):
    star = tmp_path / "far.star"
    columns = "".join(f"_rlnCoordinate{axis} #{k}\n" for k, axis in enumerate("XYZ", 1))
    star.write_text(f"data_particles\n\nloop_\n{columns}9000 9000 9000\n8000 8000 8000\n")
    for edge in ("refuse", "skip", "pad"):
        sentence = refused(
            "extract", star, tmp_path / "out", "--box", 16, "--tomogram", tomogram / "tomogram.mrc", "--edge", edge
        )
        assert "outside" in sentence


def test_no_voxel_size_is_asked_for(refused: Callable[..., str], tmp_path: Path):
    blank = tmp_path / "blank.mrc"
    with mrcfile.new(blank) as file:
        file.set_data(np.random.default_rng(0).standard_normal((40, 80, 80)).astype(np.float32))
    star = tmp_path / "corner.star"
    columns = "".join(f"_rlnCoordinate{axis} #{k}\n" for k, axis in enumerate("XYZ", 1))
    star.write_text(f"data_particles\n\nloop_\n{columns}40 40 20\n30 30 20\n")
    assert "--voxel-size" in refused("extract", star, tmp_path / "out", "--box", 16, "--tomogram", blank)
    command = [
        "extract",
        str(star),
        str(tmp_path / "out"),
        "--box",
        "16",
        "--tomogram",
        str(blank),
        "--voxel-size",
        "8",
    ]
    assert main(command) == 0


def test_sizes_that_disagree(refused: Callable[..., str], tomogram: Path, tmp_path: Path):
    text = (tomogram / "tomograms.star").read_text()
    listed = tmp_path / "tomograms.star"
    listed.write_text(text.replace(" 40", " 52", 1) if " 40" in text else text.replace("\t40", "\t52", 1))
    (tmp_path / "tomogram.mrc").symlink_to(tomogram / "tomogram.mrc")
    sentence = refused("extract", tomogram / "particles.star", tmp_path / "out", "--box", 16, "--tomograms", listed)
    assert "--size-from" in sentence


def test_voxels_that_are_not_numbers(refused: Callable[..., str], tomogram: Path, tmp_path: Path):
    with mrcfile.open(tomogram / "tomogram.mrc") as file:
        data = file.data.copy()
    truth = np.genfromtxt(tomogram / "truth.csv", delimiter=",", names=True, dtype=None, encoding="utf-8")
    data[int(truth["z"][2]), int(truth["y"][2]), int(truth["x"][2])] = np.nan
    broken = tmp_path / "nan.mrc"
    with mrcfile.new(broken) as file:
        with pytest.warns(RuntimeWarning, match="NaN"):
            file.set_data(data)
        file.voxel_size = 10
    sentence = refused(
        "extract", tomogram / "particles_relion4.star", tmp_path / "out", "--box", 8, "--tomogram", broken
    )
    assert "2" in sentence
    assert "not numbers" in sentence


def test_an_output_below_a_file(refused: Callable[..., str], tomogram: Path, tmp_path: Path):
    (tmp_path / "file").write_text("")
    sentence = refused("extract", tomogram / "optimisation_set.star", tmp_path / "file" / "out", "--box", 16)
    assert "file" in sentence
    assert "file" in refused("simulate", "stack", MAPS, tmp_path / "file" / "out", "--per", 1)
