# SPDX-License-Identifier: Apache-2.0
"""One helper that holds every model to the promises of the engine."""

import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from strategies import scope

import keras_ssl
from keras_ssl import backbones, layers, models, tokens, views
from keras_ssl.core import methods

SIZE = 16
SMALL_RATE = 0.005


def small_rate(cls) -> float:
    """A rate at which replicas stay alike: large steps blow rounding errors up by batch norm."""
    # The losses of masked transformers are flat at the start, and they have no batch norm.
    flat = issubclass(cls, models.MaskedModeling) and cls is not models.SparK
    return 0.2 if flat else SMALL_RATE


def images(rows: int = 16, seed: int = 0) -> np.ndarray:
    """Smooth random uint8 pictures `(rows, 16, 16, 3)`."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (rows, 4, 4, 3))
    return np.asarray(tf.image.resize(coarse, (SIZE, SIZE)), "uint8")


# Samples of methods that take no images: shape of one, and patch of the tokenizer.
MODALITIES = {
    "Noise2Score": ((8, 8, 1), None),
    "SparseAutoencoder": ((12,), None),
    "AudioMAE": ((8, 8, 1), (2, 2)),
    "SignalMAE": ((32, 2), (2,)),
    "VideoMAEV2": ((4, 8, 8, 3), (2, 2, 2)),
    **dict.fromkeys(("VJEPA", "SALT"), ((4, 8, 8, 3), (2, 2, 2))),
    "ECGJEPA": ((32, 2), (2,)),
    "EEGVJEPA": ((32, 4), (2, 2, 2)),
    "SARJEPA": ((16, 16, 1), (4, 4)),
}
TABLE = {"numeric": (5,), "categorical": (4,)}
SEQUENCE = {"vectors": (12, 5), "real": (12,)}
VOLUME = (8, 8, 8, 1)


def table_rows(rows: int = 16, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of five numbers and four categories, of which some are missing."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(size=(rows, 5)).astype("float32")
    codes = rng.integers(0, [2, 3, 4, 2], (rows, 4)).astype("int32")
    gone = rng.uniform(size=(rows, 9)) < 0.2
    numbers[gone[:, :5]], codes[gone[:, 5:]] = np.nan, -1
    return {"numeric": numbers, "categorical": codes}


def samples(cls, rows: int = 16, seed: int = 0):
    """Samples of the kind that a class takes."""
    rng = np.random.default_rng(seed)
    if cls.__name__ in MODALITIES:
        return rng.normal(size=(rows, *MODALITIES[cls.__name__][0])).astype("float32")
    if cls.__name__ == "LVMAE":
        real = np.arange(12)[None] < rng.integers(6, 13, (rows, 1))
        return {"vectors": rng.normal(size=(rows, 12, 5)).astype("float32"), "real": real}
    if cls.__name__ == "TJEPA":
        return table_rows(rows, seed)
    if cls.__name__ == "ACTJEPA":
        real = np.arange(4)[None] < rng.integers(2, 5, (rows, 1))
        parts = {"observations": (rows, 4, 5), "actions": (rows, 4, 2)}
        made = {name: rng.normal(size=size).astype("float32") for name, size in parts.items()}
        return {**made, "real": real, "labelled": np.arange(rows) % 3 > 0}
    if cls.__name__ == "Uni4Eye":
        volumes = rng.uniform(size=(rows, *VOLUME)).astype("float32")
        return {"image": images(rows, seed), "volume": volumes}
    return images(rows, seed)


# Rectangles are drawn in loops, which take long without a graph.
LOOPS = ("GMML", "SiT")


def light_views():
    """Two random views that compile quickly."""
    crop = views.RandomResizedCrop(SIZE, area=(0.3, 1.0))
    return views.TwoViews(views.Pipeline([crop, views.HorizontalFlip()]))


def nested_views():
    """Two random views, the second cut out of the first."""
    outer, flip = views.Pipeline(light_views().first.transforms[:1]), views.HorizontalFlip()
    inner = views.RandomResizedCrop(SIZE, area=(0.3, 0.6))
    crops = [(views.Pipeline([flip]), 1), (views.Pipeline([inner, flip]), 1)]
    return views.Nested(outer, crops)


def one_view():
    """A random view of every image, for methods that compare no views."""
    return views.MultiCrop([(light_views().first, 1)])


def smooth_encoder():
    """A small convolutional encoder without kinks; every norm it had more would be traced often.

    Of a hundred thousand ReLUs one is near enough to 0 for a rounding error to flip it, and then
    the weights of two exact runs differ by 1e-4.
    """
    inputs = keras.Input((SIZE, SIZE, 3))
    start = keras.initializers.HeNormal(seed=0)
    x = keras.layers.Conv2D(16, 5, 3, "same", use_bias=False, kernel_initializer=start)(inputs)
    x = keras.layers.Activation("swish")(layers.batch_norm()(x))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def strided_encoder():
    """Two convolutions of stride 2, as `smooth_encoder`."""
    x = inputs = keras.Input((SIZE, SIZE, 3))
    for index, width in enumerate((8, 12)):
        start = keras.initializers.HeNormal(seed=index)
        x = keras.layers.Conv2D(width, 3, 2, "same", use_bias=False, kernel_initializer=start)(x)
        x = keras.layers.Activation("swish")(layers.batch_norm()(x))
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def image_network(shape):
    """Two convolutions from image to image, without kinks."""
    start = keras.initializers.HeNormal
    inputs = keras.Input(shape)
    x = keras.layers.Conv2D(6, 3, padding="same", kernel_initializer=start(seed=0))(inputs)
    x = keras.layers.Activation("swish")(x)
    x = keras.layers.Conv2D(shape[-1], 3, padding="same", kernel_initializer=start(seed=1))(x)
    return keras.Model(inputs, x)


def observer():
    """Two tokens of eight features of an observation of five numbers."""
    start = keras.initializers.HeNormal
    inputs = keras.Input((5,))
    x = keras.layers.Dense(16, activation="swish", kernel_initializer=start(seed=0))(inputs)
    x = keras.layers.Dense(16, kernel_initializer=start(seed=1))(x)
    return keras.Model(inputs, keras.layers.Reshape((2, 8))(x))


def small_transformer(**options):
    """A vision transformer of one block and 16 patches: every block more is traced often."""
    sizes = {"width": 12, "depth": 1, "heads": 2, "seed": 0}
    return backbones.VisionTransformer("tiny", (SIZE, SIZE, 3), 4, **{**sizes, **options})


def small_tokens(name, width=12, **options):
    """A transformer of one block over the samples of a method."""
    shape, patch = MODALITIES[name]
    options = {"class_token": False, "seed": 0, **options}
    tokenizer = tokens.PatchTokenizer(patch, width, seed=options["seed"])
    if name == "EEGVJEPA":
        tokenizer = tokens.RecordingTokenizer(4, patch, width, seed=options["seed"])
    return backbones.TokenTransformer(tokenizer, shape, 1, 2, **options)


def small_table(width=12, **options):
    """A transformer of one block over rows of `table_rows`."""
    tokenizer = tokens.FeatureTokenizer(5, (2, 3, 4, 2), width, seed=0, missing=True)
    options = {"class_token": False, "registers": 1, "pooling": "concat", "seed": 0, **options}
    options = {"positions": models.TJEPA.positions, **options}
    return backbones.TokenTransformer(tokenizer, TABLE, 1, 2, **options)


def encoder_for(cls):
    """An encoder that the class takes, or what it takes in its place."""
    if cls.__name__ == "SparseAutoencoder":
        return MODALITIES[cls.__name__][0][0]
    if cls.__name__ == "Noise2Score":
        return image_network(MODALITIES[cls.__name__][0])
    if cls.__name__ == "ACTJEPA":
        return observer()
    if cls.__name__ in MODALITIES:
        return small_tokens(cls.__name__)
    if cls.__name__ == "LVMAE":
        tokenizer = tokens.EmbeddingTokenizer(12, seed=0)
        return backbones.TokenTransformer(tokenizer, SEQUENCE, 1, 2, seed=0)
    if cls.__name__ == "TJEPA":
        return small_table()
    if cls.__name__ == "PositionPrediction":
        return small_transformer(positions="none")
    if cls.__name__ == "DSeqJEPA":
        return small_transformer(pooling="mean")
    if issubclass(cls, models.JointEmbeddingPredictive):
        return small_transformer(class_token=False)
    if cls.__name__ == "SiT":
        # With a token for the rotation.
        return small_transformer(registers=1)
    needs = methods()[cls.__name__].needs if cls.__name__ in methods() else ()
    if "convolutional network" in needs:
        return strided_encoder()
    return small_transformer() if "vision transformer" in needs else smooth_encoder()


def build(
    cls,
    kwargs,
    *,
    dtype=None,
    optimizer=None,
    replicas=1,
    jit=False,
    encoder=None,
    own_views=False,
    rate=0.05,
):
    """A small compiled model, equal for equal arguments.

    `own_views` takes its real recipe. It is traced where it must be: that takes longer than few
    steps do.
    """
    keras.config.set_dtype_policy(dtype or "float32")
    with scope(replicas):
        if not own_views:
            masked = issubclass(cls, models.MaskedModeling)
            if isinstance(samples(cls), np.ndarray) and cls.__name__ not in MODALITIES:
                kwargs = {"views": one_view() if masked else light_views(), **kwargs}
        encoder = encoder or encoder_for(cls)
        model = cls(encoder, seed=5, **kwargs)
        # Plain SGD: Adam would divide rounding errors by themselves.
        model.compile(optimizer or keras.optimizers.SGD(rate, momentum=0.9), jit_compile=jit)
        model.run_eagerly = not (jit or replicas > 1 or cls.__name__ in LOOPS)
    if hasattr(model, "fill_memory"):
        model.fill_memory(images(), batch_size=16)
    return model


def batch_for(model, rows: int = 16, seed: int = 0):
    """A batch as the model wants it: images, with numbers or labels (some missing) beside them."""
    if model.uses_indices:
        return images(rows, seed), np.arange(rows)
    labels = np.arange(rows) % 5 - 1
    found = samples(type(model), rows, seed)
    return (found, labels) if model.uses_labels else found


def train(model, steps: int, first: int = 0, rows: int = 16) -> list[dict]:
    """Trains on a fixed sequence of global batches; returns the loss terms of each step."""
    logs = []
    for step in range(first, first + steps):
        data = tf.data.Dataset.from_tensors(batch_for(model, rows, step))
        history = model.fit(data, verbose=0).history
        logs.append({name: values[0] for name, values in history.items()})
    return logs


def weights(model) -> dict[str, np.ndarray]:
    """All weights of the model by path, teachers and moving statistics included."""
    return {f"{i}:{v.path}": np.asarray(v) for i, v in enumerate(model.weights)}


def trained(model) -> dict[str, np.ndarray]:
    """The trainable variables by path."""
    return {f"{i}:{v.path}": np.asarray(v) for i, v in enumerate(model.trainable_variables)}


def assert_close(first, second, tolerance, what):
    """Compares two dicts of numbers or arrays."""
    assert first.keys() == second.keys(), what
    for name in first:
        a, b = np.asarray(first[name], "float64"), np.asarray(second[name], "float64")
        error = np.max(np.abs(a - b)) / max(1.0, np.max(np.abs(b))) if a.size else 0.0
        assert error <= tolerance, f"{what}: {name} differs by {error:.2e} (> {tolerance})"


def assert_logs_close(first: list[dict], second: list[dict], tolerance: float, what: str) -> None:
    """Compares what `train` returned."""
    for step, (a, b) in enumerate(zip(first, second, strict=True)):
        assert_close(a, b, tolerance, f"losses of step {step} {what}")


def assert_goes_on_alike(first: list[dict], second: list[dict]) -> None:
    """Logs of equal weights: the first step to the bit, later ones up to rounding."""
    assert first[0] == second[0]
    assert_logs_close(first, second, 1e-6, "from equal weights")


def seen_by(model):
    """What is random in a batch: a function that makes views, or a view and the order of tokens."""
    if isinstance(model, (models.SparseAutoencoder, models.ACTJEPA)):
        return lambda batch: []
    if isinstance(model, models.SeqJEPA):
        return lambda batch: tf.unstack(model.make_views(batch)["views"], axis=1)
    if isinstance(model, models.Noise2Score):
        return lambda batch: [model.make_views(batch)["noise"]]
    if not isinstance(model, models.MaskedModeling):
        # Labels take no part in what is seen.
        return models.JointEmbedding.make_views.__get__(model)

    def make(batch):
        made = model.make_views(batch)
        if "corrupted" in made:
            # Views stand one after the other, on every device its own rows of each.
            count = getattr(model.views, "count", 1)
            parts = [made["inputs"], made["corrupted"]]
            return [view for part in parts for view in tf.split(part, count)]
        if "inputs" in made and "plan" not in made:
            return [made["inputs"]]
        parts = [made] if "plan" in made else list(made.values())
        plans = [part["plan"] for part in parts]
        if isinstance(plans[0], list):
            plans = plans[0]
        orders = [plan.mask if plan.restore is None else plan.restore for plan in plans]
        if model.views is None:
            return orders
        return [*(made[name] for name in ("inputs", "reference") if name in made), *orders]

    return make


def maker_of_views(model, replicas):
    """A function from a global batch to every view of it, as the replicas make them."""
    make_views = seen_by(model)
    if replicas == 1:
        compiled = tf.function(make_views, autograph=False)
        return lambda batch: [
            np.asarray(v) for v in compiled(tree.map_structure(tf.constant, batch))
        ]
    strategy = model.distribute_strategy

    def part(x):
        parts = tf.split(x, replicas)
        return strategy.experimental_distribute_values_from_function(
            lambda context: parts[context.replica_id_in_sync_group]
        )

    run = tf.function(lambda x: strategy.run(make_views, args=(x,)), autograph=False)
    return lambda batch: [
        np.concatenate([np.asarray(p) for p in strategy.experimental_local_results(v)])
        for v in run(tree.map_structure(part, batch))
    ]


def check_replicas(cls, kwargs, own_views=False, counts=(1, 2, 4)):
    """On so many devices: the same views bit for bit, losses and weights to 1e-5.

    Returns:
        The loss terms of five steps on one device.
    """
    # One image sixteen times: rows that share their augmentation would be equal.
    batch = tree.map_structure(lambda x: np.repeat(x, 16, axis=0), samples(cls, 1))
    reference = None
    for replicas in counts:
        model = build(cls, kwargs, replicas=replicas, own_views=own_views, rate=small_rate(cls))
        start, logs = trained(model), train(model, 5)
        made = maker_of_views(model, replicas)(batch)
        assert len({row.tobytes() for view in made for row in view}) == 16 * len(made)
        result = (made, logs, weights(model))
        moved = {path: np.max(np.abs(a - start[path])) for path, a in trained(model).items()}
        still = [path for path, size in moved.items() if size == 0]
        assert not still, f"no gradient reaches {still}"
        if reference is None:
            # Or equal weights would say nothing.
            assert max(moved.values()) > 1e-3, f"the weights hardly move: {moved}"
            reference = result
            continue
        for view, (a, b) in enumerate(zip(reference[0], made, strict=True)):
            assert np.array_equal(a, b), f"view {view} differs on {replicas} replicas"
        assert_logs_close(reference[1], result[1], 1e-5, f"on {replicas} replicas")
        ours = dict(enumerate(reference[2].values()))
        theirs = dict(enumerate(result[2].values()))
        assert_close(ours, theirs, 1e-5, f"weights on {replicas} replicas")
    return reference[1]


def check_jit(cls, kwargs, plain):
    """Compiled as a whole or not: the same losses."""
    compiled = train(build(cls, kwargs, jit=True, rate=small_rate(cls)), 2)
    assert_logs_close(plain, compiled, 1e-4, "with jit_compile")


def check_precision(cls, kwargs, dtype, plain):
    """Half precision trains: finite losses near those of float32, float32 variables."""
    logs = train(build(cls, kwargs, dtype=dtype, rate=small_rate(cls)), 2)
    for log in logs:
        assert all(np.isfinite(value) for value in log.values()), f"{dtype}: {log}"
    exact = plain[0]["loss"]
    assert abs(logs[0]["loss"] - exact) <= 0.1 * max(1.0, abs(exact)), dtype


def check_save_continue(model):
    """save → load → continue equals never having stopped, for a model that has been trained a step.

    Up to rounding: equal bits are promised only with op determinism, which holds for a process
    and is what the test of the killed run has.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save(f"{folder}/model.keras")
        loaded = keras_ssl.load_model(f"{folder}/model.keras")
    # As it was built, without a graph where that is quicker, this one is to do the same.
    loaded.run_eagerly = type(model).__name__ not in LOOPS
    batch = samples(type(model), 8)
    found = [tree.flatten(m.predict(batch, verbose=0)) for m in (model, loaded)]
    assert all(np.array_equal(mine, theirs) for mine, theirs in zip(*found, strict=True))
    # The loss tells weights and seeds apart, and what it leaves behind the optimizer's state.
    assert_goes_on_alike(train(model, 1, first=1), train(loaded, 1, first=1))
    ours, theirs = (dict(enumerate(weights(m).values())) for m in (model, loaded))
    assert_close(ours, theirs, 1e-6, "weights after loading")


def assert_equal_seeds_make_equal_models(first, second):
    """Two models, made alike and not trained, have the same weights."""
    for mine, theirs in zip(weights(first).values(), weights(second).values(), strict=True):
        assert np.array_equal(mine, theirs), "equal seeds make other weights"


def check_learning_state(cls, kwargs):
    """Views differ from one another and from step to step, losses are not zero; the model."""
    model = build(cls, kwargs)
    if issubclass(cls, models.MaskedModeling):
        assert_equal_seeds_make_equal_models(model, build(cls, kwargs))
    batch = samples(cls)
    # Elsewhere tracing takes longer than two batches do.
    loops = cls.__name__ in LOOPS
    make = maker_of_views(model, 1) if loops else seen_by(model)
    first, again = ([np.asarray(view) for view in make(batch)] for _ in range(2))
    alike = len(first) > 1 and first[0].shape == first[1].shape and np.allclose(*first[:2])
    assert not alike, "both views are equal"
    assert not any(map(np.allclose, first[:1], again)), "the views of two steps are equal"
    log = train(model, 1)[0]
    assert set(log) == {"loss", *model.loss_terms}
    assert abs(log["loss"] - sum(log[name] for name in model.loss_terms)) < 1e-5 * abs(log["loss"])
    assert all(value != 0 for value in log.values())
    data = tf.data.Dataset.from_tensors(batch_for(model))
    fixed = [model.evaluate(data, verbose=0, return_dict=True) for _ in range(2)]
    assert fixed[0] == fixed[1], "evaluate does not use fixed views"
    return model


def run_model_test(cls, kwargs, replicas: tuple[int, ...] = (), compiled: bool = False) -> None:
    """Checks a model class: one step, learning state and save/load, and more where asked.

    Tracing is what takes the time. Without replicas nothing becomes a graph but what needs one.

    Args:
        cls: the class.
        kwargs: constructor arguments that make it small.
        replicas: numbers of devices on which it must do the same, in graphs.
        compiled: whether to compile it as a whole, and in half precisions; needs replicas.
    """
    check_save_continue(check_learning_state(cls, kwargs))
    if not replicas:
        return
    plain = check_replicas(cls, kwargs, counts=replicas)[:2]
    if compiled:
        check_jit(cls, kwargs, plain)
        for dtype in ("mixed_bfloat16", "mixed_float16"):
            check_precision(cls, kwargs, dtype, plain)
