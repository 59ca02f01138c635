# SPDX-License-Identifier: Apache-2.0
"""Metrics of spectra: their limits, and that batches and replicas give what all rows at once do."""

import keras
import numpy as np
import pytest
from strategies import scope, strategy

from keras_ssl import metrics

RNG = np.random.default_rng(0)


def rows(count=240, dimensions=12):
    """Correlated embeddings with a large common part."""
    mix = RNG.normal(size=(dimensions, dimensions)) * np.arange(1, dimensions + 1) ** -0.7
    return (RNG.normal(size=(count, dimensions)) @ mix + 5.0).astype("float32")


def views(count=60, number=4, dimensions=6):
    centres = RNG.normal(size=(count, 1, dimensions)) * np.arange(1, dimensions + 1)
    return (centres + RNG.normal(size=(count, number, dimensions))).astype("float32")


METRICS = [
    (metrics.RankMe, {}, metrics.rank_me, rows),
    (metrics.RankMe, {"center": True, "values": "covariance"}, metrics.rank_me, rows),
    (metrics.AlphaReQ, {"ranks": (2, 10)}, metrics.alpha_req, rows),
    (metrics.LiDAR, {}, metrics.lidar, views),
    (metrics.LiDAR, {"delta": 1e-2, "renormalize": True}, metrics.lidar, views),
    (metrics.Uniformity, {"normalize": True, "t": 3.0}, metrics.uniformity, rows),
]
NAMES = [
    "rank_me",
    "rank_me of covariance",
    "alpha_req",
    "lidar",
    "lidar renormalized",
    "uniformity",
]


def numbers(found):
    return np.array([float(x) for x in keras.tree.flatten(found)])


@pytest.mark.parametrize("metric, options, function, make", METRICS, ids=NAMES)
def test_batches_of_any_size_give_what_all_rows_at_once_do(metric, options, function, make):
    x = make()
    whole = numbers(function(x, **options))
    streaming = metric(x.shape[-1], **options)
    for part in np.split(x, [1, 7, 50]):
        streaming.update_state(part)
    np.testing.assert_allclose(numbers(streaming.result()), whole, rtol=1e-5)
    again = metric.from_config(streaming.get_config())
    again.update_state(x)
    np.testing.assert_allclose(numbers(again.result()), whole, rtol=1e-5)
    streaming.reset_state()
    streaming.update_state(x[: len(x) // 2])
    half = numbers(function(x[: len(x) // 2], **options))
    np.testing.assert_allclose(numbers(streaming.result()), half, rtol=1e-5)


@pytest.mark.parametrize("metric, options, function, make", METRICS, ids=NAMES)
def test_replicas_give_what_one_device_does(metric, options, function, make):
    import tensorflow as tf

    x = make()
    with scope(2):
        streaming = metric(x.shape[-1], **options)
    data = strategy(2).experimental_distribute_dataset(
        tf.data.Dataset.from_tensor_slices(x).batch(20)
    )

    @tf.function(autograph=False)
    def step(part):
        strategy(2).run(streaming.update_state, (part,))

    for part in data:
        step(part)
    found = numbers(streaming.result())
    np.testing.assert_allclose(found, numbers(function(x, **options)), rtol=1e-5)


def test_alignment_of_batches_is_that_of_all_pairs():
    x, y = rows(), rows()
    streaming = metrics.Alignment(alpha=1.5, normalize=True)
    for part, other in zip(np.split(x, [1, 7, 50]), np.split(y, [1, 7, 50]), strict=True):
        streaming.update_state(part, other)
    whole = float(metrics.alignment(x, y, alpha=1.5, normalize=True))
    assert float(streaming.result()) == pytest.approx(whole, rel=1e-5)
    again = metrics.Alignment.from_config(streaming.get_config())
    again.update_state(x, y)
    assert float(again.result()) == pytest.approx(whole, rel=1e-5)


def test_rows_beyond_those_that_count_change_nothing():
    x = rows(40)
    first = float(metrics.uniformity(x[:30], normalize=True))
    streaming = metrics.Uniformity(12, rows=30, normalize=True)
    for part in np.split(x, 5):
        streaming.update_state(part)
    assert float(streaming.result()) == pytest.approx(first, rel=1e-5)
    with pytest.raises(ValueError, match="expected 12"):
        streaming.update_state(x[:, :3])
    with pytest.raises(ValueError, match="at least two rows"):
        metrics.Uniformity(12, rows=1)
    with pytest.raises(ValueError, match="positive sharpness"):
        metrics.Uniformity(12, t=0.0)


def test_lidar_is_the_entropy_of_the_discriminant():
    x = views().astype("float64")
    means = x.mean(1)
    between = np.cov(means.T)
    apart = (x - means[:, None]).reshape(-1, x.shape[2])
    within = apart.T @ apart / (x.shape[0] * (x.shape[1] - 1)) + 1e-4 * np.eye(x.shape[2])
    values = np.sort(np.linalg.eigvals(np.linalg.solve(within, between)).real)[::-1]
    np.testing.assert_allclose(metrics.lidar_spectrum(x), values, rtol=1e-9)
    p = values / values.sum() + 1e-8
    assert float(metrics.lidar(x)) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


def test_lidar_ignores_invertible_maps_and_counts_what_views_share():
    x = views()
    turned = x @ RNG.normal(size=(6, 6)) + 3.0
    kept = float(metrics.lidar(x, delta=1e-12))
    assert float(metrics.lidar(turned, delta=1e-12)) == pytest.approx(kept, rel=1e-3)
    # Of six directions two tell samples apart; the others differ between views alone.
    x = RNG.normal(size=(500, 8, 6)) * 0.1
    x[..., :2] += 5.0 * RNG.normal(size=(500, 1, 2))
    assert float(metrics.lidar(x)) == pytest.approx(2.0, abs=0.1)
    assert float(metrics.rank_me(x.reshape(-1, 6))) > 2.05
    same = np.repeat(RNG.normal(size=(50, 1, 6)), 3, axis=1)
    # Nothing tells views apart: what is left in the denominator is delta.
    largest = np.linalg.eigvalsh(np.cov(same[:, 0].T))[-1]
    assert float(metrics.lidar_spectrum(same, delta=0.01)[0]) == pytest.approx(largest / 0.01)


def test_a_power_law_is_recovered_exactly():
    for alpha in (0.3, 1.0, 2.5):
        found = metrics.power_law(7.0 * np.arange(1, 129) ** -alpha)
        assert float(found.alpha) == pytest.approx(alpha, abs=1e-12)
        assert float(found.r_squared) == pytest.approx(1.0, abs=1e-12)


def test_alpha_req_is_a_weighted_fit_to_the_spectrum():
    z = rows(300, 40).astype("float64")
    values = np.linalg.eigvalsh(np.cov(z.T))[::-1]
    for ranks, (first, last) in {None: (11, 40), (3, 30): (3, 30)}.items():
        rank = np.arange(first, last + 1)
        slope, _ = np.polyfit(np.log(rank), np.log(values[first - 1 : last]), 1, w=rank**-0.5)
        assert float(metrics.alpha_req(z, ranks=ranks).alpha) == pytest.approx(-slope, rel=1e-6)


def test_few_and_missing_eigenvalues():
    few = metrics.power_law(np.arange(1, 21) ** -1.5)
    assert float(few.alpha) == pytest.approx(1.5, abs=1e-9)
    # Ten rows leave nine eigenvalues, a collapse none.
    flat = np.concatenate([np.ones(9), np.zeros(31)])
    assert float(metrics.power_law(flat, ranks=(1, 40)).alpha) == pytest.approx(0.0, abs=1e-9)
    gone = metrics.alpha_req(np.ones((10, 4)))
    assert np.isfinite(numbers(gone)).all()


def test_the_spectrum_falls_from_one_and_knows_what_is_shared():
    z = rows()
    found = np.asarray(metrics.singular_spectrum(z))
    want = np.linalg.svd(z.astype("float64"), compute_uv=False)
    np.testing.assert_allclose(found, want / want[0], atol=1e-6)
    centred = np.asarray(metrics.singular_spectrum(z, center=True))
    # The common part is the first direction, and takes all others down.
    assert centred[1] > 2 * found[1]
    assert not np.asarray(metrics.singular_spectrum(np.zeros((5, 3)))).any()


def test_a_picture_of_spectra_shows_a_line_for_each():
    z = rows()
    one = np.asarray(metrics.show_spectrum({"all": z}))
    two = np.asarray(metrics.show_spectrum({"all": z, "three of twelve": z * (np.arange(12) < 3)}))
    assert one.shape == two.shape and one.shape[2] == 3
    colours = [len(np.unique(p.reshape(-1, 3), axis=0)) for p in (one, two)]
    assert colours[1] > colours[0] > 2


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"\(samples, views, dimensions\)"):
        metrics.lidar(np.ones((4, 6)))
    with pytest.raises(ValueError, match="two random views"):
        metrics.lidar(np.ones((4, 1, 6)))
    with pytest.raises(ValueError, match="1 sample"):
        metrics.lidar(np.ones((1, 3, 6)))
    with pytest.raises(ValueError, match="was made for 5"):
        metrics.RankMe(5).update_state(np.ones((4, 6)))
    with pytest.raises(ValueError, match="at least 1"):
        metrics.RankMe(0)
    with pytest.raises(ValueError, match="values is 'eigen'"):
        metrics.RankMe(4, values="eigen")
    with pytest.raises(ValueError, match="from 1 to 8"):
        metrics.AlphaReQ(8, ranks=(3, 9))
    with pytest.raises(ValueError, match="alpha_req takes"):
        metrics.power_law(np.ones((3, 3)))
    with pytest.raises(ValueError, match="at least one array"):
        metrics.show_spectrum({})
