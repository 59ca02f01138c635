# SPDX-License-Identifier: Apache-2.0
"""The catalogue on the command line: methods listed and shown."""

import inspect

import pytest

from keras_ssl import cli, recipes
from keras_ssl.core import registry
from keras_ssl.run import catalogue
from keras_ssl.run.text import columns, markdown


def said(capsys, *arguments):
    """What a command prints; it must succeed."""
    assert cli.main(list(arguments)) == 0
    return capsys.readouterr().out


def test_methods_of_one_family(capsys):
    rows = said(capsys, "methods", "--family", "Self Distillation").splitlines()[1:]
    families = [method.family for method in registry.methods().values()]
    assert len(rows) == families.count("self-distillation") > 3
    assert all("self-distillation" in row for row in rows)


def test_an_unknown_family_is_answered_with_those_that_exist(capsys):
    assert cli.main(["methods", "--family", "contrast"]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    for method in registry.methods().values():
        assert method.family in error


def test_recipes_are_listed_with_their_own_method(capsys):
    rows = {row.split()[0]: row for row in said(capsys, "methods").splitlines()}
    assert "dcl_cifar" in rows["DCL"] and "dclw" not in rows["DCL"]
    assert "dino_resnet_cifar" in rows["DINO"]


def test_every_recipe_belongs_to_one_method():
    found = [recipe.name for name in registry.methods() for recipe in recipes.of_method(name)]
    assert sorted(found) == recipes.names()


@pytest.mark.parametrize("name", ["SimCLR", "simclr", "Sim-CLR", "sim_clr "])
def test_show_tells_what_the_class_declares(name, capsys):
    text = said(capsys, "show", name)
    for part in (
        "SimCLR, 2020\nA Simple Framework for Contrastive Learning",
        "Pulls two views of an image together",
        "family          contrastive",
        "modality        image",
        "needs           negatives, large batch",
        "views           simclr",
        "batch           at least 2",
        "loss            nt_xent",
        "source          Chen et al., 2020",
        "projector = (2048, 128)\n      widths of the head",
        "  simclr_digits    digits    convnet   adamw      45      128",
        "keras-ssl pretrain --method SimCLR",
        'recipes.get("simclr_cifar").build(steps_per_epoch=...)',
        'model.compile("adam")',
    ):
        assert part in text


def test_show_tells_what_only_the_reader_has():
    text = catalogue.show("MaskAlign")
    assert 'recipes.get("mask_align_cifar").build(teacher=..., steps_per_epoch=...)' in text
    assert "must be given   encoder, teacher" in text and "keras-ssl pretrain" not in text
    assert "beside samples  labels" in catalogue.show("SupCon")
    assert "beside samples  the number of each row" in catalogue.show("DeepClusterV2")
    assert "Recipes\n  none" in catalogue.show("Noise2Score")
    # Signals are no images, which is what the command pre-trains on.
    assert "keras-ssl pretrain" not in catalogue.show("SignalMAE")


@pytest.mark.parametrize("name", registry.methods())
def test_every_method_can_be_shown(name):
    method = registry.methods()[name]
    text = catalogue.show(name)
    assert f"\nloss            {' + '.join(method.cls.loss_terms)}\n" in text
    for section in ("Source", "Example"):
        assert len(catalogue.section(method.cls, section)) > 20, section
    told = catalogue.explained(method.cls)
    for argument, parameter in list(inspect.signature(method.cls.__init__).parameters.items())[1:]:
        stars = "**" * (parameter.kind == parameter.VAR_KEYWORD)
        assert told.get(stars + argument), f"the docstring of {name} is silent on {argument}"
    for recipe in recipes.of_method(name):
        assert f"\n  {recipe.name} " in text
    # Addresses of objects say nothing and differ from run to run.
    assert " at 0x" not in text


@pytest.mark.parametrize(
    ("name", "nearest"), [("SimCRL", "SimCLR"), ("barlow", "BarlowTwins"), ("mocov4", "MoCoV3")]
)
def test_an_unknown_method_is_answered_with_the_nearest(name, nearest, capsys):
    assert cli.main(["show", name]) == 2
    error = capsys.readouterr().err
    assert nearest in error and len(error.splitlines()) == 1


def test_a_later_colon_starts_no_argument():
    """The text of an argument may hold one, and may end a line before it."""
    told = catalogue.explained(registry.find("Noise2Score"))
    assert told["level"].startswith("of the noise: its deviation")
    assert told["scale"].endswith("of the noise: what the loss says of the score grows with s².")
    assert set(told) == {"network", "family", "level", "scale", "anneal_steps", "clip", "**kwargs"}


def test_columns_stand_below_one_another():
    rows = [["a", "bcd"], ["ef", "g"]]
    assert columns(rows) == ["a   bcd", "ef  g"]
    assert markdown(rows).splitlines() == ["| a  | bcd |", "|----|-----|", "| ef | g   |"]
