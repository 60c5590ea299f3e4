"""Recipes go to TOML and back, and say what a setting may be."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from pydantic import ValidationError

from napari_disentangle.errors import InputError
from napari_disentangle.models import MODELS
from napari_disentangle.recipe import PRESETS, SCHEMA_VERSION, InputSettings, Recipe

words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def back(recipe: Recipe, folder) -> Recipe:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    return Recipe.read(folder / "recipe.toml")


class TestToml:
    @pytest.mark.parametrize("name", list(PRESETS))
    def test_presets_come_back(self, tmp_path, name):
        assert back(Recipe.preset(name), tmp_path) == Recipe.preset(name)

    @given(
        words,
        st.none() | words,
        st.floats(1e-3, 1e3),
        st.integers(0, 2**63 - 1),
        st.tuples(st.floats(-90, 0), st.floats(1, 90)),
    )
    @limits(deadline=None, max_examples=40)
    def test_whatever_is_in_it_comes_back(self, tmp_path_factory, text, maybe, number, seed, tilts):
        inputs = InputSettings(particles=text, tomograms=maybe, voxel_size=number, tilt_range=tilts)
        recipe = Recipe(input=inputs, versions={"torch": text}).with_settings(
            [f"training.seed={seed}", f"pose.diameter={number}"]
        )
        assert back(recipe, tmp_path_factory.mktemp("r")) == recipe

    def test_what_is_not_set_is_left_out(self):
        values = tomllib.loads(Recipe().to_toml())
        assert values["schema_version"] == SCHEMA_VERSION
        assert "diameter" not in values["pose"]
        assert values["training"]["epochs"] == Recipe().training.epochs

    def test_it_cannot_be_changed(self):
        with pytest.raises(ValidationError):
            Recipe().training.epochs = 3


class TestSettings:
    @pytest.mark.parametrize(
        ("setting", "section", "key", "value"),
        [
            ("training.epochs=20", "training", "epochs", 20),
            ("training.learning_rate=3e-4", "training", "learning_rate", 3e-4),
            (" training.batch_size = 7 ", "training", "batch_size", 7),
            ("model.invariants=false", "model", "invariants", False),
            ("model.wedge=yes", "model", "wedge", True),
            ("pose.mode=local", "pose", "mode", "local"),
            ("pose.diameter=250", "pose", "diameter", 250.0),
            ("pose.diameter=none", "pose", "diameter", None),
            ("training.gamma=None", "training", "gamma", None),
            ("training.distance=sum", "training", "distance", "sum"),
        ],
    )
    def test_every_type_is_understood(self, setting, section, key, value):
        start = Recipe().with_settings(["pose.diameter=100", "training.gamma=2"])
        found = getattr(getattr(start.with_settings([setting]), section), key)
        assert found == value
        assert type(found) is type(value)

    def test_the_last_one_wins_and_the_first_recipe_stays(self):
        start = Recipe()
        assert start.with_settings(["training.epochs=2", "training.epochs=3"]).training.epochs == 3
        assert start == Recipe()

    @pytest.mark.parametrize(
        "setting",
        [
            "training.epoch=3",
            "epochs=3",
            "training=3",
            "input.particles=a",
            "schema_version=1",
            "=",
            "model.=1",
        ],
    )
    def test_an_unknown_key_names_the_known_ones(self, setting):
        with pytest.raises(InputError, match=r"no setting .*training\.epochs"):
            Recipe().with_settings([setting])

    @pytest.mark.parametrize("setting", ["training.epochs", ""])
    def test_a_key_alone_lacks_a_value(self, setting):
        with pytest.raises(InputError, match=r"lacks a value.*KEY=VALUE"):
            Recipe().with_settings([setting])

    @pytest.mark.parametrize(
        "setting",
        [
            "training.epochs=-1", "training.epochs=2.5", "training.epochs=many", "training.epochs=none", "training.batch_size=1",
            "training.learning_rate=0", "training.learning_rate=nan", "training.learning_rate=inf", "training.coarse_size=12",
            "training.fine_size=4", "model.content_dims=0", "model.content_dims=65", "model.invariants=perhaps", "pose.mode=guess",
            "pose.cone=181", "pose.diameter=-3", "pose.max_shift=0.6", "training.distance=max", "training.seed=-1",
        ],
    )  # fmt: skip
    def test_a_bad_value_is_named_with_its_key(self, setting):
        key, _, value = setting.partition("=")
        with pytest.raises(InputError, match=key.replace(".", r"\.")) as error:
            Recipe().with_settings([setting])
        assert value in str(error.value).lower()
        assert "\n" not in str(error.value)

    def test_no_epochs_at_all(self):
        with pytest.raises(InputError, match="both 0"):
            Recipe().with_settings(["training.epochs=0", "training.fine_epochs=0"])

    def test_an_unknown_model_and_preset(self):
        with pytest.raises(InputError, match=r"no model .*harmony"):
            Recipe().with_settings(["model.name=melody"])
        with pytest.raises(InputError, match=r"no preset .*quick"):
            Recipe.preset("slow")


class TestWhatAModelDoesNotHeed:
    def test_it_is_refused_with_what_it_heeds(self):
        with pytest.raises(
            InputError, match=r"model\.warp means nothing to VAE, which heeds .*model\.kl.*leave it out"
        ):
            Recipe.chosen("standard", ["model.name=vae", "training.epochs=3", " model.warp = affine"])
        with pytest.raises(InputError, match=r"model\.content_pairs means nothing to Harmony"):
            Recipe.chosen("standard", ["model.content_pairs=none"])

    def test_what_it_heeds_is_taken(self):
        assert Recipe.chosen("standard", ["model.name=vitae", "model.warp=affine"]).model.warp == "affine"

    @pytest.mark.parametrize("model", MODELS)
    @pytest.mark.parametrize("preset", PRESETS)
    def test_presets_are_for_every_model(self, preset, model):
        assert Recipe.chosen(preset, [f"model.name={model}"]).model.name == model


class TestReading:
    def read(self, tmp_path, text: str | bytes) -> Recipe:
        path = tmp_path / "recipe.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return Recipe.read(path)

    def test_an_older_one_reads_protein_as_bright(self, tmp_path):
        recipe = Recipe(input=InputSettings(particles="a.star", invert=True))
        assert back(recipe, tmp_path / "new").input.invert
        text = recipe.to_toml()
        assert text.count("invert = true\n") == 1
        older = self.read(tmp_path, text.replace("invert = true\n", ""))
        assert not older.input.invert
        assert older.input.particles == "a.star"

    def test_a_newer_schema_is_refused(self, tmp_path):
        text = Recipe().to_toml().replace("schema_version = 1", "schema_version = 2") + "\n[magic]\nspell = 1\n"
        with pytest.raises(InputError, match=r"newer napari-disentangle .*update"):
            self.read(tmp_path, text)

    @pytest.mark.parametrize("text", ["", "name = 1", "schema_version = 'one'"])
    def test_any_other_toml_is_no_recipe(self, tmp_path, text):
        with pytest.raises(InputError, match="not a recipe"):
            self.read(tmp_path, text)

    @pytest.mark.parametrize("text", ["schema_version = ", b"\xff\xfe", "a = 1\na = 2"])
    def test_what_is_no_toml(self, tmp_path, text):
        with pytest.raises(InputError, match=r"recipe\.toml cannot be read"):
            self.read(tmp_path, text)

    @pytest.mark.parametrize(
        "text", ["training = 3", "[training]\nepoch = 3", "surprise = 1", "[training]\nepochs = -3"]
    )
    def test_what_does_not_belong(self, tmp_path, text):
        with pytest.raises(InputError, match=r"recipe\.toml"):
            self.read(tmp_path, f"schema_version = 1\n{text}")

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(InputError, match="does not exist"):
            Recipe.read(tmp_path / "recipe.toml")


def test_every_setting_explains_itself():
    # these are the window's tooltips and the command line's help
    for section in (Recipe().input, Recipe().model, Recipe().pose, Recipe().training):
        for key, field in type(section).model_fields.items():
            assert field.description, key
