# SPDX-License-Identifier: Apache-2.0
"""Callbacks: what they add to the logs and TensorBoard, and when the collapse warning comes."""

import json
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_ssl import losses, models, views
from keras_ssl.backbones import ConvNet
from keras_ssl.callbacks import (
    CollapseWarning,
    OnlineKNN,
    RepresentationMonitor,
    TrainingBoard,
    ViewPictures,
    _collapse,
)
from keras_ssl.evaluation import extract_features, knn_accuracy

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[..., None] / 16).astype("float32"), data.target


@pytest.fixture
def toy():
    """A small supervised stand-in: callbacks need no self-supervised model."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(10, name="logits")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def tags(folder):
    """{tag: [(step, value), ...]} of the scalars, and the set of picture tags, in event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    scalars, pictures = {}, set()
    for file in sorted(folder.glob("events.out.*")):
        reader = EventAccumulator(str(file), size_guidance={"tensors": 0})
        reader.Reload()
        plugins = {tag: reader.SummaryMetadata(tag).plugin_data for tag in reader.Tags()["tensors"]}
        for tag, plugin in plugins.items():
            if plugin.plugin_name == "images":
                pictures.add(tag)
            if plugin.plugin_name != "scalars":
                continue
            for event in reader.Tensors(tag):
                value = float(np.frombuffer(event.tensor_proto.tensor_content, "float32")[0])
                scalars.setdefault(tag, []).append((event.step, value))
    return scalars, pictures


def test_online_knn_is_the_offline_number(toy, digits, tmp_path):
    x, y = digits
    train, test = (x[:300], y[:300]), (x[300:400], y[300:400])
    knn = OnlineKNN(train, test, k=5, log_dir=tmp_path)
    history = toy.fit(x[:256], y[:256], epochs=2, verbose=0, callbacks=[knn]).history
    features = [extract_features(toy, images, verbose=False) for images, _ in (train, test)]
    wanted = knn_accuracy(features[0], train[1], features[1], test[1], k=5)
    assert len(history["knn"]) == 2 and history["knn"][-1] == wanted
    points = tags(tmp_path)[0]["quality/knn"]
    assert [step for step, _ in points] == [8, 16]
    assert points[-1][1] == pytest.approx(wanted)


def test_online_knn_measures_first_last_and_every_few(toy, digits):
    x, y = digits
    seen = []
    knn = OnlineKNN((x[:50], y[:50]), (x[:50], y[:50]), k=1, every=3)
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda _, logs: seen.append("knn" in logs))
    toy.fit(x[:64], y[:64], epochs=5, verbose=0, callbacks=[knn, watch])
    assert seen == [True, False, True, False, True]


def test_online_knn_asks_for_labels(digits):
    x, y = digits
    with pytest.raises(ValueError, match="test has no labels"):
        OnlineKNN((x, y), (x, None))
    with pytest.raises(ValueError, match="one label an image"):
        OnlineKNN((x, y[:3]), (x, y))


def spread(rows=64, dimensions=16):
    return RNG.normal(size=(rows, dimensions)).astype("float32")


def names(z, top=None, *, head=True, limits=None):
    now, limits = _collapse.measure(z), limits or _collapse.CollapseThresholds()
    found = _collapse.signs(now, _collapse.best(top, now), limits, rows=len(z), head=head)
    words = {"feature std": "spread", "RankMe": "rank", "cosine": "cosine", "shrank": "scale"}
    return {short for word, short in words.items() for sign in found if word in sign}


def test_each_sign_is_named():
    assert names(spread()) == set()
    assert names(np.ones((64, 16))) == {"spread", "rank", "cosine"}
    assert names(np.zeros((64, 16))) >= {"spread", "rank"}
    assert names(np.outer(spread(64, 1), spread(1, 16))) == {"rank"}
    assert names(0.01 * spread(), _collapse.measure(spread())) == {"scale"}
    broken = spread()
    broken[3, 3] = np.inf
    now = _collapse.measure(broken)
    found = _collapse.signs(now, now, _collapse.CollapseThresholds(), rows=64)
    assert found == ["they hold NaN or infinity"]


def test_each_threshold_decides_its_sign():
    z = spread(64, 16)
    line = np.outer(spread(64, 1), spread(1, 16)) + 0.1 * spread()
    for name, value, where, sign in (
        ("feature_std", 1.0, z, "spread"),
        ("rank_me", 16.5, z, "rank"),
        ("cosine", 0.0, z + 0.5, "cosine"),
        ("shrunk", 1.0, 0.9 * z, "scale"),
        ("fallen_feature_std", 1.0, z + 3.0, "spread"),
        ("fallen_rank_me", 1.0, line, "rank"),
    ):
        changed = _collapse.CollapseThresholds(**{name: value})
        assert names(where, _collapse.measure(z)) == set(), name
        assert names(where, _collapse.measure(z), limits=changed) == {sign}, name
    # What fell by less than the share is none.
    changed = _collapse.CollapseThresholds(fallen_feature_std=1.0, fallen=0.01)
    assert names(z + 3.0, _collapse.measure(z), limits=changed) == set()
    even = _collapse.Assignment(prototypes=64, each=0.5, together=0.5)
    kinds = {"even": "uniform", "one_hot": "one-hot"}
    for name, value in {"even": 0.4, "one_hot": 0.6}.items():
        assert not _collapse.assignment_signs(even, _collapse.CollapseThresholds())
        (found,) = _collapse.assignment_signs(even, _collapse.CollapseThresholds(**{name: value}))
        assert kinds[name] in found
    with pytest.raises(ValueError, match="cosine is 2.0, expected a number from 0 to 1"):
        _collapse.CollapseThresholds(cosine=2.0)


def test_each_sign_has_a_remedy_of_the_methods_that_show_it():
    limits, wide = _collapse.CollapseThresholds(), _collapse.measure(spread())

    def remedy(z):
        now = _collapse.measure(z)
        found = _collapse.signs(now, _collapse.best(wide, now), limits, rows=64, head=True)
        return _collapse.advice(found)

    assert "clipnorm" in remedy(np.full((64, 16), np.nan))
    assert "stop-gradient on the targets (SimSiam)" in remedy(np.ones((64, 16)))
    assert "variance weight (VICReg)" in remedy(0.01 * spread())
    assert "off-diagonal in Barlow Twins" in remedy(np.outer(spread(64, 1), spread(1, 16)))
    # All in one direction but apart in length: complete too.
    assert "BYOL" in _collapse.advice(["their RankMe is 1.0", "their mean pairwise cosine is 1.0"])
    for each, together, word in ((1.0, 1.0, "Lower the teacher's temperature"), (0, 0, "centre")):
        found = _collapse.assignment_signs(_collapse.Assignment(64, each, together), limits)
        assert word in _collapse.advice(found)


def test_monitor_takes_thresholds(toy, digits):
    x, y = digits
    strict = _collapse.CollapseThresholds(rank_me=100.0)
    monitor = RepresentationMonitor(x[:32], patience=1, warmup_steps=0, thresholds=strict)
    with pytest.warns(CollapseWarning, match="RankMe.*off-diagonal"):
        toy.fit(x[:32], y[:32], verbose=0, callbacks=[monitor])


def test_a_fresh_network_is_no_collapse_but_falling_there_is():
    low = spread() * 0.06 + np.ones(16, "float32")
    assert names(low) == set()
    assert names(low, _collapse.measure(spread())) >= {"spread"}
    # Below a head, such a fall is usual.
    assert names(low, _collapse.measure(spread()), head=False) == set()


def test_monitor_logs_its_numbers_and_warns_once(toy, digits, tmp_path):
    x, y = digits
    toy.get_layer("logits").set_weights([np.zeros((64, 10)), np.ones(10)])
    toy.compile(keras.optimizers.SGD(0.0), toy.loss)
    monitor = RepresentationMonitor(x[:64], every_steps=25, log_dir=tmp_path)
    with pytest.warns(CollapseWarning, match="step 50.*RankMe.*cosine.*stop-gradient") as caught:
        history = toy.fit(x[:960], y[:960], epochs=3, verbose=0, callbacks=[monitor]).history
    assert len([w for w in caught if w.category is CollapseWarning]) == 1
    assert history["feature_std"] == [0.0] * 3
    assert history["rank_me"] == pytest.approx([1.0] * 3, abs=1e-3)
    steps = [step for step, _ in tags(tmp_path)[0]["quality/rank_me"]]
    assert steps == [0, 25, 30, 50, 60, 75, 90]


def test_monitor_names_broken_numbers_at_once(toy, digits):
    x, y = digits
    toy.get_layer("logits").set_weights([np.full((64, 10), np.nan), np.ones(10)])
    with pytest.warns(CollapseWarning, match="step 0.*NaN or infinity.*clipnorm"):
        toy.fit(x[:32], y[:32], verbose=0, callbacks=[RepresentationMonitor(x[:8])])


@pytest.mark.parametrize("execution", [1, 4])
def test_monitor_does_not_change_training(toy, digits, execution):
    x, y = digits
    start = toy.get_weights()
    results = []
    for callbacks in ([], [RepresentationMonitor(x[:32], every_steps=5)]):
        toy.compile("sgd", toy.loss, steps_per_execution=execution)
        toy.set_weights(start)
        toy.fit(x[:512], y[:512], verbose=0, shuffle=False, callbacks=callbacks)
        results.append(toy.get_weights())
    assert [step for step, _ in callbacks[0].measurements][0] == 0
    assert len(callbacks[0].measurements) >= 4
    for plain, watched in zip(*results, strict=True):
        np.testing.assert_array_equal(plain, watched)


class NoStopGradient(models.SimSiam):
    """SimSiam with the gradient flowing into its targets."""

    def compute_losses(self, views, training):
        first, second = (self.project(view, training) for view in views)

        def cosine(z, target):
            prediction = losses.normalize(self.predictor(z, training=training))
            return -ops.mean(ops.sum(prediction * losses.normalize(target), axis=-1))

        return {"negative_cosine": (cosine(first, second) + cosine(second, first)) / 2}


def constant_encoder():
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(32, 3)(inputs))
    return keras.Model(inputs, keras.layers.Rescaling(0.0, offset=1.0)(outputs))


def model(kind):
    """A small model of digits that collapses, or does not, and its optimizer."""
    keras.utils.set_random_seed(0)
    shared = {"views": views.get("digits", image_shape=(8, 8, 1)), "seed": 0}
    encoder = constant_encoder() if kind == "constant" else ConvNet((8, 8, 1), (16, 32), seed=0)
    make = {
        "no stop-gradient": lambda: NoStopGradient(encoder, (64, 64, 64), (32, 64), **shared),
        "teacher without momentum or predictor": lambda: models.BYOL(
            encoder, (64, 32), predictor=None, momentum=0.0, **shared
        ),
        "no variance": lambda: models.VICReg(encoder, (64, 64, 64), variance=0.0, **shared),
        "constant": lambda: models.SimCLR(encoder, (64, 32), **shared),
        "simclr": lambda: models.SimCLR(encoder, (64, 32), **shared),
        "simsiam": lambda: models.SimSiam(encoder, (64, 64, 64), (32, 64), **shared),
        "byol": lambda: models.BYOL(encoder, (64, 32), (64, 32), momentum=0.99, **shared),
        "vicreg": lambda: models.VICReg(encoder, (64, 64, 64), **shared),
    }[kind]()
    # Without the variance term embeddings shrink, at Adam's pace only over hundreds of steps.
    sgd = keras.optimizers.SGD(0.02, momentum=0.9)
    make.compile(sgd if kind == "no variance" else keras.optimizers.Adam(1e-2))
    return make


COLLAPSES = (
    pytest.param("no stop-gradient", marks=pytest.mark.slow),
    pytest.param("teacher without momentum or predictor", marks=pytest.mark.slow),
    pytest.param("no variance", marks=pytest.mark.slow),
    "constant",
)


@pytest.mark.parametrize("kind", COLLAPSES)
def test_a_seeded_collapse_warns_within_100_steps(kind, digits):
    images = digits[0][:1600]
    monitor = RepresentationMonitor(digits[0][-192:])
    with pytest.warns(CollapseWarning):
        model(kind).fit(images, batch_size=64, epochs=4, verbose=0, callbacks=[monitor])
    assert monitor.warned[0][0] <= 100


@pytest.mark.parametrize(
    "kind",
    [pytest.param(k, marks=pytest.mark.slow) for k in ("simclr", "simsiam", "byol", "vicreg")],
)
def test_500_healthy_steps_do_not_warn(kind, digits):
    images = digits[0][:1600]
    monitor = RepresentationMonitor(digits[0][-192:])
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        model(kind).fit(images, batch_size=64, epochs=20, verbose=0, callbacks=[monitor])
    assert monitor.measurements[-1][0] == 500 and not monitor.warned


@pytest.mark.usefixtures("without_graphs")
def test_one_page_holds_losses_schedules_quality_and_views(digits, tmp_path):
    x, y = digits
    byol = model("byol")
    callbacks = [
        OnlineKNN((x[:200], y[:200]), (x[200:300], y[200:300]), k=5, log_dir=tmp_path),
        RepresentationMonitor(x[-64:], every_steps=2, log_dir=tmp_path),
        ViewPictures(x, tmp_path),
        TrainingBoard(tmp_path, every_steps=2),
    ]
    history = byol.fit(x[:256], batch_size=64, epochs=2, verbose=0, callbacks=callbacks).history
    assert len(list(tmp_path.glob("events.out.*"))) == 1
    scalars, pictures = tags(tmp_path)
    assert pictures == {"views"}
    groups = {"loss": "total byol", "schedule": "learning_rate teacher_momentum"}
    groups["update_norm"] = "encoder projector predictor"
    groups["quality"] = "knn rank_me feature_std projection_rank_me projection_feature_std"
    assert set(scalars) == {f"{g}/{tag}" for g, names in groups.items() for tag in names.split()}
    assert [step for step, _ in scalars["loss/byol"]] == [2, 4, 6, 8]
    assert scalars["loss/byol"][-1][1] == pytest.approx(history["byol"][-1], rel=1e-5)
    assert scalars["schedule/teacher_momentum"][-1][1] == pytest.approx(0.99)
    assert scalars["schedule/learning_rate"][-1][1] == pytest.approx(1e-2)
    assert {step for step, _ in scalars["quality/knn"]} == {4, 8}
    charts = custom_charts(tmp_path)
    assert {category: list(own) for category, own in charts.items()} == {
        "Learning": ["Losses", "Accuracy", "RankMe", "Feature std"],
        "Optimisation": ["Learning rate", "Momentum of teachers", "Norms of updates"],
    }
    assert charts["Learning"]["RankMe"] == {"quality/rank_me", "quality/projection_rank_me"}
    updates = charts["Optimisation"]["Norms of updates"]
    assert updates == {tag for tag in scalars if tag.startswith("update_norm/")}
    # Every scalar stands in one chart.
    shown = [tag for own in charts.values() for found in own.values() for tag in found]
    assert sorted(shown) == sorted(scalars)


def custom_charts(folder):
    """{category: {chart: tags}} as TensorBoard's server tells its page."""
    from tensorboard import context
    from tensorboard.backend.event_processing import data_provider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.custom_scalar import custom_scalars_plugin
    from tensorboard.plugins.scalar import scalars_plugin

    reader = EventMultiplexer().AddRunsFromDirectory(str(folder)).Reload()
    given = data_provider.MultiplexerDataProvider(reader, str(folder))
    scalars = scalars_plugin.ScalarsPlugin(base_plugin.TBContext(data_provider=given))
    page = custom_scalars_plugin.CustomScalarsPlugin(
        base_plugin.TBContext(
            data_provider=given, plugin_name_to_instance={"scalars": scalars}, logdir=str(folder)
        )
    )
    page.get_plugin_apps()
    found = json.loads(page.layout_impl(context.RequestContext(), ""))
    return {
        category["title"]: {
            chart["title"]: set(
                page.scalars_impl(context.RequestContext(), ".", chart["multiline"]["tag"][0], "")[
                    "tag_to_events"
                ]
            )
            for chart in category["chart"]
        }
        for category in found["category"]
    }


@pytest.mark.usefixtures("without_graphs")
def test_pictures_do_not_change_training(digits, tmp_path):
    x, results = digits[0], []
    for callbacks in ([], [ViewPictures(x, tmp_path)]):
        simclr = model("simclr")
        history = simclr.fit(
            x[:128], batch_size=64, epochs=2, verbose=0, shuffle=False, callbacks=callbacks
        )
        results.append(history.history["loss"])
    assert results[0] == results[1]


def test_pictures_ask_for_images_and_views(toy, digits, tmp_path):
    x, y = digits
    with pytest.raises(ValueError, match="expected .N, height"):
        ViewPictures(x[0], tmp_path)
    with pytest.raises(ValueError, match="has no `views`"):
        toy.fit(x[:8], y[:8], verbose=0, callbacks=[ViewPictures(x, tmp_path)])


def test_schedules_show_their_current_value(toy, digits, tmp_path):
    x, y = digits
    decay = keras.optimizers.schedules.PolynomialDecay(1.0, 8, 0.0)
    toy.compile(keras.optimizers.AdamW(decay, weight_decay=0.05), toy.loss)
    board = TrainingBoard(tmp_path, every_steps=None)
    toy.fit(x[:128], y[:128], validation_split=0.5, verbose=0, epochs=2, callbacks=[board])
    scalars, _ = tags(tmp_path)
    assert [v for _, v in scalars["schedule/learning_rate"]] == pytest.approx([0.75, 0.5])
    assert scalars["schedule/weight_decay"][0][1] == pytest.approx(0.05)
    assert len(scalars["loss/validation_loss"]) == len(scalars["loss/total"]) == 2
