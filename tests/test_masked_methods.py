# SPDX-License-Identifier: Apache-2.0
"""What each masked method adds to the engine."""

import keras
import numpy as np
import pytest
from model_test import encoder_for, images, samples, small_transformer
from test_masked import digit_encoder, learn_digits

from keras_ssl import backbones, losses, masking, models, targets, tokens
from keras_ssl.core import distribution

SEED = distribution.fixed_seed(3)
DECODER = (12, 1, 2)


def floats(rows=4):
    return images(rows).astype("float32") / 255.0


def terms(model, inputs, plan):
    found = model.compute_losses({"inputs": inputs, "plan": plan}, False)
    return {name: float(value) for name, value in found.items()}


# --- SimMIM ---


def test_simmim_sees_mask_tokens_where_units_are_hidden():
    model, x = models.SimMIM(small_transformer(), unit=(8, 8), views=None, seed=0), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    assert plan.keep is None and np.asarray(plan.mask).sum(1).tolist() == [12] * 4
    units = np.asarray(plan.mask).reshape(4, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(16, 4)
    assert set(units.sum(1)) == {0, 4}
    hidden = np.asarray(tokens.spread(plan.mask, (4, 4), (4, 4)))
    other = np.where(hidden > 0, 0.5, x).astype("float32")
    assert np.array_equal(model.encode(x, plan), model.encode(other, plan))
    assert terms(model, x, plan) != terms(model, other, plan)


def test_simmim_is_the_mean_absolute_error_of_hidden_pixels():
    model, x = models.SimMIM(small_transformer(), unit=(4, 8), views=None, seed=0), floats()
    plan = model.plan_for(x, model.encoder, SEED)
    predicted = model.decoder(model.encode(x, plan), plan=plan, grid=(4, 4))
    picture = np.asarray(model.target.to_pixels(predicted, x), "float64")
    hidden = np.broadcast_to(tokens.spread(plan.mask, (4, 4), (4, 4)), x.shape) > 0
    want = np.abs(picture - x)[hidden].mean()
    assert terms(model, x, plan)["reconstruction"] == pytest.approx(want, rel=1e-5)
    assert terms(model, x, masking.MaskPlan(0 * plan.mask))["reconstruction"] == 0.0


def test_simmim_units_follow_the_paper_and_must_fit():
    encoder = backbones.VisionTransformer("tiny", (224, 224, 3), 16, width=12, depth=1, heads=2)
    assert models.SimMIM(encoder).unit == (32, 32)
    assert models.SimMIM(encoder).masking.group == (2, 2)
    with pytest.raises(ValueError, match="do not tile a grid"):
        models.SimMIM(small_transformer(), unit=(12, 12), views=None)


# --- GMML ---


@pytest.mark.parametrize(
    ("share", "align"), [pytest.param(0.75, 1, marks=pytest.mark.slow), (0.6, 4)]
)
def test_corruption_covers_its_share_by_at_most_one_rectangle_more(share, align):
    layer = masking.GroupCorruption(share, alien=0.0, align=align)
    x = np.random.default_rng(0).normal(size=(200, 32, 32, 3)).astype("float32")
    corrupted, mask = (np.asarray(part) for part in layer(x, seed=SEED))
    covered = mask.mean(axis=(1, 2, 3))
    longest = max(0.3, align / 32)
    assert covered.min() >= min(share, 0.5) - 1e-6
    assert covered.max() <= share + longest**2 + 1e-6
    assert np.ptp(covered) > 0.05
    clean = np.broadcast_to(mask == 0, x.shape)
    assert np.array_equal(corrupted[clean], x[clean])
    noise = corrupted[~clean]
    assert abs(noise.mean()) < 0.01 and noise.std() == pytest.approx(1.0, abs=0.01)
    if align > 1:
        blocks = mask.reshape(200, 32 // align, align, 32 // align, align).mean(axis=(2, 4))
        assert set(np.unique(blocks)) == {0.0, 1.0}


def test_alien_pixels_are_those_of_another_image_of_the_batch():
    layer = masking.GroupCorruption(alien=1.0, alien_share=0.3)
    x = np.random.default_rng(0).normal(size=(6, 16, 16, 3)).astype("float32")
    corrupted, mask = (np.asarray(part) for part in layer(x, seed=SEED))
    donors = np.asarray(layer.donors(keras.ops.convert_to_tensor(x), SEED))
    assert not any(np.array_equal(a, b) for a, b in zip(donors, x, strict=True))
    for row in range(6):
        inside = mask[row, ..., 0] > 0
        assert inside.any()
        found = [d for d in range(6) if np.array_equal(corrupted[row][inside], x[d][inside])]
        assert len(found) == 1 and found[0] != row


def test_gmml_counts_overwritten_pixels_of_the_whole_batch_and_no_others():
    model, x = models.GMML(small_transformer(depth=4), views=None, seed=0), floats(8)
    assert model.blocks == (2, 3, 4)
    views = model.make_views(x)
    predicted = model.predict_tokens(views["corrupted"])
    picture = np.asarray(model.target.to_pixels(predicted, x), "float64")
    inside = np.broadcast_to(views["mask"], x.shape) > 0
    want = np.abs(picture - x)[inside].mean()
    got = float(model.compute_losses(views, False)["reconstruction"])
    assert got == pytest.approx(want, rel=1e-5)
    other = {**views, "inputs": np.where(inside, x, 0.0).astype("float32")}
    assert float(model.compute_losses(other, False)["reconstruction"]) == pytest.approx(got, 1e-6)


def test_gmml_decodes_the_mean_of_several_blocks():
    encoder, x = small_transformer(depth=4), floats()
    both = [np.asarray(encoder.encode(x, blocks=[n])) for n in (2, 4)]
    mean = np.asarray(encoder.encode(x, blocks=[2, 4]))
    assert not np.allclose(mean, both[1])
    # Norms stand behind the mean, so it is no mean of the norms; it lies in their plane.
    centred = [b - b.mean(-1, keepdims=True) for b in (*both, mean)]
    stacked = np.stack([c.reshape(-1, c.shape[-1]) for c in centred], axis=1)
    assert np.linalg.svd(stacked, compute_uv=False)[:, 2].max() < 1e-3


# --- ColorMAE, ThoraxMAE, AudioMAE, SignalMAE ---


def test_colormae_is_mae_with_coloured_masks():
    x = floats()
    ours = models.ColorMAE(small_transformer(), 0.5, "red", decoder=DECODER, views=None, seed=1)
    plain = models.MAE(
        small_transformer(), masking.ColoredMasking("red", 0.5), DECODER, views=None, seed=1
    )
    plans = [m.plan_for(x, m.encoder, SEED) for m in (ours, plain)]
    assert np.array_equal(plans[0].keep, plans[1].keep)
    assert terms(ours, x, plans[0]) == terms(plain, x, plans[1])
    assert ours.masking.color == "red"
    with pytest.raises(ValueError, match="color must be one of"):
        models.ColorMAE(small_transformer(), color="pink")


def test_presets_hide_what_their_papers_do():
    shapes = {models.ThoraxMAE: (224, 224, 1), models.AudioMAE: (1024, 128, 1)}
    visible = {models.ThoraxMAE: 19, models.AudioMAE: 102}
    for cls, shape in shapes.items():
        encoder = backbones.VisionTransformer("tiny", shape, 16, width=12, depth=1, heads=2)
        model = cls(encoder, decoder=DECODER)
        assert model.masking.visible(encoder.grid) == visible[cls], cls
        assert model.target.normalize == "patch"


def test_signals_can_hide_spans():
    encoder = encoder_for(models.SignalMAE)
    model = models.SignalMAE(encoder, masking.SpanMasking(3, 0.5), DECODER)
    plan = model.plan_for(samples(models.SignalMAE, 4), encoder, SEED)
    assert plan.hidden.shape == (4, 8)


# --- VideoMAE V2 ---


def test_two_masks_of_a_video():
    encoder, x = encoder_for(models.VideoMAEV2), samples(models.VideoMAEV2, 4)
    options = {"masking": 0.75, "decoder": DECODER, "seed": 1}
    both = models.VideoMAEV2(encoder, **options)
    plan = both.plan_for(x, encoder, SEED)
    assert plan.keep.shape == (4, 2 * 4) and plan.decode.shape == (4, 16)
    tubes = np.asarray(plan.mask).reshape(4, 2, 16)
    assert np.array_equal(tubes[:, 0], tubes[:, 1])
    predicted = np.asarray(both.decoder(both.encode(x, plan), plan=plan, grid=encoder.grid))
    wanted = np.asarray(tokens.gather_tokens(both.target(x), plan.decode))
    hidden = np.take_along_axis(np.asarray(plan.mask), np.asarray(plan.decode), 1) > 0
    want = ((predicted - wanted) ** 2).mean(-1)[hidden].mean()
    assert terms(both, x, plan)["reconstruction"] == pytest.approx(want, rel=1e-5)
    single = models.VideoMAEV2(encoder, decode=None, **options)
    whole = single.plan_for(x, encoder, SEED)
    assert np.array_equal(whole.keep, plan.keep) and whole.decode.shape == (4, 24)


def test_video_targets_are_standardised_by_channel():
    target = models.VideoMAEV2(encoder_for(models.VideoMAEV2), decoder=DECODER, masking=0.7).target
    assert (target.normalize, target.epsilon_inside, target.unbiased) == ("channel", False, True)


# --- Uni4Eye ---


def uni4eye():
    return models.Uni4Eye(
        small_transformer(), (8, 8, 8, 1), (4, 4, 4), decoder_size=DECODER, seed=0
    )


@pytest.mark.slow
def test_images_and_volumes_move_the_same_blocks():
    batch = samples(models.Uni4Eye, 4)
    for name, other in (("image", "volume_encoder"), ("volume", "encoder")):
        model = uni4eye()
        model.compile(keras.optimizers.SGD(0.1))
        blocks = [np.asarray(v) for v in model.encoder.blocks[0].weights]
        tokenizer = [np.asarray(v) for v in getattr(model, other).tokenizer.weights]
        model.fit(batch[name], batch_size=4, verbose=0)
        now = zip(blocks, model.encoder.blocks[0].weights, strict=True)
        assert sum(not np.array_equal(a, b) for a, b in now) > len(blocks) // 2
        still = zip(tokenizer, getattr(model, other).tokenizer.weights, strict=True)
        assert all(np.array_equal(a, b) for a, b in still)
    assert model.volume_encoder.blocks[0] is model.encoder.blocks[0]


def test_both_kinds_weigh_the_same():
    model, batch = uni4eye(), samples(models.Uni4Eye, 4)
    views = model.make_views(batch)
    both = model.compute_losses(views, False)
    single = [model.compute_losses({name: views[name]}, False) for name in ("image", "volume")]
    for term in ("pixels", "gradients"):
        want = np.mean([float(one[term]) for one in single])
        assert float(both[term]) == pytest.approx(want, rel=1e-6)
    assert isinstance(model.target["gradients"], targets.GradientTarget)


@pytest.mark.slow
def test_images_and_volumes_take_turns():
    model, batch = uni4eye(), samples(models.Uni4Eye, 4)
    model.compile(keras.optimizers.SGD(0.1))
    for name in ("image", "volume", "image"):
        found = model.predict(batch[name], batch_size=3, verbose=0)
        np.testing.assert_allclose(found, model(batch[name]), atol=1e-5)
    for name in ("image", "volume"):
        model.fit(batch[name], batch_size=4, verbose=0)


def test_uni4eye_refuses_what_is_neither():
    model, batch = uni4eye(), samples(models.Uni4Eye, 4)
    with pytest.raises(ValueError, match='needs "image" and "volume"; the batch has .*image'):
        model.make_views({"image": batch["image"]})
    with pytest.raises(ValueError, match="takes images .* or volumes"):
        model.make_views(np.zeros((4, 8, 8), "float32"))
    with pytest.raises(ValueError, match="does not tile"):
        models.Uni4Eye(small_transformer(), (9, 8, 8, 1), (4, 4, 4))


# --- LV-MAE ---


@pytest.mark.parametrize("importance", [False, True])
def test_padding_changes_nothing(importance):
    """Unpadded samples of one length, and the same with padding of any content."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 8, 5)).astype("float32")
    found = []
    for length in (8, 12):
        tokenizer = tokens.EmbeddingTokenizer(12, seed=0)
        shapes = {"vectors": (length, 5), "real": (length,)}
        encoder = backbones.TokenTransformer(tokenizer, shapes, 1, 2, seed=0)
        model = models.LVMAE(encoder, 0.5, DECODER, importance=importance, seed=0)
        vectors = np.concatenate([x, 9.0 + rng.normal(size=(4, length - 8, 5))], axis=1)
        real = np.arange(length)[None] < 8 + np.zeros((4, 1))
        inputs = {"vectors": vectors.astype("float32"), "real": real}
        plan = model.draw_plan(inputs, encoder)
        if not importance:
            # Other numbers are drawn for other lengths: the same order of the real ones.
            order = np.concatenate([np.arange(8)[::-1], np.arange(8, length)])
            order = np.broadcast_to(order, (4, length)).astype("int32")
            plain = masking.plan_in_order(order, length // 2)
            plan = masking.only_real(plain, real, 0.5)
        assert np.asarray(plan.weight).sum(1).tolist() == [4] * 4
        found.append((terms(model, inputs, plan)["reconstruction"], np.asarray(model(inputs))))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-5)


def test_the_scale_of_an_embedding_does_not_matter():
    encoder, x = encoder_for(models.LVMAE), samples(models.LVMAE, 4)
    model = models.LVMAE(encoder, decoder=DECODER, seed=0)
    plan = model.draw_plan(x, encoder)
    encoded = model.encode(x, plan)
    predicted = model.decoder(encoded, plan=plan, grid=encoder.grid)
    wanted = tokens.gather_tokens(model.target(x), plan.decode)
    found = [
        float(losses.token_error(predicted, wanted * scale, plan.weight, "cosine"))
        for scale in (1.0, 7.0)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert terms(model, x, plan)["reconstruction"] == pytest.approx(found[0], rel=1e-6)


# --- learning ---


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "options"),
    [
        (models.SimMIM, {"unit": (4, 4)}),
        (models.GMML, {}),
        (models.ColorMAE, {"decoder": (32, 2, 4)}),
        # A tenth of 16 patches is one.
        (models.ThoraxMAE, {"decoder": (32, 2, 4)}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_digits_are_told_apart_with_few_labels(cls, options):
    """With 50 labels; the gains were 0.12, 0.09, 0.21 and 0.06, two standard errors are 0.04."""
    model = cls(digit_encoder(), views=None, seed=0, **options)
    _, random, trained = learn_digits(model)
    assert trained > random + 0.04
