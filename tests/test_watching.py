# SPDX-License-Identifier: Apache-2.0
"""Callbacks that act on what they see: a probe beside, a stop, the best encoder."""

import keras
import numpy as np
import pytest
from model_test import images, light_views, smooth_encoder
from sklearn.datasets import load_digits

from keras_ssl import evaluation, models
from keras_ssl.callbacks import (
    BestEncoder,
    CollapseWarning,
    OnlineKNN,
    OnlineProbe,
    RepresentationMonitor,
    StopOnCollapse,
)


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    x = (data.images[..., None] / 16).astype("float32")
    return (x[:1200], data.target[:1200]), (x[1200:], data.target[1200:])


@pytest.fixture
def encoder():
    """A small network that trains on something else than the probe's labels."""
    keras.utils.set_random_seed(0)
    start = keras.initializers.HeNormal
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(48, "relu", kernel_initializer=start(seed=0))(x)
    model = keras.Model(inputs, x)
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def fit(model, epochs, callbacks, rate=0.0):
    model.optimizer.learning_rate = rate
    x = np.zeros((16, 8, 8, 1), "float32")
    return model.fit(x, np.zeros((16, 48)), epochs=epochs, verbose=0, callbacks=callbacks).history


def test_the_probe_nears_logistic_regression_and_never_touches_the_encoder(encoder, digits):
    before = encoder.get_weights()
    probe = OnlineProbe(*digits)
    history = fit(encoder, 5, [probe])["probe"]
    assert history[0] < history[-1]
    features = [encoder.predict(part[0], verbose=0) for part in digits]
    wanted = evaluation.linear_probe(features[0], digits[0][1], features[1], digits[1][1])
    assert history[-1] > wanted - 0.02, (history, wanted)
    for one, other in zip(before, encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert probe.classifier.optimizer is not encoder.optimizer


def test_it_measures_when_asked_leaves_out_the_unlabelled_and_repeats(encoder, digits):
    (x, y), test = ((x[:300], y[:300]) for x, y in digits)
    half = np.where(np.arange(300) % 2, y, -1)
    one = fit(encoder, 5, [OnlineProbe((x, half), test, every=4, passes=1)])["probe"]
    # The first, the fourth and the last epoch.
    assert len(one) == 3
    again = fit(encoder, 5, [OnlineProbe((x, half), test, every=4, passes=1)])["probe"]
    labelled = (x[1::2], y[1::2])
    only = fit(encoder, 5, [OnlineProbe(labelled, test, every=4, passes=1)])["probe"]
    assert one == again == only


def test_a_collapse_ends_training_and_a_healthy_run_goes_on():
    x = images(32)
    options = {"every_steps": 1, "patience": 1, "warmup_steps": 0}
    for scale, epochs in ((1.0, 2), (0.0, 1)):
        model = models.SimCLR(smooth_encoder(), (8, 8), views=light_views(), seed=0)
        model.compile(keras.optimizers.SGD(0.01))
        model.run_eagerly = True
        kernel = next(w for w in model.encoder.weights if w.ndim == 4)
        kernel.assign(scale * kernel)
        watch = StopOnCollapse(x, **options)
        if scale:
            found = model.fit(x, batch_size=16, epochs=2, verbose=0, callbacks=[watch])
            assert watch.stopped_step is None
        else:
            with pytest.warns(CollapseWarning):
                found = model.fit(x, batch_size=16, epochs=2, verbose=0, callbacks=[watch])
            assert watch.stopped_step is not None and watch.stopped_step <= 2
        assert len(found.epoch) == epochs


def test_the_encoder_of_the_best_epoch_is_kept(tmp_path):
    class Given(keras.callbacks.Callback):
        """Numbers as if measured."""

        values = (1.0, 3.0, float("nan"), 2.0)

        def on_epoch_end(self, epoch, logs=None):
            logs["rank_me"] = self.values[epoch]

    x, kept = images(16), {}
    model = models.SimCLR(smooth_encoder(), (8, 8), views=light_views(), seed=0)
    model.compile(keras.optimizers.SGD(0.05))
    model.run_eagerly = True
    best = BestEncoder(tmp_path / "deep" / "best.keras")
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: kept.update(
            {epoch: model.standalone_encoder().predict(x, verbose=0)}
        )
    )
    model.fit(x, batch_size=16, epochs=4, verbose=0, callbacks=[Given(), best, note])
    assert (best.best, best.best_epoch) == (3.0, 1)
    loaded = keras.saving.load_model(tmp_path / "deep" / "best.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), kept[1])
    assert np.abs(kept[1] - kept[3]).max() > 1e-4
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["best.keras"]
    least = BestEncoder(tmp_path / "least.keras", "val_loss")
    assert least.mode == "min"


def test_rank_me_is_a_criterion(tmp_path):
    x = images(16)
    model = models.SimCLR(smooth_encoder(), (8, 8), views=light_views(), seed=0)
    model.compile(keras.optimizers.SGD(0.05))
    model.run_eagerly = True
    watch = [RepresentationMonitor(x, every_steps=5), BestEncoder(tmp_path / "best.keras")]
    ranks = model.fit(x, batch_size=16, epochs=2, verbose=0, callbacks=watch).history["rank_me"]
    assert watch[1].best == pytest.approx(max(ranks)) and (tmp_path / "best.keras").exists()


def test_mistakes_are_named(encoder, digits, tmp_path):
    with pytest.raises(ValueError, match="no labels"):
        OnlineProbe((digits[0][0], None), digits[1])
    with pytest.raises(ValueError, match="passes is 0"):
        OnlineProbe(*digits, passes=0)
    nothing = np.full(len(digits[0][0]), -1)
    for wrong, match in ((nothing, "no labelled row"), (nothing + 1, "two classes")):
        with pytest.raises(ValueError, match=match):
            OnlineProbe((digits[0][0], wrong), digits[1])
    with pytest.raises(ValueError, match="no labelled row"):
        OnlineKNN(digits[0], (digits[0][0], nothing))
    with pytest.raises(ValueError, match="k is 20, expected 1 to 10"):
        OnlineKNN((digits[0][0][:10], digits[0][1][:10]), digits[1], k=20)
    encoder.layers[-1].bias.assign(np.full(48, np.nan))
    for broken in (OnlineProbe(*digits), OnlineKNN(*digits)):
        with pytest.raises(ValueError, match="NaN or infinity"):
            fit(encoder, 1, [broken])
    with pytest.raises(ValueError, match="of its own"):
        fit(encoder, 1, [OnlineProbe(*digits, optimizer=encoder.optimizer)])
    with pytest.raises(ValueError, match=r"\.keras file"):
        BestEncoder("best.h5")
    with pytest.raises(ValueError, match="in front of BestEncoder"):
        fit(encoder, 1, [BestEncoder(tmp_path / "best.keras")])
