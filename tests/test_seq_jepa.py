# SPDX-License-Identifier: Apache-2.0
"""seq-JEPA: what changes between views, what a prediction depends on, and what it learns."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import images, light_views, smooth_encoder

import keras_ssl
from keras_ssl import callbacks, models, tokens, views
from keras_ssl.core import distribution

pytestmark = pytest.mark.usefixtures("without_graphs")


def draws(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def seq_jepa(**options):
    """A model of sequences of vectors of six numbers, four parameters each."""
    vectors = keras.Input((6,))
    x = keras.layers.Dense(8, "tanh", kernel_initializer=keras.initializers.HeNormal(0))(vectors)
    defaults = {"actions": 4, "action_width": 4, "aggregator": (1, 2), "predictor": 8}
    defaults |= {"momentum": 0.9, "watch": 0, "seed": 0}
    return models.SeqJEPA(keras.Model(vectors, x), **{**defaults, **options})


def sequences(rows=6, count=4, seed=0):
    return {
        "views": draws(rows, count, 6, seed=seed),
        "actions": draws(rows, count, 4, seed=seed + 1),
    }


# --- what changes between views ---


def test_what_changes_is_what_happened_to_the_pictures():
    layer = views.SequenceWithParameters(views.Pipeline([views.HorizontalFlip()]), count=5)
    made = layer(images(20), seed=3)
    pictures, flipped = np.asarray(made["views"]), np.asarray(made["actions"])
    assert layer.names == ["flip"] and flipped.shape == (20, 4, 1)
    assert 0.3 < flipped.mean() < 0.7
    before = np.where(flipped[..., None, None] == 1, pictures[:, :-1, :, ::-1], pictures[:, :-1])
    np.testing.assert_allclose(pictures[:, 1:], before, atol=1e-6)


def test_changes_are_those_of_two_views_between_neighbours():
    view = light_views().first
    layer, pair = views.SequenceWithParameters(view, 3), views.WithParameters(view)
    batch, seed = images(8), distribution.fixed_seed(5)
    made, (both, latent) = layer(batch, seed=seed), pair(batch, seed=seed)
    np.testing.assert_array_equal(made["views"][:, :2], np.stack(both, axis=1))
    np.testing.assert_array_equal(made["actions"][:, 0], latent)
    assert layer.names == pair.names
    shapes = layer.compute_output_shape((8, 16, 16, 3))
    assert shapes == {name: tuple(part.shape) for name, part in made.items()}
    again = views.SequenceWithParameters.from_config(layer.get_config())
    np.testing.assert_array_equal(again(batch, seed=seed)["views"], made["views"])
    assert views.show(layer, batch, count=2, cell=16).size == (2 * 18 + 2, 4 * 18 + 2)


def test_the_last_view_has_a_pipeline_of_its_own():
    always, never = (views.Pipeline([views.HorizontalFlip(p)]) for p in (1.0, 0.0))
    layer = views.SequenceWithParameters(views.TwoViews(always, never), 3)
    actions = np.asarray(layer(images(4), seed=0)["actions"])
    assert actions[..., 0].tolist() == [[0.0, 1.0]] * 4
    with pytest.raises(ValueError, match="at least 2 views; got Pipeline and count=1"):
        views.SequenceWithParameters(always, 1)


# --- what a prediction depends on ---


def test_the_order_of_tokens_does_not_matter():
    layer, x = tokens.SequenceAggregator(2, 2, seed=0), draws(5, 4, 8)
    layer.build(x.shape)
    layer.token.assign(draws(8, seed=1))
    found = np.asarray(layer(x))
    np.testing.assert_allclose(layer(x[:, [2, 0, 3, 1]]), found, atol=1e-5)
    assert np.abs(found - np.asarray(layer(x[:, [0, 0, 1, 2]]))).max() > 1e-2
    again = tokens.SequenceAggregator.from_config(layer.get_config())
    again.build(x.shape)
    again.token.assign(layer.token)
    np.testing.assert_array_equal(again(x), found)


def test_changes_count_and_not_parameters_themselves():
    model, batch = seq_jepa(), sequences()
    moved = {**batch, "actions": batch["actions"] + 3.0}
    relative = {**batch, "actions": np.diff(batch["actions"], axis=1)}
    want = model.compute_losses(model.make_views(batch), False)["prediction"]
    for other in (moved, relative):
        found = model.compute_losses(model.make_views(other), False)["prediction"]
        assert float(found) == pytest.approx(float(want), rel=1e-5)
    other = {**batch, "actions": batch["actions"][::-1]}
    found = model.compute_losses(model.make_views(other), False)["prediction"]
    assert abs(float(found) - float(want)) > 1e-4


def test_the_change_to_come_takes_no_part_in_the_aggregate():
    model, batch = seq_jepa(), sequences()
    later = {**batch, "actions": batch["actions"] + np.eye(4)[3][:, None]}
    found = []
    for x in (batch, later):
        x = {"views": x["views"][:, :3], "actions": x["actions"][:, :3]}
        found.append(model.represent(x)["aggregate"])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("momentum", [0.9, None])
def test_no_gradient_reaches_the_target(momentum):
    model = seq_jepa(momentum=momentum)
    x = {name: tf.constant(part) for name, part in sequences().items()}
    with tf.GradientTape() as tape:
        tape.watch(x["views"])
        loss = model.compute_losses(x, True)["prediction"]
    gradient = np.asarray(tape.gradient(loss, x["views"]))
    assert np.all(gradient[:, -1] == 0.0)
    assert np.all(np.abs(gradient[:, :-1]).max(axis=(0, 2)) > 0.0)
    assert bool(model.teachers()) == (momentum is not None)


def test_the_teacher_follows():
    model = seq_jepa()
    teacher = model.teacher_encoder.network
    old = teacher.get_weights()
    model.compile(keras.optimizers.SGD(0.5))
    model.fit(sequences(16), batch_size=16, verbose=0)
    for before, mine, student in zip(old, teacher.weights, model.encoder.weights, strict=True):
        np.testing.assert_allclose(mine, 0.9 * before + 0.1 * np.asarray(student), atol=1e-6)
        assert np.abs(np.asarray(mine) - before).max() > 0.0
    x, found = sequences(), []
    for _ in range(2):
        found.append(float(model.compute_losses(x, False)["prediction"]))
        # It is what is predicted.
        teacher.set_weights([-np.asarray(weight) for weight in teacher.weights])
    assert found[1] == pytest.approx(2.0 - found[0], abs=1e-5) and found[0] != found[1]


def test_both_representations_come_out():
    model, batch = seq_jepa(), sequences()
    found = model.represent(batch)
    assert found["views"].shape == (6, 4, 8) and found["aggregate"].shape == (6, 12)
    np.testing.assert_allclose(model(batch["views"][:, 2]), found["views"][:, 2], atol=1e-6)
    np.testing.assert_array_equal(model.predict(batch, verbose=0), found["views"])
    options = {"context": 2, "action_width": 8, "aggregator": (1, 2), "predictor": 8}
    model = models.SeqJEPA(smooth_encoder(), views=light_views(), watch=0, seed=0, **options)
    first, again = (model.represent(images(4))["aggregate"] for _ in range(2))
    assert first.shape == (4, 24)
    np.testing.assert_array_equal(first, again)
    assert model.represent(images(4))["views"].shape == (4, 3, 16)


def test_sequences_of_pictures_train_and_are_watched(tmp_path):
    options = {"actions": 2, "action_width": 8, "aggregator": (1, 2), "predictor": 8, "seed": 0}
    model = models.SeqJEPA(smooth_encoder(), watch=6, **options)
    model.compile(keras.optimizers.SGD(0.01))
    pictures = np.stack([images(8, seed=n) for n in range(3)], axis=1)
    batch = {"views": pictures, "actions": draws(8, 3, 2)}
    seen = model.make_views(batch)["views"]
    np.testing.assert_allclose(seen, pictures / 255.0, atol=1e-6)
    history = model.fit(batch, batch_size=4, verbose=0).history
    assert {"prediction", "rank_me", "feature_std"} <= set(history)
    given = callbacks.RepresentationMonitor(pictures[:, 0])
    model.fit(batch, batch_size=4, verbose=0, callbacks=[given])
    assert len(given.measurements[-1][1]) == 1
    one, two = (model.evaluate(batch, verbose=0, return_dict=True) for _ in range(2))
    assert one == two
    model.save(tmp_path / "seq.keras")
    loaded = keras_ssl.load_model(tmp_path / "seq.keras")
    np.testing.assert_array_equal(loaded(pictures[:, 0]), model(pictures[:, 0]))
    found = [m.represent(batch)["aggregate"] for m in (model, loaded)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b["views"], r"takes sequences.*received shape \(6, 4, 6\)"),
        (lambda b: {"views": b["views"]}, r"received keys \['views'\]"),
        (lambda b: {**b, "views": b["views"][:, :1]}, "S known and at least 2"),
        (lambda b: {**b, "views": b["views"][..., :5]}, r"\(batch, S, 6\)"),
        (lambda b: {**b, "actions": b["actions"][..., :3]}, "needs 4 parameters"),
        (lambda b: {**b, "actions": b["actions"][:, :2]}, r"of the 4 views.*\(6, 2, 4\)"),
    ],
)
def test_data_of_the_wrong_kind_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        seq_jepa().make_views(change(sequences()))


def test_wrong_settings_are_named():
    with pytest.raises(ValueError, match="tokens of 12 numbers, which 5 heads do not divide"):
        seq_jepa(aggregator=(1, 5))
    with pytest.raises(ValueError, match="gives 7 numbers; the encoder's vectors have 8"):
        seq_jepa(predictor=keras.layers.Dense(7))
    with pytest.raises(ValueError, match="depth and heads of at least 1"):
        tokens.SequenceAggregator(0)
    crop = views.Pipeline([views.RandomResizedCrop(8)])
    with pytest.raises(ValueError, match=r"views are of \(8, 8, 3\)"):
        models.SeqJEPA(smooth_encoder(), views=crop)
    model = models.SeqJEPA(smooth_encoder(), views=light_views(), aggregator=(1, 2))
    with pytest.raises(ValueError, match=r"takes images.*received keys .'actions', 'views'"):
        model.make_views(sequences())


# --- what it learns ---

# L, P, T, F and h: none of them looks the same turned around.
GLYPHS = ("#....#....#....#....#####", "####.#...#####.#....#....", "#####..#....#....#....#..")
GLYPHS += ("######....####.#....#....", "#....#....###..#..#.#..#.")


def glyphs(rows, seed, size=16):
    """Pictures `(B, 16, 16, 1)` of five upright signs of random size and brightness; and which."""
    rng = np.random.default_rng(seed)
    shapes = np.array([[c == "#" for c in sign] for sign in GLYPHS]).reshape(-1, 5, 5)
    kind, side = rng.integers(len(shapes), size=rows), rng.uniform(7.0, 10.0, (rows, 1))
    place = np.floor((np.arange(size) + 0.5 - size / 2) / side * 5 + 2.5).astype(int)
    inside = (place >= 0) & (place < 5)
    place = np.clip(place, 0, 4)
    pictures = shapes[kind[:, None, None], place[:, :, None], place[:, None, :]]
    pictures = (
        pictures * inside[:, :, None] * inside[:, None, :] * rng.uniform(0.6, 1.0, (rows, 1, 1))
    )
    pictures = pictures + rng.normal(0.0, 0.02, pictures.shape)
    return np.clip(pictures, 0.0, 1.0).astype("float32")[..., None], kind


def network():
    pictures = x = keras.Input((16, 16, 1))
    for index, width in enumerate((16, 32, 32)):
        start = keras.initializers.HeNormal(seed=index)
        x = keras.layers.Conv2D(width, 3, 2, "same", use_bias=False, kernel_initializer=start)(x)
        x = keras.layers.ReLU()(keras_ssl.layers.batch_norm()(x))
    start = keras.initializers.HeNormal(seed=7)
    x = keras.layers.Dense(32, kernel_initializer=start)(keras.layers.Flatten()(x))
    return keras.Model(pictures, x)


def solved(x, y, rows, ridge=1.0):
    """What ridge regression on the first rows says of the others."""
    x = (x - x[:rows].mean(0)) / (x[:rows].std(0) + 1e-6)
    middle = y[:rows].mean(0)
    inverse = x[:rows].T @ x[:rows] + ridge * np.eye(x.shape[1])
    return x[rows:] @ np.linalg.solve(inverse, x[:rows].T @ (y[:rows] - middle)) + middle


def rotation(codes, actions):
    """R² of the rotation from one view to the next, from the codes of both."""
    first, second = codes[:, 0], codes[:, 1]
    products = np.einsum("bi,bj->bij", first, second).reshape(len(first), -1)
    x, y = np.concatenate([first, second, products], axis=1), actions[:, 0]
    rows = len(x) * 3 // 4
    error = (y[rows:] - solved(x, y, rows, 100.0)) ** 2
    return 1.0 - error.sum() / ((y[rows:] - y[:rows].mean(0)) ** 2).sum()


def which(x, kind):
    """Share of signs that a linear classifier of least squares finds."""
    rows = len(x) * 3 // 4
    found = solved(x, np.eye(len(GLYPHS))[kind], rows)
    return np.mean(found.argmax(1) == kind[rows:])


@pytest.mark.slow
def test_views_know_their_rotation_and_the_aggregate_what_is_seen():
    turn = views.Pipeline([views.Affine(rotation=180.0)])
    pictures, _ = glyphs(20_000, 0)
    test, kind = glyphs(6000, 1)
    shown = views.SequenceWithParameters(turn, 4)(test, seed=9)
    shown, actions = (np.asarray(shown[name]) for name in ("views", "actions"))

    def codes(network):
        made = network.predict(shown.reshape(-1, 16, 16, 1), batch_size=500, verbose=0)
        return made.reshape(len(shown), 4, -1)

    options = {"action_width": 32, "aggregator": (2, 4), "predictor": 256, "watch": 0, "seed": 0}
    model = models.SeqJEPA(network(), views=turn, momentum=0.99, **options)
    invariant = models.SimCLR(network(), (64, 32), 0.2, views.TwoViews(turn), seed=0)
    turned = {"untrained": rotation(codes(network()), actions)}
    for name, one in (("seq-JEPA", model), ("SimCLR", invariant)):
        one.compile(keras.optimizers.Adam(1e-3))
        one.fit(pictures, batch_size=128, epochs=2, verbose=0)
        turned[name] = rotation(codes(one.encoder), actions)
    # The same views, of the same seed.
    both = {name: np.asarray(part) for name, part in model.represent(test, seed=9).items()}
    seen = {"view": which(both["views"][:, 0], kind), "aggregate": which(both["aggregate"], kind)}
    print(f"R² of the rotation: {turned}; share of signs found: {seen}")
    # Found: 0.85, 0.32 and 0.66 untrained; 0.81 of the aggregate, 0.70 of a view.
    assert turned["seq-JEPA"] > max(0.75, turned["SimCLR"] + 0.2, turned["untrained"] + 0.1)
    assert seen["aggregate"] > max(0.7, seen["view"])
