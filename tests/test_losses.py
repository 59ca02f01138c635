# SPDX-License-Identifier: Apache-2.0
"""Losses: closed forms, invariances, gradient stops, half precision and many replicas."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from strategies import strategy as mirrored

from keras_ssl import losses
from keras_ssl.core import distribution

# Parts of losses that give no number of their own.
PARTS = ("masked_token_weights", "normalize")
PUBLIC = [name for name in losses.__all__ if name not in PARTS]
# Defined on the rows of one replica.
PER_REPLICA = {"koleo"}

# Public loss -> a scalar of two views, so that every declared function runs in every test.
QUEUE = np.random.default_rng(7).normal(size=(11, 16)).astype("float32")


def classes_of(x):
    """Three classes that travel with their rows to whatever replica."""
    x = tf.stop_gradient(x)
    return tf.cast(x[:, 0] > 0, "int32") + tf.cast(x[:, 1] > 0, "int32")


def joint_logits(a, b):
    """Logits of two transformed copies of every row: (2 B, 2 D)."""
    copies = [tf.concat([a, b], 1), tf.concat([b, a * b], 1)]
    return tf.reshape(tf.stack(copies, 1), (-1, 2 * a.shape[1]))


def everyone(x):
    """The rows of the global batch."""
    return keras.ops.arange(keras.ops.shape(x)[0] * distribution.replica_count())


def directions(a):
    """Unit columns."""
    rows = QUEUE.T[: a.shape[1]]
    return rows / np.linalg.norm(rows, axis=0)


def patches(a, b):
    """Two tokens of every row: (B, 2, D)."""
    return keras.ops.stack([a, b], axis=1)


SCALARS = {
    "asymmetric_loss": lambda a, b: losses.asymmetric_loss(a * b, keras.ops.cast(a > 0, "float32")),
    # Of weights alone: the same for all rows.
    "prototype_orthogonality": lambda a, b: (
        losses.prototype_orthogonality(QUEUE[:6, :2].reshape(2, 3, 2))
        * keras.ops.mean(keras.ops.cast(a, "float32") * keras.ops.cast(b, "float32"))
    ),
    "sie": lambda a, b: sum(losses.sie(a, b, a[:, 2:] * b[:, 2:], invariant_size=2).values()),
    "epps_pulley": lambda a, b: keras.ops.sum(losses.epps_pulley(a * b)),
    "lejepa": lambda a, b: sum(losses.lejepa([a, b, a * b], directions(a)).values()),
    "sigreg": lambda a, b: losses.sigreg([a, b], directions(a)),
    # The identity, since the order of the rows must not matter.
    "mixed_barlow_twins": lambda a, b: sum(
        losses.mixed_barlow_twins(a, b, a * b, everyone(a), 0.3).values()
    ),
    "classification": lambda a, b: losses.classification(a * b, classes_of(a)),
    "simlap": lambda a, b: losses.simlap(a, tf.sigmoid(b), classes_of(a), classes_of(b)),
    "sla": lambda a, b: losses.sla(joint_logits(a, b), classes_of(a), transforms=2),
    "sla_aggregate": lambda a, b: keras.ops.mean(
        losses.sla_aggregate(joint_logits(a, b), transforms=2) ** 2
    ),
    "sla_distillation": lambda a, b: losses.sla_distillation(
        joint_logits(a, b), a + b, transforms=2
    ),
    "cacr_attraction": lambda a, b: losses.cacr_attraction([a, b, a * b]),
    "cacr_momentum": lambda a, b: losses.cacr_momentum([a, a * b], b, temperature=0.5),
    "cacr_repulsion": lambda a, b: losses.cacr_repulsion([a, b, a * b]),
    "centered_softmax": lambda a, b: keras.ops.mean(
        losses.centered_softmax(a, QUEUE[0, : a.shape[1]], 0.5) * losses.centered_softmax(b, 0.0)
    ),
    "dino": lambda a, b: losses.dino([a, b, a * b], [b, a], QUEUE[0, : a.shape[1]]),
    "ibot": lambda a, b: sum(
        losses.ibot(
            [a, b],
            [b, a],
            [patches(a, b)],
            [patches(b, a)],
            [patches(a, b)[..., 0] > 0],
            centers=QUEUE[:2, : a.shape[1]],
        ).values()
    ),
    "koleo": lambda a, b: losses.koleo(a * b),
    # Rows mask different numbers of tokens, and so do replicas.
    "token_error": lambda a, b: losses.token_error(
        patches(a, b), patches(b, a) * 0.3, a[:, :2] > 0, "l1"
    ),
    "token_variance": lambda a, b: losses.token_variance(
        [patches(a, b), 0.1 * patches(b, a)], [a[:, :2] > 0, None]
    ),
    "feature_alignment": lambda a, b: losses.feature_alignment(
        [patches(a, b), patches(b, a)], [patches(b, a) * 0.3, patches(a, b)], a[:, :2] > 0
    ),
    "token_relation_kl": lambda a, b: losses.token_relation_kl(
        [[patches(a, b), patches(b, a), patches(a * b, a)]],
        [[patches(b, a), patches(b, a * b), patches(a, b)]],
        relations=("qk", "vv"),
    ),
    "hard_distillation": lambda a, b: losses.hard_distillation(
        a, b, keras.ops.softmax(a * b), a + b, label_smoothing=0.1
    ),
    "nkd": lambda a, b: losses.nkd(a, b, classes_of(a), temperature=2.0),
    "nested_distillation": lambda a, b: losses.nested_distillation(
        [[a[:, :2], b[:, :2]], [a, b]],
        [[keras.ops.softmax(x[:, :2]) for x in (b, a)], [keras.ops.softmax(x) for x in (b, a)]],
    ),
    "patch_distillation": lambda a, b: losses.patch_distillation(
        patches(a, b), keras.ops.softmax(patches(b, a)), losses.masked_token_weights(a[:, :2] > 0)
    ),
    "self_distillation": lambda a, b: losses.self_distillation(
        [a, b], [keras.ops.softmax(b), keras.ops.softmax(a)], reduction="sum"
    ),
    "dead_latent_error": lambda a, b: losses.dead_latent_error(a, b),
    "relative_error": losses.relative_error,
    "relative_l1": losses.relative_l1,
    "dcl": lambda a, b: losses.dcl([a, b], temperature=0.3),
    "dclw": lambda a, b: losses.dclw([a, b], temperature=0.3, detach_weight=False),
    "deepcluster_v2": lambda a, b: losses.deepcluster_v2(
        [keras.ops.stack([a, b, a * b]), keras.ops.stack([a, a + b, b])],
        # Also -1: rows without a target, of which replicas have different numbers.
        keras.ops.stack([classes_of(a) - 1, classes_of(b)]),
    ),
    "info_nce": lambda a, b: losses.info_nce(a, b, temperature=0.3, decoupled="dclw"),
    "moco_v3": lambda a, b: losses.moco_v3([a, b], [b, a], temperature=0.3),
    "nnclr": lambda a, b: losses.nnclr([a, b], [b, a], temperature=0.3),
    "sinkhorn_knopp": lambda a, b: keras.ops.mean(losses.sinkhorn_knopp(a * b) ** 2),
    "swav": lambda a, b: losses.swav([a, b, a * b], epsilon=0.3),
    "swav_codes": lambda a, b: keras.ops.mean(losses.swav_codes([a, b], epsilon=0.3) ** 2),
    "sup_con": lambda a, b: losses.sup_con([a, b], temperature=0.3),
    "token_sup_con": lambda a, b: losses.token_sup_con(
        keras.ops.stack([a, b, a * b, a + b], axis=1), [0, 1, 0, 2], temperature=0.3
    ),
    "barlow_twins": losses.barlow_twins,
    "byol": lambda a, b: losses.byol([a, b], [a, b]),
    "cross_correlation": lambda a, b: keras.ops.sum(losses.cross_correlation(a, b) ** 3),
    "nearest_prototype": lambda a, b: losses.nearest_prototype((a - 0.5 * b) ** 2),
    "nearest_sample": lambda a, b: losses.nearest_sample((a - 0.5 * b) ** 2),
    "negative_cosine": losses.negative_cosine,
    "nt_xent": lambda a, b: losses.nt_xent([a, b], temperature=0.3),
    "simsiam": lambda a, b: losses.simsiam([a, b], [a, b]),
    "vicreg": lambda a, b: sum(losses.vicreg([a, b]).values()),
    "vicreg_covariance": lambda a, b: losses.vicreg_covariance(a * b),
    "vicreg_invariance": losses.vicreg_invariance,
    "vicreg_variance": lambda a, b: losses.vicreg_variance(a * b),
}
THREE_VIEWS = {
    "sigreg_flat": lambda a, b: losses.sigreg([a, b], directions(a), flatten=True),
    "mixed_barlow_twins_far": lambda a, b: sum(
        losses.mixed_barlow_twins(a, b, a + b, everyone(a)[::-1], 0.3, form="imagenet").values()
    ),
    "nt_xent_3": lambda a, b: losses.nt_xent([a, b, a * b]),
    "info_nce_queue": lambda a, b: losses.info_nce(a, b, queue=QUEUE[:, : a.shape[1]]),
    "cacr_euclidean": lambda a, b: losses.cacr_momentum([a, b], a * b, cost="euclidean"),
    "swav_queue": lambda a, b: losses.swav(
        [a, b], epsilon=0.3, queue_scores=[QUEUE[:, : a.shape[1]], QUEUE[::-1, : a.shape[1]]]
    ),
    "nnclr_both": lambda a, b: losses.nnclr([a, b], [b, a], negatives="both"),
    "nt_xent_3_inside": lambda a, b: losses.nt_xent([a, b, a * b], positives="inside"),
    "vicreg_3": lambda a, b: sum(losses.vicreg([a, b, a * b]).values()),
}


def views(batch=8, size=5, seed=0):
    generator = np.random.default_rng(seed)
    first = generator.normal(size=(batch, size)).astype("float32")
    return first, (first + 0.7 * generator.normal(size=first.shape)).astype("float32")


def value_and_gradients(function, *arrays):
    tensors = [tf.convert_to_tensor(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    zeros = tf.UnconnectedGradients.ZERO
    return value, tape.gradient(value, tensors, unconnected_gradients=zeros)


def on_replicas(count, function, *arrays):
    """Mean value, and per-input gradients summed over replicas and divided by their number."""
    strategy = mirrored(count)
    shards = [np.split(array, count) for array in arrays]

    @tf.function(autograph=False)
    def step(inputs):
        return strategy.run(lambda *rows: value_and_gradients(function, *rows), args=inputs)

    inputs = tuple(
        strategy.experimental_distribute_values_from_function(
            lambda context, parts=parts: tf.constant(parts[context.replica_id_in_sync_group])
        )
        for parts in shards
    )
    value, gradients = step(inputs)
    local = strategy.experimental_local_results
    joined = [np.concatenate([part.numpy() for part in local(g)]) / count for g in gradients]
    return np.mean([part.numpy() for part in local(value)]), joined


def test_every_public_loss_is_listed_and_declares_its_kind():
    assert set(PUBLIC) == set(SCALARS)
    kinds = {name: getattr(losses, name).distributed_kind for name in PUBLIC}
    assert set(kinds.values()) == {"local", "gathered", "reduced"}


def alone(name):
    """Whether every replica computes a loss by itself, as its declaration says."""
    return getattr(getattr(losses, name, None), "distributed_kind", None) == "local"


@pytest.mark.parametrize(
    ("name", "replicas"),
    [
        # Two replicas of a mean of rows differ from one by little that could go wrong.
        pytest.param(name, count, marks=[pytest.mark.slow] * (count == 4 or alone(name)))
        for name in sorted((SCALARS | THREE_VIEWS).keys() - PER_REPLICA)
        for count in (2, 4)
    ],
)
def test_replicas_equal_one_device(name, replicas):
    if len(tf.config.list_logical_devices("CPU")) < replicas:
        pytest.skip("needs logical CPU devices, which conftest.py makes")
    function = (SCALARS | THREE_VIEWS)[name]
    arrays = views()
    want, want_gradients = value_and_gradients(function, *arrays)
    got, gradients = on_replicas(replicas, function, *arrays)
    assert got == pytest.approx(float(want), rel=1e-5, abs=1e-5)
    for mine, other in zip(gradients, want_gradients, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5 * max(1.0, np.abs(other).max()))


@pytest.mark.parametrize("name", sorted(SCALARS))
def test_permuting_the_batch_changes_nothing(name):
    first, second = views()
    order = np.random.default_rng(1).permutation(len(first))
    want = float(SCALARS[name](first, second))
    assert float(SCALARS[name](first[order], second[order])) == pytest.approx(want, rel=1e-4)


@pytest.mark.parametrize(
    "name", ["nt_xent", "byol", "simsiam", "barlow_twins", "vicreg", "vicreg_invariance"]
)
def test_order_of_the_views_does_not_matter(name):
    first, second = views()
    want = float(SCALARS[name](first, second))
    assert float(SCALARS[name](second, first)) == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
    "dtype",
    ["float16", *(pytest.param(d, marks=pytest.mark.slow) for d in ("bfloat16", "float64"))],
)
@pytest.mark.parametrize("name", sorted(SCALARS))
def test_any_dtype_gives_finite_float32(name, dtype):
    first, second = (tf.cast(view * 4.0, dtype) for view in views(32, 16))
    value, gradients = value_and_gradients(SCALARS[name], first, second)
    assert value.dtype == tf.float32
    assert np.isfinite(float(value))
    for gradient in gradients:
        assert np.all(np.isfinite(tf.cast(gradient, "float32")))


@pytest.mark.parametrize("name", sorted(SCALARS))
def test_compiles_with_dynamic_batch(name):
    spec = tf.TensorSpec((None, 5), "float32")
    function = tf.function(
        SCALARS[name], input_signature=[spec, spec], jit_compile=True, autograph=False
    )
    first, second = views()
    want = float(SCALARS[name](first, second))
    assert float(function(first, second)) == pytest.approx(want, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", sorted(SCALARS))
def test_zero_rows_keep_gradients_finite(name):
    _, gradients = value_and_gradients(SCALARS[name], *(0 * view for view in views()))
    for gradient in gradients:
        assert np.all(np.isfinite(gradient))
        assert np.abs(gradient).max() < 1e6


# --- NT-Xent ----------------------------------------------------------------------------------


def test_nt_xent_of_two_orthogonal_images():
    """Both views of an image alike, images orthogonal: log(e^(1/t) + 2) - 1/t."""
    rows = np.eye(2, dtype="float32")
    for temperature in (0.1, 0.5):
        top = 1 / temperature
        want = math.log(math.exp(top) + 2) - top
        got = float(losses.nt_xent([rows, 3 * rows], temperature=temperature))
        assert got == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("count", [2, 3])
def test_nt_xent_tends_to_the_log_of_the_number_of_others(count):
    batch = [*views(), views(seed=3)[0]][:count]
    got = float(losses.nt_xent(batch, temperature=1e6))
    assert got == pytest.approx(math.log(count * 8 - 1), abs=1e-4)


def test_nt_xent_ignores_lengths_and_stays_finite_when_cold():
    first, second = views()
    want = float(losses.nt_xent([first, second]))
    assert float(losses.nt_xent([5 * first, 0.1 * second])) == pytest.approx(want, rel=1e-5)
    assert np.isfinite(float(losses.nt_xent([first, second], temperature=1e-4)))


def test_nt_xent_inside_and_outside_agree_on_two_views_only():
    first, second = views()
    third, _ = views(seed=5)
    two = [losses.nt_xent([first, second], positives=p) for p in ("inside", "outside")]
    three = [losses.nt_xent([first, second, third], positives=p) for p in ("inside", "outside")]
    assert float(two[0]) == pytest.approx(float(two[1]), rel=1e-6)
    # Jensen: the log of a sum over two positives exceeds their mean log by at least log 2.
    assert float(three[0]) <= float(three[1]) - math.log(2) + 1e-5


# --- BYOL, SimSiam ------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [losses.byol, losses.simsiam])
def test_targets_get_no_gradient(loss):
    first, second = views()
    _, (into_predictions, into_targets) = value_and_gradients(
        lambda p, z: loss([p, 2 * p], [z, z + 1]), first, second
    )
    assert np.abs(into_predictions).max() > 0
    assert np.abs(into_targets).max() == 0
    _, (_, direct) = value_and_gradients(losses.negative_cosine, first, second)
    assert np.abs(direct).max() == 0


def test_byol_and_simsiam_at_their_ends():
    first, _ = views()
    assert float(losses.byol([first, first], [first, first])) == pytest.approx(0, abs=1e-5)
    assert float(losses.byol([first, first], [-first, -first])) == pytest.approx(8, rel=1e-5)
    assert float(losses.simsiam([first, first], [first, first])) == pytest.approx(-1, rel=1e-5)


def test_byol_multi_crop_compares_every_other_crop_with_the_large_targets():
    crops = [views(seed=seed)[0] for seed in range(4)]
    want = sum(
        2 + 2 * float(losses.negative_cosine(crops[v], crops[t]))
        for t in range(2)
        for v in range(4)
        if v != t
    )
    assert float(losses.byol(crops, crops[:2])) == pytest.approx(want, rel=1e-5)
    one_way = float(losses.byol(crops[:2], crops[:2], directions=[(0, 1)]))
    assert one_way == pytest.approx(
        2 + 2 * float(losses.negative_cosine(crops[0], crops[1])), rel=1e-5
    )


# --- Barlow Twins -------------------------------------------------------------------------------


def whitened(batch=16, size=4):
    x = np.random.default_rng(0).normal(size=(batch, size))
    q, _ = np.linalg.qr(x - x.mean(0))
    return (q * math.sqrt(batch)).astype("float32")


def test_barlow_is_zero_on_equal_whitened_views():
    z = whitened()
    assert float(losses.barlow_twins(z, z, epsilon=0.0)) == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(
        losses.cross_correlation(z, z, variance="unbiased", epsilon=0.0),
        15 / 16 * np.eye(4),
        atol=1e-5,
    )


def test_barlow_ignores_scale_and_shift_of_features():
    first, second = views(16)
    scale, shift = np.linspace(0.5, 3, 5), np.linspace(-2, 2, 5)
    want = float(losses.barlow_twins(first, second, epsilon=0.0))
    got = losses.barlow_twins((first * scale + shift).astype("float32"), second, epsilon=0.0)
    assert float(got) == pytest.approx(want, rel=1e-4)


def test_barlow_on_a_constant_feature_is_finite_without_epsilon():
    first, second = views()
    first[:, 0] = 1.0
    value, gradients = value_and_gradients(
        lambda a, b: losses.barlow_twins(a, b, epsilon=0.0), first, second
    )
    assert np.isfinite(float(value))
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


# --- VICReg -------------------------------------------------------------------------------------


def test_vicreg_of_a_constant():
    z = np.full((6, 3), 2.0, "float32")
    terms = losses.vicreg([z, z])
    assert float(terms["invariance"]) == 0
    assert float(terms["variance"]) == pytest.approx(25 * 0.99, rel=1e-5)
    assert float(terms["covariance"]) == 0


def test_vicreg_is_zero_on_equal_whitened_views_of_enough_spread():
    z = 1.2 * whitened()
    assert float(sum(losses.vicreg([z, z]).values())) == pytest.approx(0, abs=1e-8)


def test_vicreg_of_more_views_is_the_mean_over_pairs():
    three = [*views(), views(seed=3)[0]]
    total = float(sum(losses.vicreg(three).values()))
    pairs = [(0, 1), (0, 2), (1, 2)]
    each = [float(sum(losses.vicreg([three[v], three[w]]).values())) for v, w in pairs]
    assert total == pytest.approx(np.mean(each), rel=1e-5)


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["nt_xent", "barlow_twins", "cross_correlation", "vicreg", "vicreg_variance"],
)
def test_a_batch_of_one_row_is_refused(name):
    first, second = views(1)
    with pytest.raises(ValueError, match="at least 2 rows"):
        SCALARS[name](first, second)


@pytest.mark.parametrize(
    "name",
    ["nt_xent", "byol", "simsiam", "negative_cosine", "barlow_twins", "vicreg"],
)
def test_different_shapes_are_refused(name):
    first, _ = views(8, 5)
    other, _ = views(8, 6)
    with pytest.raises(ValueError, match="shape"):
        SCALARS[name](first, other)


def test_other_errors():
    first, second = views()
    with pytest.raises(ValueError, match="at least 2 view"):
        losses.nt_xent([first])
    with pytest.raises(ValueError, match="list with one"):
        losses.nt_xent(np.stack([first, second]))
    with pytest.raises(ValueError, match="temperature > 0"):
        losses.nt_xent([first, second], temperature=0.0)
    with pytest.raises(ValueError, match="outside"):
        losses.nt_xent([first, second], positives="both")
    with pytest.raises(ValueError, match="no other|other"):
        losses.byol([first], [first])
    with pytest.raises(ValueError, match="directions"):
        losses.simsiam([first], [first], directions=[(0, 3)])
    with pytest.raises(ValueError, match="biased"):
        losses.barlow_twins(first, second, variance="none")
    with pytest.raises(ValueError, match="Pool or flatten"):
        losses.nt_xent([first[:, :, None], second[:, :, None]])
