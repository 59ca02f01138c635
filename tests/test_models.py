# SPDX-License-Identifier: Apache-2.0
"""Every model keeps the engine's promises; what is particular to each follows."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import (
    VOLUME,
    build,
    check_replicas,
    images,
    light_views,
    nested_views,
    one_view,
    run_model_test,
    samples,
    small_tokens,
    small_transformer,
    train,
)

from keras_ssl import backbones, masking, models, targets
from keras_ssl.core import methods

BLOCKS = {
    "masking": masking.MultiBlockMasking(2, least=2, attempts=2),
    "predictor": (12, 1, 2),
    "momentum": 0.9,
    "watch": 0,
}
TUBES = {
    "masking": masking.SeveralMaskings(
        [masking.MultiTubeMasking(n, (s, s), attempts=1) for n, s in ((2, 0.2), (1, 0.5))]
    ),
    "predictor": (12, 1, 2),
    "watch": 0,
}
SMALL = {
    models.SimCLR: {"projector": (16, 8), "temperature": 0.5},
    models.BYOL: {"projector": (16, 8), "predictor": (16, 8), "momentum": 0.9},
    models.SimSiam: {"projector": (16, 16, 16), "predictor": (8, 16)},
    models.BarlowTwins: {"projector": (16, 16, 16)},
    models.VICReg: {"projector": (16, 16, 16)},
    # 40 is no multiple of the batch: the queue wraps around.
    models.MoCoV2: {"projector": (16, 8), "queue_size": 40, "momentum": 0.9},
    models.MoCoV3: {"projector": (16, 8), "predictor": (16, 8), "momentum": 0.9},
    models.DCL: {"projector": (16, 8)},
    models.DCLW: {"projector": (16, 8)},
    models.NNCLR: {
        "projector": (16, 16, 8),
        "predictor": (16, 8),
        "queue_size": 40,
        "temperature": 0.5,
    },
    models.CACR: {"projector": (16, 8)},
    models.SupCon: {"projector": (16, 8)},
    models.DirectPred: {"projector": (16, 8), "momentum": 0.9},
    models.MixedBarlowTwins: {"projector": (16, 16)},
    # Of 32 slices the ReLUs of the projector flip one too soon for 1e-5 on two replicas.
    models.LeJEPA: {"projector": (16, 16, 8), "slices": 64},
    models.SIE: {"projector": (16, 16, 16)},
    models.GSimCLR: {"projector": (16, 8), "temperature": 0.5},
    models.Hydra: {"classes": 4, "projector": (16, 8), "gate": (8, 16), "temperature": 0.5},
    models.SLA: {"classes": 4, "views": one_view()},
    # One layer: two more that start so small would let rounding errors grow a thousandfold.
    models.DINO: {
        "projector": (8,),
        "prototypes": 12,
        "momentum": 0.9,
        "freeze_steps": 1,
        "student_temperature": 0.5,
        "teacher_temperature": 0.2,
    },
    models.IBOT: {
        "projector": (8,),
        "prototypes": 12,
        "momentum": 0.9,
        "freeze_steps": 1,
        "student_temperature": 0.5,
        "teacher_temperature": 0.2,
        "patch_temperature": 0.2,
    },
    # Class tokens of so small an encoder differ by hundredths; batch norms would make that 1, and
    # rounding errors a hundred times as large.
    models.MMC: {
        "projector": (16, 8),
        "predictor": (16, 8),
        "head_batch_norm": False,
        "patch_projector": (8,),
        "prototypes": 12,
        "momentum": 0.9,
        "freeze_steps": 1,
    },
    models.Franca: {
        "projector": (8,),
        "prototypes": 12,
        "levels": (6, 12),
        "momentum": 0.9,
        "freeze_steps": 1,
    },
    # The queue is full after two of the batches, and in use.
    models.SwAV: {"projector": (16, 8), "prototypes": 6, "queue_size": 24, "freeze_steps": 1},
    models.DeepClusterV2: {
        "samples": 16,
        "projector": (16, 8),
        "prototypes": (5, 4, 3),
        "recluster_every": 2,
    },
    models.MAE: {"decoder": (12, 1, 2)},
    models.SimMIM: {"unit": (4, 4)},
    models.GMML: {},
    # Without batch norms for the same reason as MMC.
    models.SiT: {
        "projector": (16, 8),
        "head_batch_norm": False,
        "momentum": 0.9,
        "views": light_views(),
        "rotation_weight": 0.5,
    },
    models.SparK: {"decoder": 8},
    # Of 16 patches the share of the paper leaves none.
    models.CropMAE: {"masking": 0.9, "decoder": (12, 1, 2), "views": nested_views()},
    models.CAE: {"codes": 5, "regressor": (2, 2), "decoder": (1, 2)},
    models.ColorMAE: {"decoder": (12, 1, 2)},
    models.MixedAE: {"decoder": (12, 1, 2)},
    models.VideoMAEV2: {"masking": 0.7, "decoder": (12, 1, 2)},
    models.Uni4Eye: {
        "volume_shape": VOLUME,
        "volume_patch": (2, 2, 4),
        "decoder_size": (12, 1, 2),
    },
    models.PositionPrediction: {},
    models.ThoraxMAE: {"decoder": (12, 1, 2)},
    models.LVMAE: {"decoder": (12, 1, 2)},
    models.AudioMAE: {"decoder": (12, 2, 2), "window": (2, 2)},
    models.SignalMAE: {"decoder": (12, 1, 2)},
    models.MaskAlign: {"teacher": small_transformer(width=8, seed=7), "levels": 1},
    models.G2SD: {
        "teacher": models.MAE(small_transformer(width=8, seed=7), decoder=(8, 1, 2), seed=7),
        "decoder": (12, 1, 2),
        "teacher_block": 1,
    },
    models.Noise2Score: {"level": 0.5, "scale": (0.5, 0.25), "anneal_steps": 4},
    models.SparseAutoencoder: {"latents": 24, "activation": "topk", "k": 4, "normalize": True},
    models.HybridDistillation: {
        "teacher": small_transformer(width=8, seed=7),
        "relation_teacher": small_transformer(width=16, seed=8),
        # Where relations are, so that they are those of what is left.
        "drop_before": (1,),
    },
    models.IJEPA: BLOCKS,
    models.VJEPA: {**TUBES, "momentum": 0.9, "variance_weight": 0.1},
    models.SparseJEPA: {**BLOCKS, "groups": 3, "sparsity": 1e-3},
    models.TJEPA: {"predictor": (12, 1, 2), "momentum": 0.9, "watch": 0},
    models.SeqJEPA: {
        "context": 2,
        "action_width": 8,
        "aggregator": (1, 2),
        "predictor": 16,
        "momentum": 0.9,
        "watch": 0,
    },
    models.ACTJEPA: {
        "actions": 2,
        "chunk": 3,
        "predictor": (8, 1, 2),
        "decoder": (8, 1, 2),
        "momentum": 0.9,
        "watch": 0,
    },
    models.DSeqJEPA: {**BLOCKS, "regions": 3, "least": 0.1},
    models.ECGJEPA: {
        "masking": masking.ContiguousMasking(least=2),
        "predictor": (12, 1, 2),
        "momentum": 0.9,
        "watch": 0,
    },
    models.EEGVJEPA: {**TUBES, "momentum": 0.9},
    models.SARJEPA: {
        "masking": masking.WindowMasking(2, (3, 3)),
        "decoder": (12, 1, 2),
        "target": targets.RatioGradientTarget((4, 4), (1, 2)),
        "views": None,
    },
    models.SALT: {**TUBES, "teacher": small_tokens("SALT", 8, seed=7), "teacher_epochs": 0},
}
# Every method with state of its own, a teacher, a queue or statistics (BYOL, MoCo v3 and NNCLR have
# MoCo v2's, iBOT and MMC DINO's), by the numbers of devices. Tracing four, compiling and half
# precisions cost as much as all the rest, so one method of each engine has them; of the others two
# devices, compiling and half precisions are slow tests.
WHOLE = (models.MoCoV2, models.MAE)
REPLICAS = {
    models.MoCoV2: (1, 2, 4),
    models.MAE: (1, 2, 4),
    models.DirectPred: (1, 2),
    models.DINO: (1, 2),
    models.SparK: (1, 2),
    models.IJEPA: (1, 2),
}


@pytest.mark.parametrize("cls", list(SMALL), ids=lambda c: c.__name__)
def test_model(cls):
    run_model_test(cls, SMALL[cls], REPLICAS.get(cls, ()), compiled=cls in WHOLE)


@pytest.mark.slow
@pytest.mark.parametrize(
    "cls",
    # Franca's KoLeo is each device's own: its replicas are tested without.
    [c for c in SMALL if c not in (*WHOLE, models.Franca)],
    ids=lambda c: c.__name__,
)
def test_model_in_full(cls):
    run_model_test(cls, SMALL[cls], (1, 2), compiled=True)


@pytest.mark.slow
def test_replicas_with_the_views_of_the_paper():
    check_replicas(models.SimCLR, SMALL[models.SimCLR], own_views=True)


def test_every_method_is_tested():
    package = {n for n, m in methods().items() if m.cls.__module__.startswith("keras_ssl.")}
    assert {c.__name__ for c in SMALL} == package


# Shape of one sample by modality, None for any size; names of the parts where it has several.
KINDS = {
    "image": (None, None, None),
    "medical image": (None, None, None),
    "radar image": (None, None, 1),
    "audio": (None, None, 1),
    "video": (None, None, None, None),
    "signal": (None, None),
    "vectors": (None,),
    "table": {"numeric", "categorical"},
    "sequence of embeddings": {"vectors", "real"},
    "trajectories": {"observations", "actions", "real", "labelled"},
    "image and volume": {"image", "volume"},
}


@pytest.mark.parametrize("cls", list(SMALL), ids=lambda c: c.__name__)
def test_the_row_of_a_method_is_of_its_modality(cls):
    kind, found = KINDS[methods()[cls.__name__].modality], samples(cls, 2)
    if isinstance(kind, set):
        assert set(found) == kind
        return
    sizes = zip(found.shape[1:], kind, strict=True)
    assert all(wanted in (None, size) for size, wanted in sizes)


def test_byol_teacher_follows_after_the_step():
    model = build(models.BYOL, SMALL[models.BYOL])
    before = [np.asarray(v) for v in model.teacher_encoder.network.trainable_variables]
    assert before == [], "no teacher variable may be trainable"
    student, teacher = model.encoder.weights, model.teacher_encoder.network.weights
    old = [np.asarray(v) for v in teacher]
    train(model, 1)
    for mine, theirs, previous in zip(teacher, student, old, strict=True):
        if "moving" in mine.path:
            continue
        expected = 0.9 * previous + 0.1 * np.asarray(theirs)
        np.testing.assert_allclose(np.asarray(mine), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("policy", ["own", "average", "copy"])
def test_teacher_batch_norm_policies(policy):
    model = build(models.BYOL, {**SMALL[models.BYOL], "batch_norm": policy})
    # The first step sees equal networks, whose statistics are equal under every policy.
    train(model, 2)
    norms = [
        (t, s)
        for t, s in zip(model.teacher_encoder.network.weights, model.encoder.weights, strict=True)
        if "moving_mean" in t.path
    ]
    same = all(np.array_equal(np.asarray(t), np.asarray(s)) for t, s in norms)
    moved = any(np.any(np.asarray(t) != 0) for t, _ in norms)
    assert norms and moved
    assert same == (policy == "copy")


def test_teacher_waits_for_the_optimizer_under_accumulation():
    optimizer = keras.optimizers.SGD(0.1, gradient_accumulation_steps=2)
    model = build(models.BYOL, SMALL[models.BYOL], optimizer=optimizer)
    start = [np.asarray(v) for v in model.teacher_projector.network.weights]
    kernel = start[0]
    train(model, 1)
    assert np.array_equal(np.asarray(model.teacher_projector.network.weights[0]), kernel)
    train(model, 1)
    assert not np.array_equal(np.asarray(model.teacher_projector.network.weights[0]), kernel)


def test_stopped_gradient_reaches_no_target():
    model = build(models.SimSiam, SMALL[models.SimSiam])
    views = model.make_views(tf.constant(images()))
    with tf.GradientTape() as tape:
        first = model.project(views[0], True)
        from keras_ssl import losses

        loss = losses.simsiam([tf.stop_gradient(first)], [first], directions=[(0, 0)])
    assert tape.gradient(loss, first) is None


@pytest.mark.parametrize("rows", [17, 24])
def test_short_last_batch_on_one_replica(rows):
    model = build(models.SimCLR, SMALL[models.SimCLR])
    history = model.fit(images(rows), batch_size=16, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    # 17 = 16 + 1: a single row has no negatives and is left out; 24 = 16 + 8 is exact.
    assert int(model.optimizer.iterations) == (2 if rows == 17 else 4)


@pytest.mark.slow
def test_short_last_batch_on_two_replicas():
    model = build(models.SimCLR, SMALL[models.SimCLR], replicas=2)
    history = model.fit(images(21), batch_size=8, epochs=2, verbose=0).history
    assert np.all(np.isfinite(history["loss"]))
    assert model.optimizer.iterations.numpy() == 4
    # The step that finds the epoch exhausted must not move the seeds.
    assert np.asarray(model.view_generator.state.value.values[0])[1] == 4


@pytest.mark.parametrize("form", ["dataset", "pairs", "pydataset", "array"])
def test_forms_of_data(form):
    model = build(models.SimCLR, SMALL[models.SimCLR])
    x, y = images(16), np.zeros(16, "int64")

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return x[index * 8 : index * 8 + 8], y[:8]

    data = {
        "dataset": tf.data.Dataset.from_tensor_slices(x).batch(8),
        "pairs": tf.data.Dataset.from_tensor_slices((x, y)).batch(8),
        "pydataset": Batches(),
        "array": x,
    }[form]
    model.fit(data, batch_size=8 if form == "array" else None, verbose=0)
    assert int(model.optimizer.iterations) == 2


def test_steps_per_execution_gives_the_same_numbers():
    results = []
    for steps in (1, 4):
        model = build(models.SimCLR, SMALL[models.SimCLR])
        model.compile(keras.optimizers.SGD(0.05), steps_per_execution=steps)
        data = tf.data.Dataset.from_tensor_slices(images(32)).batch(8, drop_remainder=True)
        results.append(model.fit(data, verbose=0).history["loss"][0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-5)


def test_regularization_is_a_named_term():
    inputs = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, kernel_regularizer="l2")(inputs)
    encoder = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))
    model = build(models.SimCLR, SMALL[models.SimCLR], encoder=encoder)
    log = train(model, 1)[0]
    assert log["regularization"] > 0
    assert log["loss"] == pytest.approx(log["nt_xent"] + log["regularization"], rel=1e-5)


def test_unsynchronised_batch_norm_warns_and_names_it():
    encoder = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Conv2D(4, 3),
            keras.layers.BatchNormalization(name="lonely"),
            keras.layers.GlobalAveragePooling2D(),
        ]
    )
    with pytest.warns(UserWarning, match="lonely"):
        build(models.SimCLR, SMALL[models.SimCLR], replicas=2, encoder=None).check_replicas(2)
        build(models.SimCLR, SMALL[models.SimCLR], encoder=encoder).check_replicas(2)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda m: m.compile("sgd", loss="mse"), "its own objective"),
        (lambda m: m.fit(images(4)[..., :1], verbose=0), "takes images"),
        (lambda m: m.fit(images(4)[0], verbose=0), "takes images"),
        (lambda m: m.fit(images(1), verbose=0), "at least 2"),
        (lambda m: m.fit(images(0), verbose=0), "empty"),
        (lambda m: m.fit(images(8), batch_size=1, verbose=0), "at least 2 rows"),
    ],
)
def test_bad_input_is_named(action, message):
    model = build(models.SimCLR, SMALL[models.SimCLR])
    with pytest.raises(ValueError, match=message):
        action(model)


def test_head_of_another_width_is_named():
    head = keras.Sequential([keras.Input((7,)), keras.layers.Dense(3)])
    encoder = backbones.ConvNet((16, 16, 3), widths=(8, 16))
    with pytest.raises(ValueError, match="width 16"):
        models.SimCLR(encoder, projector=head)


def test_exported_encoder_serves_what_predict_gives(tmp_path):
    model = build(models.SimCLR, SMALL[models.SimCLR])
    batch = images(4)
    expected = model.predict(batch, verbose=0)
    model.standalone_encoder().export(str(tmp_path / "served"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "served"))
    np.testing.assert_allclose(served.serve(tf.constant(batch)), expected, atol=1e-5)
