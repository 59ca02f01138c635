# SPDX-License-Identifier: Apache-2.0
"""Deep linear networks: what the equations say, and the order in which features are learned."""

import numpy as np
import pytest

from keras_ssl.evaluation import deep_linear_end, deep_linear_learning, deep_linear_start

START = 0.35


def learned_at(kind, depth, covariance, regression, start=START, last=400.0):
    times = np.linspace(0.0, last, 40001)
    found = deep_linear_learning(kind, depth, covariance, regression, times, start)
    end = deep_linear_end(kind, depth, regression)
    return times[(found >= 0.9 * end[:, None]).argmax(1)]


@pytest.mark.parametrize(
    ("kind", "depth", "want"),
    [
        ("jepa", 1, (5.6, 3.3)),
        ("jepa", 2, (17.8, 27.9)),
        ("jepa", 3, (77, 181)),
        ("mae", 1, (2.3, 1.3)),
        ("mae", 2, (3.3, 2.5)),
        ("mae", 3, (5.4, 4.4)),
    ],
)
def test_latents_of_several_layers_learn_the_clean_feature_first(kind, depth, want):
    # The clean one has the smaller covariance, which is all that inputs ask for.
    found = learned_at(kind, depth, [0.8, 1.0], [1.2, 0.5])
    np.testing.assert_allclose(found, want, rtol=0.02)


def test_gradient_descent_does_the_same():
    depth, ratio, rate, step = 2, 0.8, 1.0, 1e-3
    for kind in ("jepa", "mae"):
        layers, path = [START] * (depth + 1), []
        for _ in range(8000):
            path.append(np.prod(layers[:-1]))
            encoder = np.prod(layers[:-1])
            # Of ½ E[(v w x - y)²], y what the encoder makes of the second view or that itself.
            wanted = encoder * rate if kind == "jepa" else rate
            error = layers[-1] * encoder * rate / ratio - wanted
            slopes = [error * np.prod(layers) / weight for weight in layers]
            layers = [weight - step * slope for weight, slope in zip(layers, slopes, strict=True)]
        times = step * np.arange(8000)
        found = deep_linear_learning(kind, depth, [rate], [ratio], times, START)[0]
        np.testing.assert_allclose(path, found, atol=1e-3)


def test_the_start_is_left_when_the_sum_says():
    for ratio, want, measured in ((0.5, 180.9, 182), (1.2, 61.1, 62)):
        assert deep_linear_start(3, 1.0, ratio, START) == pytest.approx(want, abs=0.1)
        assert learned_at("jepa", 3, [1.0], [ratio])[0] == pytest.approx(measured, rel=0.01)
    # From a very small start only the covariance counts.
    far, near = (deep_linear_start(3, c, r, 1e-3) for c, r in ((0.8, 1.2), (1.0, 0.5)))
    assert far / near == pytest.approx(1.25, rel=0.01)


@pytest.mark.parametrize(
    "wrong",
    [("byol", 1, [1.0], [1.0], 0.1), ("mae", 0, [1.0], [1.0], 0.1), ("jepa", 1, [0.0], [1.0], 1.0)],
)
def test_what_has_no_meaning_is_named(wrong):
    kind, depth, covariance, regression, start = wrong
    with pytest.raises(ValueError, match="numbers that are positive"):
        deep_linear_learning(kind, depth, covariance, regression, [0.0, 1.0], start)
