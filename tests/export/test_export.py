"""What is exported: rows as they were, poses that mean what they say, averages that are whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from napari_disentangle import io
from napari_disentangle.errors import InputError
from napari_disentangle.export import export_selection, write_codes
from napari_disentangle.export.subset import pose_columns
from napari_disentangle.geometry import euler_to_matrix, random_rotations
from napari_disentangle.io.extract import extract
from napari_disentangle.io.mrc import write_volume, write_volume_stack
from napari_disentangle.io.star import StarFile
from napari_disentangle.models.base import Codes
from napari_disentangle.particles import ParticleSet, Pose
from napari_disentangle.recipe import InputSettings, Recipe
from napari_disentangle.run import Run
from napari_disentangle.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PIXEL = 4.0
COUNT = 6


def star(block: Mapping[str, np.ndarray]) -> str:
    head = "".join(f"_{label} #{k}\n" for k, label in enumerate(block, 1))
    rows = "".join(" ".join(str(v) for v in row) + "\n" for row in zip(*block.values(), strict=True))
    optics = f"data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnTomoTiltSeriesPixelSize #2\n1 {PIXEL:g}\n"
    return f"# version 50001\n\n{optics}\n# version 50001\n\ndata_particles\n\nloop_\n{head}{rows}"


def positions(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Columns of particles somewhere in the middle of a tomogram of 48 voxels."""
    columns = {f"rlnCoordinate{axis}": rng.uniform(20, 28, COUNT).round(3) for axis in "XYZ"}
    return {"rlnTomoName": np.array(["T"] * COUNT), **columns, "rlnOpticsGroup": np.ones(COUNT, int)}


def angles(names: tuple[str, ...], rng: np.random.Generator) -> dict[str, np.ndarray]:
    return dict(zip(names, rng.uniform(-90, 90, (3, COUNT)).round(3), strict=True))


def run_on(folder: Path, particles: ParticleSet, codes: Codes | None = None) -> Run:
    recipe = Recipe(input=InputSettings(particles=str(particles.path.absolute())))
    run = Run.create(folder, recipe, particles)
    if codes is not None:
        run.save_codes(codes)
    return run


def codes_with(particles: ParticleSet, rng: np.random.Generator) -> Codes:
    n = len(particles)
    pose = Pose(random_rotations(n, rng), rng.uniform(-9, 9, (n, 3)))
    content = rng.standard_normal((n, 2)).astype(np.float32)
    return Codes(particles.ids, content, np.zeros((n, 0), np.float32), pose, 1, "f" * 64)


@pytest.fixture
def extracted(tmp_path: Path):
    """Return a function from a list's columns to the boxes cut from a tomogram at its positions."""
    rng = np.random.default_rng(5)
    write_volume(tmp_path / "T.mrc", rng.standard_normal((48, 48, 48)).astype(np.float32), PIXEL)

    def cut(columns: Mapping[str, np.ndarray]) -> ParticleSet:
        (tmp_path / "list.star").write_text(star(columns))
        found = io.read_particles(tmp_path / "list.star", tomogram=tmp_path / "T.mrc")
        extract(found, tmp_path / "boxes", box=8, normalise=False)
        return io.read_particles(tmp_path / "boxes")

    return cut


def exported_pose(path: Path, tomogram: Path) -> ParticleSet:
    """Read an exported list, its own poses instead of those that it came with."""
    text = path.read_text()
    if "_disentangleAngleRot" in text:
        for label in ("AngleRot", "AngleTilt", "AnglePsi", "OriginXAngst", "OriginYAngst", "OriginZAngst"):
            text = text.replace(f"_rln{label} ", f"_old{label} ").replace(f"_disentangle{label} ", f"_rln{label} ")
    path.with_name("renamed.star").write_text(text)
    return io.read_particles(path.with_name("renamed.star"), tomogram=tomogram)


FRAME = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
ORIGINS = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")


@pytest.mark.parametrize("given", [(), (ANGLES,), (ORIGINS,), (FRAME, ANGLES), (FRAME, ANGLES, ORIGINS)])
def test_exported_poses_put_every_particle_where_the_model_did(extracted, tmp_path: Path, given: tuple):
    """Re-read by the importer, they give the model's rotation, at the box centre plus the model's shift."""
    rng = np.random.default_rng(1)
    columns = positions(rng)
    for names in given:
        columns |= angles(names, rng)
    if ORIGINS in given:
        columns |= dict(zip(ORIGINS, rng.uniform(-6, 6, (3, COUNT)).round(3), strict=True))
    particles = extracted(columns)
    codes = codes_with(particles, rng)
    run = run_on(tmp_path / "run", particles, codes)
    export_selection(run, Selection("A/0", particles.ids), tmp_path / "out.star", poses=True)

    read = exported_pose(tmp_path / "out.star", tmp_path / "T.mrc")
    boxes = StarFile.read(tmp_path / "boxes" / "particles.star").block("particles")
    centres = np.stack([boxes.numbers(f"rlnCoordinate{axis}") for axis in "XYZ"], axis=1) * PIXEL
    assert codes.pose is not None
    assert read.pose is not None
    assert read.positions is not None
    np.testing.assert_allclose(read.positions, centres + codes.pose.offsets, atol=1e-3)
    np.testing.assert_allclose(read.pose.rotations, codes.pose.rotations, atol=1e-5)


def test_poses_of_a_run_on_a_selection_are_those_of_its_particles(extracted, tmp_path: Path):
    """Box centres were rounded by other amounts for each particle."""
    rng = np.random.default_rng(8)
    particles = extracted(positions(rng))
    whole = codes_with(particles, rng)
    assert whole.pose is not None
    some = np.array([2, 4, 5])
    few = particles.subset(some)
    of_few = Codes(few.ids, whole.content[some], whole.transform[some], whole.pose.subset(some), 1, "f" * 64)
    columns = pose_columns(particles, whole, some)
    assert len(set(columns["rlnOriginXAngst"])) == 3
    assert pose_columns(run_on(tmp_path / "run", few, of_few).particles(), of_few, some) == columns


@pytest.mark.parametrize("said", ["by the list", "by the user"])
def test_origins_in_pixels_are_added_to_poses(tmp_path: Path, said: str):
    """As the importer understood them: by rlnDetectorPixelSize and magnification, or by the voxel size given."""
    rng = np.random.default_rng(9)
    write_volume(tmp_path / "T.mrc", rng.standard_normal((48, 48, 48)).astype(np.float32), PIXEL)
    columns = {f"rlnCoordinate{axis}": rng.uniform(20, 28, COUNT).round(3) for axis in "XYZ"}
    columns |= dict(
        zip(("rlnOriginX", "rlnOriginY", "rlnOriginZ"), rng.uniform(-2, 2, (3, COUNT)).round(3), strict=True)
    )
    if said == "by the list":
        columns |= {"rlnDetectorPixelSize": np.full(COUNT, 4.0), "rlnMagnification": np.full(COUNT, 10000.0)}
    head = "".join(f"_{label} #{k}\n" for k, label in enumerate(columns, 1))
    rows = "".join(" ".join(str(v) for v in row) + "\n" for row in zip(*columns.values(), strict=True))
    (tmp_path / "list.star").write_text(f"data_\n\nloop_\n{head}{rows}")
    found = io.read_particles(
        tmp_path / "list.star", tomogram=tmp_path / "T.mrc", voxel_size=None if said == "by the list" else PIXEL
    )
    assert found.positions is not None
    extract(found, tmp_path / "boxes", box=8, normalise=False)
    particles = io.read_particles(tmp_path / "boxes")
    codes = codes_with(particles, rng)
    assert codes.pose is not None
    columns = pose_columns(particles, codes, particles.ids)
    assert set(columns) == {name.replace("rln", "disentangle") for name in (*ANGLES, *ORIGINS)}
    listed = np.stack([found.positions[:, k] for k in range(3)], axis=1)
    raw = StarFile.read(tmp_path / "list.star").block("")
    corner = np.stack([raw.numbers(f"rlnCoordinate{axis}") for axis in "XYZ"], axis=1) * PIXEL
    written = np.array([columns[name.replace("rln", "disentangle")] for name in ORIGINS], dtype=float).T
    boxes = StarFile.read(tmp_path / "boxes" / "particles.star").block("particles")
    centres = np.stack([boxes.numbers(f"rlnCoordinate{axis}") for axis in "XYZ"], axis=1) * PIXEL
    np.testing.assert_allclose(corner - written, centres + codes.pose.offsets, atol=1e-3)
    assert np.abs(corner - listed).max() > 1


@pytest.mark.parametrize("invert", [False, True])
def test_the_complement_of_a_bare_stack_is_of_the_whole_stack(tmp_path: Path, invert: bool):
    write_volume_stack(tmp_path / "b.mrcs", np.random.default_rng(0).random((COUNT, 8, 8, 8)).astype(np.float32), PIXEL)
    some = io.read_particles(tmp_path / "b.mrcs").subset(np.array([3, 4, 5]))
    recipe = Recipe(input=InputSettings(particles=str(tmp_path / "b.mrcs"), invert=invert))
    run = Run.create(tmp_path / "run", recipe, some)
    record = export_selection(run, Selection("A/0", np.array([3])), tmp_path / "rest.star", complement=True)
    assert (record.ids, record.of) == ((0, 1, 2, 4, 5), COUNT)
    names = StarFile.read(tmp_path / "rest.star").block("particles").column("rlnImageName")
    assert [name.partition("@")[0] for name in names] == ["000001", "000002", "000003", "000005", "000006"]


def test_a_csv_list_is_one_by_any_case(tmp_path: Path):
    write_volume(tmp_path / "T.mrc", np.random.default_rng(0).random((48, 48, 48)).astype(np.float32), PIXEL)
    (tmp_path / "P.CSV").write_text("x,y,z\n20,20,20\n24,24,24\n28,28,28\n")
    extract(io.read_particles(tmp_path / "P.CSV", tomogram=tmp_path / "T.mrc"), tmp_path / "boxes", box=8)
    run = run_on(tmp_path / "run", io.read_particles(tmp_path / "boxes"))
    assert export_selection(run, Selection("A/0", np.array([1])), tmp_path / "out.CSV").of == 3
    assert (tmp_path / "out.CSV").read_text() == "x,y,z\n24,24,24\n"


@pytest.mark.parametrize("place", ["list.star", "list.json", "boxes/particles.star", "boxes/particles.mrcs"])
def test_what_is_read_from_is_not_replaced(extracted, tmp_path: Path, place: str):
    particles = extracted(positions(np.random.default_rng(4)))
    run = run_on(tmp_path / "run", particles)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"is read from|ends in \.json"):
        export_selection(run, Selection("A/0", np.array([1])), tmp_path / place, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_poses_of_boxes_are_in_the_frame_of_the_box(tmp_path: Path):
    rng = np.random.default_rng(2)
    write_volume_stack(tmp_path / "b.mrcs", rng.standard_normal((COUNT, 8, 8, 8)).astype(np.float32), PIXEL)
    names = np.array([f"{k + 1:06d}@b.mrcs" for k in range(COUNT)])
    (tmp_path / "list.star").write_text(star({"rlnImageName": names, **angles(FRAME, rng)}))
    particles = io.read_particles(tmp_path / "list.star", voxel_size=PIXEL)
    codes = codes_with(particles, rng)
    recipe = Recipe(input=InputSettings(particles=str(tmp_path / "list.star"), voxel_size=PIXEL))
    run = Run.create(tmp_path / "run", recipe, particles)
    run.save_codes(codes)
    export_selection(run, Selection("A/0", particles.ids), tmp_path / "out.star", poses=True)
    block = StarFile.read(tmp_path / "out.star").block("particles")
    assert codes.pose is not None
    written = euler_to_matrix(np.stack([block.numbers(name) for name in ANGLES], axis=1))
    np.testing.assert_allclose(written, codes.pose.rotations, atol=1e-5)
    origins = np.stack([block.numbers(name) for name in ORIGINS], axis=1)
    np.testing.assert_allclose(origins, -codes.pose.offsets, atol=1e-5)


def test_what_the_user_had_is_not_touched_by_poses(extracted, tmp_path: Path):
    rng = np.random.default_rng(3)
    columns = positions(rng) | angles(ANGLES, rng)
    particles = extracted(columns)
    run = run_on(tmp_path / "run", particles, codes_with(particles, rng))
    record = export_selection(run, Selection("A/0", np.array([1, 4])), tmp_path / "out.star", poses=True)
    block = StarFile.read(tmp_path / "out.star").block("particles")
    original = StarFile.read(tmp_path / "list.star").block("particles")
    assert block.columns == [*original.columns, *record.pose_columns]
    assert [row[: len(original.columns)] for row in block.rows] == [original.rows[1], original.rows[4]]
    assert record.pose_columns[0] == "disentangleAngleRot"


def test_a_selection_and_its_complement_are_the_whole_list(extracted, tmp_path: Path):
    particles = extracted(positions(np.random.default_rng(4)))
    run = run_on(tmp_path / "run", particles.subset(np.array([0, 2, 3])))
    selection = Selection("A/0", np.array([0, 3]), {"cluster": "gmm"})
    some = export_selection(run, selection, tmp_path / "some.star")
    rest = export_selection(run, selection, tmp_path / "rest.star", complement=True)
    assert some.ids == (0, 3)
    assert rest.ids == (1, 2, 4, 5)
    lines = (tmp_path / "list.star").read_text().splitlines()
    kept = [(tmp_path / name).read_text().splitlines() for name in ("some.star", "rest.star")]
    rows = lines[-COUNT:]
    assert kept[0] == [*lines[:-COUNT], rows[0], rows[3]]
    assert kept[1] == [*lines[:-COUNT], rows[1], rows[2], rows[4], rows[5]]


def test_the_record_says_where_it_came_from(extracted, tmp_path: Path):
    import hashlib

    rng = np.random.default_rng(6)
    particles = extracted(positions(rng))
    run = run_on(tmp_path / "run", particles, codes_with(particles, rng))
    export_selection(run, Selection("A/0", np.array([2]), {"cluster": "gmm", "k": 3}), tmp_path / "out.star")
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["schema_version"] == 1
    assert told["original"] == str(tmp_path / "list.star")
    assert told["original_sha256"] == hashlib.sha256((tmp_path / "list.star").read_bytes()).hexdigest()
    assert (told["count"], told["of"], told["ids"]) == (1, COUNT, [2])
    assert told["how"] == {"cluster": "gmm", "k": 3}
    assert told["fingerprint"] == "f" * 64
    assert told["run"] == str(tmp_path / "run")


def test_poses_without_a_pose_are_refused_and_nothing_is_written(extracted, tmp_path: Path):
    rng = np.random.default_rng(7)
    particles = extracted(positions(rng))
    run = run_on(tmp_path / "run", particles, codes_with(particles.subset(np.arange(3)), rng))
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match="no learned pose"):
        export_selection(run, Selection("A/0", np.array([2, 5])), tmp_path / "out.star", poses=True)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("there", ["out.star", "out.json", "out_optimisation_set.star"])
def test_nothing_is_overwritten_unless_told(extracted, tmp_path: Path, there: str):
    run = run_on(tmp_path / "run", extracted(positions(np.random.default_rng(8))))
    (tmp_path / there).write_text("precious")
    with pytest.raises(InputError, match="--overwrite"):
        export_selection(run, Selection("A/0", np.array([1])), tmp_path / "out.star")
    assert (tmp_path / there).read_text() == "precious"
    export_selection(run, Selection("A/0", np.array([1])), tmp_path / "out.star", overwrite=True)
    assert (tmp_path / "out.star").exists()


def test_an_empty_selection_is_refused(extracted, tmp_path: Path):
    run = run_on(tmp_path / "run", extracted(positions(np.random.default_rng(9))))
    with pytest.raises(InputError, match="empty"):
        export_selection(run, Selection("A/0", np.array([], np.int64)), tmp_path / "out.star")
    with pytest.raises(InputError, match="nothing is left"):
        export_selection(run, Selection("A/0", np.arange(COUNT)), tmp_path / "out.star", complement=True)
    assert not (tmp_path / "out.star").exists()


def test_codes_are_written_in_the_order_of_the_original_list(tmp_path: Path):
    rng = np.random.default_rng(10)
    ids = np.array([7, 2, 5])
    rotations = euler_to_matrix([[10, 20, 30], [40, 50, 60], [70, 80, 90]])
    pose = Pose(rotations, np.array([[8.0, 0, 0], [0, 8, 0], [0, 0, 8]]))
    codes = Codes(ids, rng.standard_normal((3, 2)).astype("f4"), np.zeros((3, 1), np.float32), pose, 1, "f")
    write_codes(codes, tmp_path / "codes.csv", voxel_size=4.0)
    table = np.genfromtxt(tmp_path / "codes.csv", delimiter=",", names=True)
    assert table.dtype.names == (
        "particle", "content_0", "content_1", "transform_0", "rot", "tilt", "psi", "shift_x", "shift_y", "shift_z"
    )  # fmt: skip
    np.testing.assert_array_equal(table["particle"], [2, 5, 7])
    np.testing.assert_allclose(table["content_1"], codes.content[[1, 2, 0], 1], rtol=1e-5)
    np.testing.assert_allclose(table["rot"], [40, 70, 10], atol=1e-4)
    np.testing.assert_allclose(table["shift_y"], [2, 0, 0], atol=1e-6)
