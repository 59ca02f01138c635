# SPDX-License-Identifier: Apache-2.0
"""Ratio gradients of hidden patches in windows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import small_tokens

from keras_ssl import evaluation, masking, models, optimizers, schedules, targets, views
from keras_ssl.backbones import VisionTransformer
from keras_ssl.core import distribution

SEED = distribution.fixed_seed(3)


def sar(network=None, **options):
    defaults = {"masking": masking.WindowMasking(2, (3, 3)), "decoder": (12, 1, 2), "views": None}
    defaults |= {"target": targets.RatioGradientTarget((4, 4), (1, 2)), "seed": 0}
    return models.SARJEPA(network or small_tokens("SARJEPA"), **{**defaults, **options})


def radar(rows=4, seed=0):
    return np.random.default_rng(seed).uniform(size=(rows, 16, 16, 1)).astype("float32")


# --- targets ---


def test_speckle_multiplies_and_ratios_do_not_care():
    x = radar() + 0.1
    found = [np.asarray(targets.ratio_gradient(s * x, 3, 1e-7)) for s in (1.0, 7.0)]
    np.testing.assert_allclose(*found, atol=1e-5)
    assert np.ptp(found[0]) > 0.1
    edges = [sum(np.abs(np.asarray(part)).sum() for part in targets.sobel(s * x)) for s in (1, 7)]
    assert edges[1] == pytest.approx(7 * edges[0], rel=1e-5)
    assert np.all(np.asarray(targets.ratio_gradient(0 * x + 0.3, 3)) == 0.0)
    # Values below 0, such as a stretched contrast makes, have no logarithm.
    assert np.all(np.isfinite(targets.ratio_gradient(-x, 2)))


def test_halves_are_those_of_the_square_around_a_pixel():
    x, radius, row, column = radar(1)[0, ..., 0], 2, 5, 2
    padded = np.pad(x, radius, mode="reflect") + 0.01
    square = padded[row : row + 2 * radius + 1, column : column + 2 * radius + 1]
    along = np.log(square[:, : radius + 1].sum() / square[:, radius:].sum())
    down = np.log(square[: radius + 1].sum() / square[radius:].sum())
    found = targets.ratio_gradient(x[None, ..., None], radius)[0, row, column, 0]
    assert float(found) == pytest.approx(np.hypot(along, down), rel=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: targets.ratio_gradient(radar(1), 16), "images must be larger"),
        (lambda: targets.RatioGradientTarget((4, 4), ()), "at least one radius"),
        (lambda: targets.RatioGradientTarget((4, 4), offset=0.0), "a positive offset"),
        (lambda: targets.RatioGradientTarget((4,)), "patch .height, width."),
        (lambda: sar(target=None), "larger than every radius"),
        (lambda: masking.WindowMasking(0), "at least 1 window"),
        (lambda: masking.WindowMasking(1, (2, 2), 0.2), "no hidden"),
        (lambda: sar(masking=masking.WindowMasking(1, (5, 5))), "need a grid .rows, columns."),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        print(make())


# --- windows ---


@pytest.mark.slow
def test_windows_are_squares_whose_tokens_are_mostly_hidden():
    layer, grid, rows = masking.WindowMasking(), (14, 14), 50

    @tf.function(jit_compile=True, autograph=False)
    def draw(seed):
        plan = layer.plan(rows, grid, seed)
        return plan.mask, plan.keep, plan.weight

    tops, hidden = [], []
    for step in range(40):
        mask, keep, weight = (np.asarray(x) for x in draw(distribution.fixed_seed(step)))
        assert keep.shape == (rows, 4, 49) and np.all(keep == keep[:1])
        down, along = keep[0, :, 0] // 14, keep[0, :, 0] % 14
        assert len(set(down)) == len(set(along)) == 4 and max(*down, *along) <= 7
        places = np.add.outer(np.arange(7) * 14, np.arange(7)).reshape(-1)
        assert np.array_equal(keep[0], keep[0, :, :1] + places)
        assert np.all(weight.sum(2) == int(49 * 0.8))
        # Seen is what is not hidden of the window itself.
        assert np.array_equal(np.take_along_axis(mask, keep, 2), weight)
        assert np.all((1 - mask).sum(2) == 10)
        tops += list(down)
        hidden.append(weight)
    assert draw.experimental_get_tracing_count() == 1
    assert set(tops) == set(range(8))
    share = np.concatenate(hidden).mean((0, 1))
    assert np.all(np.abs(share - 39 / 49) < 0.05) and np.ptp(np.array(hidden), axis=1).max() == 1
    # A grid with fewer places repeats them.
    few = np.asarray(masking.WindowMasking(5, (3, 3)).plan(2, (4, 4), SEED).keep)[0, :, 0]
    assert set(few // 4) == set(few % 4) == {0, 1}


def test_a_picture_shows_window_by_window():
    layer = masking.WindowMasking(2, (3, 3))
    picture = np.asarray(masking.show(layer, (4, 4), rows=3, cell=4)).reshape(-1, 3)
    seen, hidden = ((picture == c).all(1).sum() for c in ((0, 121, 107), (255, 179, 0)))
    # Two of nine tokens of six windows, whose cells are 9 to 16 pixels large.
    assert 12 * 9 <= seen <= 12 * 16 and 42 * 9 <= hidden <= 42 * 16


def test_each_window_is_seen_and_predicted_by_itself():
    model, x = sar(), radar()
    plan = model.plan_for(x, model.encoder, SEED)
    found = float(model.compute_losses({"inputs": x, "plan": plan}, False)["reconstruction"])
    wanted, errors = np.asarray(model.target(x)), []
    for window in range(2):
        ids, mask = plan.keep[:, window], plan.mask[:, window]
        alone = masking.MaskPlan(mask, ids, replaced=plan.replaced[:, window])
        encoded = model.encoder.encode(x, alone, model.mask_token)
        assert encoded.shape == (4, 9, 12)
        asked = alone._replace(decode=ids[:, :0])
        made = np.asarray(model.decoder(encoded, plan=asked, grid=(4, 4), seen=True))
        truth = np.take_along_axis(wanted, np.asarray(ids)[..., None], 1)
        hidden = np.asarray(plan.weight[:, window]) > 0
        errors.append(((made - truth) ** 2).mean(-1)[hidden])
    assert found == pytest.approx(np.concatenate(errors).mean(), rel=1e-5)
    # Nothing outside of the windows is seen, nor what is hidden inside.
    seen = (1 - np.asarray(plan.mask)).max(1).reshape(4, 4, 4)
    blind = np.where(seen.repeat(4, 1).repeat(4, 2)[..., None] > 0, x, 0.5).astype("float32")
    model.target = lambda inputs, training: wanted
    views = {"inputs": blind, "plan": plan}
    assert float(model.compute_losses(views, False)["reconstruction"]) == pytest.approx(found, 1e-6)
    # The decoder has a token that stands for nothing here.
    assert all(v is not model.decoder.mask_token for v in model.trainable_variables)


def test_views_stay_as_they_are_measured():
    for side in (32, 224):
        crop, flip, contrast, normalize = (
            views.get("sar_jepa", (side, side, 1)).pipelines[0].transforms
        )
        assert crop.area == (0.2, 1.0) and (contrast.contrast, contrast.brightness) == (0.5, 0.0)
        assert contrast.probability == 1.0
        one = np.asarray(normalize.apply(radar(1), {}))
        np.testing.assert_array_equal(one, radar(1))


def test_what_is_cut_into_windows_has_no_picture():
    model = sar(target=targets.PixelTarget((4, 4)))
    with pytest.raises(ValueError, match="hides parts of windows"):
        model.reconstruct(radar())


@pytest.mark.slow
def test_gradients_tell_digits(data_dir):
    """Digits under speckle: a linear probe on the trained and on the untrained encoder."""
    keras.utils.set_random_seed(0)
    with np.load(data_dir / "image" / "mnist_t10k.npz") as z:
        x, y = z["image"][..., None] / 255.0, z["label"]
    speckle = np.random.default_rng(0).exponential(size=x.shape)
    x = np.clip((0.2 + x) * speckle / 4.0, 0.0, 1.0).astype("float32")
    encoder = VisionTransformer(
        "tiny",
        (28, 28, 1),
        4,
        width=64,
        depth=3,
        heads=4,
        pooling="mean",
        positions="sincos",
        kernel_initializer="glorot_uniform",
        seed=0,
    )
    model = models.SARJEPA(
        encoder,
        masking.WindowMasking(4, (4, 4), 0.7),
        (48, 1, 4),
        targets.RatioGradientTarget((4, 4), (2, 4)),
        views=None,
        seed=0,
    )

    def probe():
        found = np.asarray(model.predict(x, batch_size=200, verbose=0))
        return evaluation.linear_probe(found[:5000], y[:5000], found[5000:], y[5000:])

    start, steps = probe(), 400
    rate = schedules.WarmupCosine(2e-3, total_steps=steps, warmup_steps=40)
    model.compile(optimizers.AdamW(rate, beta_2=0.95, weight_decay=0.05))
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(5000) for _ in range(11)])[: steps * 128]
    model.fit(x[rows], batch_size=128, shuffle=False, verbose=0)
    assert probe() > start + 0.03
