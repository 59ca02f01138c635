# SPDX-License-Identifier: Apache-2.0
"""Continual pre-training: the branch from before annealing is where the next task starts."""

import numpy as np
import pytest
from model_test import images, light_views, smooth_encoder

import keras_ssl
from keras_ssl import models, optimizers, schedules
from keras_ssl.callbacks import AnnealBranch

PHASES = {"warmup_steps": 1, "cooldown_end": 2, "anneal_steps": 2}


def schedule(anneal_start):
    return schedules.InfiniteSchedule(0.05, 0.02, anneal_start=anneal_start, **PHASES)


def simclr(rate, **options):
    model = models.SimCLR(smooth_encoder(), (8, 8), views=light_views(), seed=0)
    model.compile(optimizers.AdamW(rate), **options)
    return model


def fit(model, first, steps, callbacks=()):
    """Updates on batches of four images, the same for the same update."""
    x = np.concatenate([images(4, seed=step) for step in range(first, first + steps)])
    model.fit(x, batch_size=4, shuffle=False, verbose=0, callbacks=list(callbacks))


def state(model):
    return [np.asarray(v) for v in [*model.weights, *model.optimizer.variables]]


def test_the_next_task_goes_on_as_if_nothing_had_been_annealed(tmp_path):
    path, early, late = tmp_path / "deep" / "branch.keras", schedule(4), schedule(20)
    model = simclr(early)
    branch = AnnealBranch(path, 4)
    fit(model, 0, 6, [branch])
    assert branch.saved and float(model.optimizer.learning_rate) < 0.005
    again = keras_ssl.load_model(path)
    again.optimizer.learning_rate = late
    undisturbed = simclr(late)
    fit(undisturbed, 0, 4)
    before = state(undisturbed)
    # The rate is part of the optimizer's state, but as a schedule it has no variable.
    for one, other in zip(state(again), before, strict=True):
        np.testing.assert_array_equal(one, other)
    # Annealing had gone elsewhere, and moments come along: with others the steps would differ.
    assert any(not np.array_equal(a, b) for a, b in zip(state(model), before, strict=True))
    fit(again, 4, 2)
    fit(undisturbed, 4, 2)
    for one, other in zip(state(again), state(undisturbed), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert [f.name for f in path.parent.iterdir()] == ["branch.keras"]


def test_a_resumed_run_past_the_branch_keeps_its_file(tmp_path):
    model = simclr(schedule(2))
    fit(model, 0, 3, [AnnealBranch(tmp_path / "branch.keras", 2)])
    made = (tmp_path / "branch.keras").stat().st_mtime_ns
    fit(model, 3, 1, [AnnealBranch(tmp_path / "branch.keras", 2)])
    assert (tmp_path / "branch.keras").stat().st_mtime_ns == made
    with pytest.raises(ValueError, match="3 are done|4 are done"):
        fit(model, 4, 1, [AnnealBranch(tmp_path / "other.keras", 2)])


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"\.keras file"):
        AnnealBranch("branch.h5", 4)
    with pytest.raises(ValueError, match="from 1"):
        AnnealBranch("branch.keras", 0)
    model = simclr(schedule(4), steps_per_execution=3)
    with pytest.raises(ValueError, match="every call does 3"):
        fit(model, 0, 3, [AnnealBranch(tmp_path / "branch.keras", 4)])
