# SPDX-License-Identifier: Apache-2.0
"""Schedules: their values at every border, in float32, compiled, saved and resumed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_ssl import schedules

ALL = [
    schedules.WarmupCosine(0.4, 100, warmup_steps=10, start=0.1, end=0.01),
    schedules.WarmupCosine(0.4, 100, warmup_steps=10, peak_twice=True),
    schedules.CosineRamp(0.04, 0.4, 50),
    schedules.CosineMomentum(0.996, 50),
    schedules.LinearWarmup(0.04, 0.07, 30),
    schedules.InfiniteSchedule(0.4, 0.1, 10, 40, 80, 20, 0.01),
    schedules.InfiniteSchedule(0.4, 0.1, 10, 40, 80, 20, cooldown="linear"),
    schedules.WarmupStableDecay(0.4, 100, warmup_steps=10, decay_steps=30, start=0.1, end=0.01),
]


def at(schedule, step):
    return float(schedule(step))


def test_warmup_cosine_borders():
    schedule = schedules.WarmupCosine(0.4, 100, warmup_steps=10, start=0.1, end=0.02)
    values = [at(schedule, step) for step in (0, 5, 10, 55, 100, 1000)]
    np.testing.assert_allclose(values, [0.1, 0.25, 0.4, 0.21, 0.02, 0.02], atol=1e-6)


def test_without_warmup_it_starts_at_the_base():
    assert at(schedules.WarmupCosine(0.4, 100), 0) == pytest.approx(0.4)


def test_warmup_as_long_as_the_run():
    schedule = schedules.WarmupCosine(0.4, 10, warmup_steps=10)
    assert [at(schedule, s) for s in (0, 9, 10)] == pytest.approx([0.0, 0.36, 0.4])
    assert np.isfinite(at(schedule, 100))


def test_peak_twice():
    schedule = schedules.WarmupCosine(0.4, 100, warmup_steps=10, peak_twice=True)
    assert at(schedule, 0) == 0.0
    assert at(schedule, 9) == pytest.approx(0.4)
    assert at(schedule, 10) == pytest.approx(0.4)
    assert at(schedule, 11) < 0.4


def test_clamp_is_optional():
    assert at(schedules.WarmupCosine(0.4, 100), 150) == pytest.approx(0.0, abs=1e-7)
    assert at(schedules.WarmupCosine(0.4, 100, clamp=False), 150) == pytest.approx(0.2)
    assert at(schedules.LinearWarmup(0.0, 1.0, 10, clamp=False), 20) == pytest.approx(2.0)


@pytest.mark.parametrize(
    "schedule, first, last, length",
    [
        (schedules.CosineRamp(0.04, 0.4, 50), 0.04, 0.4, 50),
        (schedules.CosineMomentum(0.996, 50), 0.996, 1.0, 50),
        (schedules.LinearWarmup(0.04, 0.07, 30), 0.04, 0.07, 30),
    ],
)
def test_ramps(schedule, first, last, length):
    values = [at(schedule, step) for step in (0, length / 2, length, 10 * length)]
    np.testing.assert_allclose(values, [first, (first + last) / 2, last, last], atol=1e-6)


@pytest.mark.parametrize(
    "schedule",
    [
        *ALL,
        schedules.RepeatedCosine(0.4, 40, 10),
        schedules.InfiniteSchedule(0.4, 0.1, 10, 40, cooldown="inverse_sqrt"),
    ],
    ids=lambda s: type(s).__name__,
)
def test_serialised_compiled_and_vectorised_values_agree(schedule):
    steps = np.arange(120)
    want = np.asarray(schedule(steps))
    assert want.dtype == np.float32
    config = keras.saving.serialize_keras_object(schedule)
    again = keras.saving.deserialize_keras_object(config)
    np.testing.assert_array_equal(np.asarray(again(steps)), want)
    compiled = tf.function(schedule, jit_compile=True, autograph=False)
    got = [float(compiled(tf.constant(step, "int64"))) for step in (0, 9, 10, 30, 110)]
    np.testing.assert_allclose(got, want[[0, 9, 10, 30, 110]], atol=1e-6)
    assert float(schedule(keras.Variable(30, dtype="int64"))) == pytest.approx(want[30])


@pytest.mark.parametrize("schedule", ALL, ids=lambda s: type(s).__name__)
def test_continuous_at_every_step(schedule):
    values = np.asarray(schedule(np.arange(120)), "float64")
    assert np.max(np.abs(np.diff(values))) < 0.12 * (values.max() - values.min())


@pytest.mark.parametrize("cooldown", ["cosine", "linear", "inverse_sqrt"])
def test_infinite_schedule_borders(cooldown):
    phases = {"warmup_steps": 10, "cooldown_end": 40, "anneal_start": 80, "anneal_steps": 20}
    schedule = schedules.InfiniteSchedule(0.4, 0.1, **phases, cooldown=cooldown)
    values = [at(schedule, step) for step in (0, 5, 10, 40, 79, 80, 100, 1000)]
    np.testing.assert_allclose(values, [0, 0.2, 0.4, 0.1, 0.1, 0.1, 0.01, 0.01], atol=1e-6)
    # The way down is exponential: half of the steps, the root of the ratio.
    assert at(schedule, 90) == pytest.approx(0.1 * 0.1**0.5, rel=1e-5)


def test_without_annealing_the_constant_has_no_end():
    schedule = schedules.InfiniteSchedule(0.4, 0.1, warmup_steps=10, cooldown_end=40)
    assert at(schedule, 10_000_000) == pytest.approx(0.1)
    later = schedules.InfiniteSchedule(0.4, 0.1, anneal_start=80, anneal_steps=20)
    assert [at(later, s) for s in (0, 79, 100)] == pytest.approx([0.1, 0.1, 0.01])


def test_a_longer_infinite_schedule_is_the_same_until_the_shorter_one_anneals():
    phases = {"warmup_steps": 10, "cooldown_end": 40, "anneal_steps": 20}
    first = schedules.InfiniteSchedule(0.4, 0.1, anneal_start=80, **phases)
    second = schedules.InfiniteSchedule(0.4, 0.1, anneal_start=200, **phases)
    steps = np.arange(300)
    same = np.asarray(first(steps)) == np.asarray(second(steps))
    assert same[:81].all() and not same[81:200].any()


def test_repeated_cosine_starts_over():
    schedule = schedules.RepeatedCosine(0.4, 40, warmup_steps=10, start=0.1, end=0.02)
    values = [at(schedule, step) for step in (0, 5, 10, 25)]
    np.testing.assert_allclose(values, [0.1, 0.25, 0.4, 0.21], atol=1e-6)
    steps = np.arange(40)
    np.testing.assert_array_equal(schedule(steps), schedule(steps + 120))
    alone = schedules.WarmupCosine(0.4, 40, warmup_steps=10, start=0.1, end=0.02)
    np.testing.assert_allclose(schedule(steps), alone(steps), atol=1e-6)


def test_warmup_stable_decay_borders():
    schedule = schedules.WarmupStableDecay(0.4, 100, 10, 20, start=0.2, end=0.1)
    values = [at(schedule, step) for step in (0, 5, 10, 80, 90, 100, 1000)]
    np.testing.assert_allclose(values, [0.2, 0.3, 0.4, 0.4, 0.25, 0.1, 0.1], atol=1e-6)
    plain = schedules.WarmupStableDecay(0.4, 100)
    assert [at(plain, s) for s in (0, 99)] == pytest.approx([0.4, 0.4])


def test_long_runs_stay_monotone_in_float32():
    momentum = schedules.CosineMomentum(0.996, 2_000_000)
    values = np.asarray(momentum(np.linspace(0, 2_000_000, 5000).astype("int64")))
    assert np.all(np.diff(values) >= 0)
    assert values[-1] == 1.0


def test_drives_an_optimizer():
    optimizer = keras.optimizers.SGD(schedules.WarmupCosine(1.0, 10, warmup_steps=2))
    variable = keras.Variable([0.0])
    seen = []
    for _ in range(3):
        seen.append(float(optimizer.learning_rate))
        optimizer.apply_gradients([(tf.constant([1.0]), variable)])
    assert seen == pytest.approx([0.0, 0.5, 1.0])


def test_scale_by_batch():
    assert schedules.scale_by_batch(0.3, 4096) == pytest.approx(4.8)
    root = schedules.scale_by_batch(0.075, 4096, reference=1, rule="sqrt")
    assert root == pytest.approx(4.8)
    with pytest.raises(ValueError, match="rule"):
        schedules.scale_by_batch(0.3, 256, rule="cubic")
    with pytest.raises(ValueError, match="start at 1"):
        schedules.scale_by_batch(0.3, 0)


def test_errors_say_what_was_wrong():
    with pytest.raises(ValueError, match="updates, not epochs"):
        schedules.WarmupCosine(0.1, 10, warmup_steps=20)
    with pytest.raises(ValueError, match="total_steps > 0"):
        schedules.CosineRamp(0.1, 0.2, 0)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        schedules.CosineMomentum(1.2, 10)
    with pytest.raises(ValueError, match="cooldown_end <= anneal_start"):
        schedules.InfiniteSchedule(0.4, 0.1, 10, 40, anneal_start=30, anneal_steps=10)
    with pytest.raises(ValueError, match="with an anneal_start only"):
        schedules.InfiniteSchedule(0.4, 0.1, 10, 40, anneal_steps=10)
    with pytest.raises(ValueError, match="above 0"):
        schedules.InfiniteSchedule(0.4, 0.1, end=0.0)
    with pytest.raises(ValueError, match="inverse_sqrt"):
        schedules.InfiniteSchedule(0.4, 0.1, cooldown="sine")
    with pytest.raises(ValueError, match="fits behind the warm-up"):
        schedules.WarmupStableDecay(0.4, 100, 50, 60)
    with pytest.raises(ValueError, match="updates, not epochs"):
        schedules.RepeatedCosine(0.4, 10, 20)
