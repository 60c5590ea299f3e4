"""The packaged sample: everything is there, usable, and the same every time."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import fields

import mrcfile
import numpy as np
import pytest

import napari_disentangle
from napari_disentangle import sample as module
from napari_disentangle.errors import InputError
from napari_disentangle.io.mrc import read_header
from napari_disentangle.io.star import StarFile
from napari_disentangle.sample import (
    MAPS,
    STACK,
    TOMOGRAM,
    Sample,
    cached,
    sample_folder,
    write_sample,
    write_sample_stack,
    write_sample_tomogram,
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Sample:
    return write_sample(tmp_path_factory.mktemp("s") / "sample")


def test_every_path_is_there(sample):
    for field in fields(sample):
        assert getattr(sample, field.name).exists(), field.name


def test_the_stack_is_labelled(sample):
    with sample.stack_truth.open(newline="") as file:
        counts = Counter(row["identity"] for row in csv.DictReader(file))
    assert counts == {"nucleosome": 120, "spike": 120, "groel-groes": 120}
    assert len(StarFile.read(sample.stack_star).block("particles")) == 360
    header = read_header(sample.stack_star.with_name("particles.mrcs"))
    assert header.shape == (360, 32, 32, 32)
    assert header.voxel_size == 10


def test_the_tomogram_is_labelled(sample):
    with sample.tomogram_truth.open(newline="") as file:
        truth = list(csv.DictReader(file))
    assert 90 <= len(truth) <= 100
    assert len(StarFile.read(sample.tomogram_star).block("particles")) == len(truth)
    assert read_header(sample.tomogram_mrc).shape == (64, 224, 224)


def test_maps_are_float32_copies_of_the_packaged_ones(sample):
    packaged = sorted(MAPS.glob("*.mrc"))
    assert [p.name for p in packaged] == [p.name for p in sorted(sample.maps.glob("*.mrc"))]
    assert len(packaged) == 6
    readme = (MAPS / "README.md").read_text(encoding="utf-8")
    for path in packaged:
        assert f"`{path.name}`" in readme
        with mrcfile.open(path) as kept, mrcfile.open(sample.maps / path.name) as copy:
            assert kept.data.shape == (32, 32, 32)
            assert copy.data.dtype == np.float32
            np.testing.assert_array_equal(copy.data, kept.data)
            assert float(copy.voxel_size.x) == float(kept.voxel_size.x) == 10


def test_each_half_stands_alone_and_is_the_same(sample, tmp_path):
    stack, tomogram = write_sample_stack(tmp_path / "stack"), write_sample_tomogram(tmp_path / "tomogram")
    assert stack.truth.read_bytes() == sample.stack_truth.read_bytes()
    with mrcfile.open(tomogram.tomogram) as ours, mrcfile.open(sample.tomogram_mrc) as theirs:
        np.testing.assert_array_equal(ours.data, theirs.data)


def test_an_existing_folder_is_refused(sample):
    with pytest.raises(InputError, match="--overwrite"):
        write_sample(sample.folder)


class TestCached:
    @pytest.fixture
    def cache(self, tmp_path, monkeypatch):
        """A cache of this test, so that the user's own is left alone."""
        monkeypatch.setattr(module, "sample_folder", lambda: tmp_path / "cache")
        return tmp_path / "cache"

    def test_the_tomogram_is_written_once_and_found_again(self, cache, sample):
        folder = cached(TOMOGRAM)
        assert folder == cache / "tomogram"
        assert (folder / "truth.csv").read_bytes() == sample.tomogram_truth.read_bytes()
        before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
        assert (folder / "optimisation_set.star") in before
        assert cached(TOMOGRAM) == folder
        assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before

    def test_what_is_there_is_taken_as_it_is(self, cache):
        (cache / "stack").mkdir(parents=True)
        assert cached(STACK) == cache / "stack"
        assert list((cache / "stack").iterdir()) == []
        assert not (cache / "tomogram").exists()

    def test_one_that_could_not_be_written_is_written_the_next_time(self, cache, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(module, "MAPS", cache / "nowhere")
            with pytest.raises(InputError):
                cached(TOMOGRAM)
        assert not cache.exists(), "half a sample would be found again"
        assert (cached(TOMOGRAM) / "tomogram.mrc").is_file()


def test_the_cache_is_the_users_and_of_this_version():
    folder = sample_folder()
    assert folder.name == f"sample-{napari_disentangle.__version__}"
    assert "napari-disentangle" in folder.parts
    assert folder.is_absolute()
