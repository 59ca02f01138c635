# SPDX-License-Identifier: Apache-2.0
"""Tables: columns that are seen and predicted, missing values, data frames, and T-JEPA."""

import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_test import TABLE, small_table, small_transformer, table_rows

import keras_ssl
from keras_ssl import backbones, callbacks, data, masking, models, tokens
from keras_ssl.core import distribution

pytestmark = pytest.mark.usefixtures("without_graphs")

SEED = distribution.fixed_seed(3)


# --- which columns are seen and predicted ---


def sets_of(plan, columns):
    """Which columns are seen, `(B, F)`, and in every set, `(B, m, F)`; nothing counts twice."""
    ids, asked = np.asarray(plan.decode), np.asarray(plan.asked)
    flags = np.sum((ids[..., None] == np.arange(columns)) & asked[..., None], axis=2)
    keep, shown = np.asarray(plan.keep), np.asarray(plan.shown)
    seen = np.sum((keep[..., None] == np.arange(columns)) & shown[..., None], axis=1)
    assert flags.max() == seen.max() == 1
    assert np.array_equal(seen, 1 - np.asarray(plan.mask))
    assert np.array_equal(np.asarray(plan.weight), asked)
    return seen, flags


@pytest.mark.parametrize(("columns", "steps"), [(14, 150), (6, 60)])
def test_thousands_of_draws_are_uniform_and_never_the_same(columns, steps):
    layer, rows = masking.FeatureSubsetMasking(), 64

    @tf.function(jit_compile=True, autograph=False)
    def draw(seed):
        return layer.plan(rows, (columns,), seed)

    table, sizes, seen_sum, asked_sum = layer.counts((columns,)), [], 0.0, 0.0
    shared, expected = [], []
    for step in range(steps):
        seen, flags = sets_of(draw(distribution.fixed_seed(step)), columns)
        few, many = seen.sum(1), flags.sum(2)
        assert few.min() == few.max() and many.min() == many.max(), "sizes differ in a step"
        assert not np.any(flags * seen[:, None]), "what is seen is predicted"
        together = flags @ flags.transpose(0, 2, 1)
        together = together[:, *np.triu_indices(4, 1)]
        assert np.all(together < many.max()), "two sets are the same"
        sizes.append((few[0], many[0, 0]))
        seen_sum, asked_sum = seen_sum + seen.mean(0) / few[0], asked_sum + flags.mean((0, 1))
        shared.append(together.mean())
        left = columns - few[0]
        expected.append(many[0, 0] ** 2 / left)
    assert draw.experimental_get_tracing_count() == 1
    # Every allowed pair of sizes comes as often.
    found, counts = np.unique(sizes, axis=0, return_counts=True)
    assert {tuple(pair) for pair in found} <= {tuple(pair) for pair in table}
    spread = np.sqrt(steps / len(table))
    missing = len(table) - len(found)
    assert abs(counts - steps / len(table)).max() < 4.5 * spread and missing <= 1
    # Every column is seen and predicted as often: 4.5 standard errors of a share, at most.
    for sums in (seen_sum / steps, asked_sum / steps):
        error = 4.5 * np.sqrt(sums.mean() / (steps * rows))
        assert abs(sums - sums.mean()).max() < error
    if columns == 14:
        # Two sets have as many in common as if they were drawn by themselves; that none is the
        # same as another makes it slightly less.
        assert np.mean(shared) == pytest.approx(np.mean(expected), rel=0.02)


def test_sizes_are_those_of_the_shares():
    layer = masking.FeatureSubsetMasking()
    table = layer.counts((14,))
    assert {int(n) for n in table[:, 0]} == {2, 3, 4, 5}
    assert {int(n) for n in table[:, 1]} == set(range(2, 10))
    # Nine of nine that are left would be the same set four times.
    assert [5, 8] in table.tolist() and [5, 9] not in table.tolist()
    one = masking.FeatureSubsetMasking(sets=1).counts((14,)).tolist()
    assert [5, 9] in one and len(one) == len(table) + 1
    plan = layer.plan(3, (14,), SEED)
    assert plan.keep.shape == (3, 5) and plan.decode.shape == (3, 4, 9)
    again = masking.FeatureSubsetMasking.from_config(layer.get_config()).plan(3, (14,), SEED)
    assert np.array_equal(plan.decode, again.decode)
    for rank in (1, 2, 3):
        # All that are possible where there are no more than are asked for.
        small = masking.FeatureSubsetMasking((0.2, 0.2), (rank / 5, rank / 5), 4)
        flags = sets_of(small.plan(200, (5,), SEED), 5)[1]
        assert all(len({tuple(one) for one in row}) == 4 for row in flags)


@pytest.mark.parametrize(
    ("options", "grid", "message"),
    [
        ({"sets": 0}, None, "at least 1 set"),
        ({"context": (0.5, 0.2)}, None, "context is a range of rising positive numbers up to 1"),
        ({"target": (0.0, 0.2)}, None, "target is a range"),
        ({}, (4,), "a table of 4 columns is too small .* at least 4 must be left"),
        ({"context": (0.9, 0.9)}, (10,), "a table of 10 columns is too small"),
        ({}, (4, 4), r"columns of tables, a grid \(columns,\)"),
    ],
)
def test_tables_that_cannot_be_masked_are_named(options, grid, message):
    with pytest.raises(ValueError, match=message):
        masking.FeatureSubsetMasking(**options).visible(grid)


# --- missing values ---


def test_a_missing_value_is_a_token_of_its_column():
    tokenizer = tokens.FeatureTokenizer(2, [3, 2], 6, seed=0, missing=True)
    row = {
        "numeric": np.array([[1.0, np.nan], [2.0, 3.0]], "float32"),
        "categorical": np.array([[2, -1], [-3, 1]]),
    }
    found = np.asarray(tokenizer(row))
    lacking, bias = np.asarray(tokenizer.lacking), np.asarray(tokenizer.bias)
    gone = np.array([[False, True, False, True], [False, False, True, False]])
    assert lacking.shape == (4, 6) and len({tuple(one) for one in lacking}) == 4
    np.testing.assert_allclose(found[gone], (lacking + bias)[[1, 3, 2]], atol=1e-6)
    plain = tokens.FeatureTokenizer(2, [3, 2], 6, seed=0)
    whole = {"numeric": np.nan_to_num(row["numeric"]), "categorical": row["categorical"] * 0 + 1}
    plain(whole)
    for name in ("weight", "embedding", "bias"):
        getattr(plain, name).assign(getattr(tokenizer, name))
    np.testing.assert_array_equal(plain(whole), tokenizer(whole))
    with tf.GradientTape() as tape:
        # As in a graph, where nobody can look at values.
        total = tf.reduce_sum(tf.square(tokenizer(row)))
    gradients = tape.gradient(total, [v.value for v in tokenizer.trainable_variables])
    assert all(np.all(np.isfinite(tf.convert_to_tensor(one))) for one in gradients)
    again = tokens.FeatureTokenizer.from_config(tokenizer.get_config())
    assert again.missing and again(row).shape == (2, 4, 6)


@pytest.mark.parametrize(
    ("change", "missing", "message"),
    [
        ({"numeric": [[0.0, np.nan]]}, False, r"row 0 of numeric column 1 is NaN.*missing=True"),
        ({"categorical": [[-1]]}, False, "row 0 of categorical column 0 is below 0"),
        ({"numeric": [[np.inf, 0.0]]}, True, "row 0 of numeric column 0 is infinite"),
        ({"categorical": [[3]]}, True, "is no category: they count from 0 to .3,. - 1"),
    ],
)
def test_values_without_a_token_are_named(change, missing, message):
    tokenizer = tokens.FeatureTokenizer(2, [3], 4, missing=missing)
    row = {"numeric": np.zeros((1, 2), "float32"), "categorical": np.zeros((1, 1), "int32")}
    tokenizer(row)
    with pytest.raises(ValueError, match=message):
        tokenizer({**row, **{name: np.array(x) for name, x in change.items()}})


# --- all tokens side by side ---


def test_tokens_side_by_side(tmp_path):
    encoder, rows = small_table(), table_rows(4)
    assert encoder.output_shape == (None, 9 * 12)
    every = encoder.token_model()(rows)
    assert every.shape == (4, 10, 12)
    np.testing.assert_allclose(encoder(rows), np.reshape(every[:, 1:], (4, -1)), atol=1e-6)
    encoder.save(tmp_path / "table.keras")
    loaded = keras_ssl.load_model(tmp_path / "table.keras")
    np.testing.assert_array_equal(loaded(rows), encoder(rows))
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, 3)).astype("float32")
    network = small_transformer(pooling="concat")
    assert network(images).shape == (2, 16 * 12)
    with pytest.raises(ValueError, match="expected shape"):
        network(images[:, :8])
    with pytest.raises(ValueError, match="may be of different lengths"):
        shapes = {"vectors": (6, 5), "real": (6,)}
        backbones.TokenTransformer(tokens.EmbeddingTokenizer(12), shapes, 1, 2, pooling="concat")


# --- prediction of columns ---


def tjepa(network=None, **options):
    options = {"predictor": (12, 1, 2), "watch": 0, "seed": 0, **options}
    return models.TJEPA(network or small_table(), **options)


def predictions(model, rows, plan):
    encoded = tf.repeat(model.encode(rows, plan), plan.decode.shape[1], axis=0)
    made = model.predictor(encoded, plan=masking.each_alone(plan), grid=(9,))
    return np.asarray(made).reshape(*plan.decode.shape, 12)


def test_the_loss_is_the_squared_error_of_columns_and_registers_are_context():
    model, rows = tjepa(), table_rows(6)
    plan = model.plan_for(rows, model.encoder, SEED)
    # One register in front of what is shown, with no position and no prediction.
    assert model.encode(rows, plan).shape == (6, 1 + plan.keep.shape[1], 12)
    assert plan.mask.shape == (6, 9)
    model.teacher_encoder.norm.beta.assign(np.arange(12.0))
    latents = np.asarray(model.teacher_encoder.token_model()(rows))[:, 1:]
    wanted = np.stack([row[ids] for row, ids in zip(latents, plan.decode.numpy(), strict=True)])
    errors = np.square(predictions(model, rows, plan) - wanted).mean(-1)
    want = errors[np.asarray(plan.asked)].mean()
    found = model.compute_losses({"inputs": rows, "plan": plan}, True)["prediction"]
    assert float(found) == pytest.approx(want, rel=1e-5)
    np.testing.assert_allclose(model(rows), latents.reshape(6, -1), atol=1e-5)
    register = model.encoder.prefix.tokens[0]
    before = predictions(model, rows, plan)
    register.assign(register + np.linspace(-2.0, 2.0, 12))
    assert not np.allclose(predictions(model, rows, plan), before, atol=1e-3)


def test_a_prediction_depends_on_shown_columns_alone():
    model, rows = tjepa(), table_rows(6)
    plan = model.plan_for(rows, model.encoder, SEED)
    want, asked = predictions(model, rows, plan), np.asarray(plan.asked)
    hidden = np.asarray(plan.mask) > 0
    numbers = np.where(hidden[:, :5], 7.0, rows["numeric"])
    codes = np.where(hidden[:, 5:], 1, rows["categorical"])
    changed = {"numeric": numbers.astype("float32"), "categorical": codes}
    np.testing.assert_allclose(predictions(model, changed, plan)[asked], want[asked], atol=1e-5)
    seen = {**rows, "numeric": np.where(hidden[:, :5], rows["numeric"], 7.0).astype("float32")}
    assert not np.allclose(predictions(model, seen, plan)[asked], want[asked], atol=1e-3)
    # Another set changes nothing of the first.
    other = plan._replace(decode=tf.concat([plan.decode[:, :1], plan.decode[:, 2:3]] * 2, axis=1))
    got = predictions(model, rows, other)[:, 0]
    np.testing.assert_allclose(got[asked[:, 0]], want[:, 0][asked[:, 0]], atol=1e-5)
    assert model.predictor.place.settings == {"base": 100.0}


def test_codes_of_bytes_are_not_scaled_and_one_kind_is_enough():
    model, rows = tjepa(), table_rows(4)
    codes = np.maximum(rows["categorical"], 0)
    made = [model({**rows, "categorical": codes.astype(kind)}) for kind in ("uint8", "int64")]
    np.testing.assert_array_equal(*made)
    for name, cardinalities in (("numeric", ()), ("categorical", [4] * 6)):
        count = 0 if cardinalities else 6
        tokenizer = tokens.FeatureTokenizer(count, cardinalities, 12, seed=0)
        encoder = backbones.TokenTransformer(
            tokenizer, {name: (6,)}, 1, 2, class_token=False, registers=1, pooling="mean", seed=0
        )
        x = {name: np.random.default_rng(0).integers(0, 4, (8, 6)).astype("uint8")}
        single = tjepa(encoder, watch=8)
        single.compile(keras.optimizers.SGD(0.1))
        assert np.isfinite(single.fit(x, batch_size=4, verbose=0).history["loss"][0])
        assert single(x).shape == (8, 12)


def test_tables_with_gaps_train_from_arrays_and_epochs():
    rows = table_rows(16)
    for feed in (rows, data.EpochData(rows, 8, seed=0, check_finite="missing").dataset()):
        model = tjepa(watch=16)
        model.compile(keras.optimizers.SGD(0.1))
        history = model.fit(feed, batch_size=None if feed is not rows else 8, verbose=0).history
        assert np.isfinite(history["loss"][0]) and np.isfinite(history["rank_me"][0])
    tokenizer = tokens.FeatureTokenizer(5, (2, 3, 4, 2), 12, seed=0)
    options = {"class_token": False, "registers": 1, "pooling": "mean"}
    model = tjepa(backbones.TokenTransformer(tokenizer, TABLE, 1, 2, **options))
    model.compile(keras.optimizers.SGD(0.1))
    for feed in (rows, data.EpochData(rows, 8, seed=0, check_finite="missing").dataset()):
        with pytest.raises(ValueError, match="a missing value. Build .*missing=True"):
            model.fit(feed, verbose=0)


def test_what_tjepa_needs_is_said():
    with pytest.warns(UserWarning, match="no token in front.*registers=1"):
        tjepa(small_table(registers=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tjepa(small_table(registers=0, class_token=True))
    with pytest.raises(ValueError, match="rows of a table"):
        tjepa(small_transformer(class_token=False))
    with pytest.raises(ValueError, match="asks nothing of a class token"):
        tjepa(small_table(class_token=True, pooling="class"))
    with pytest.raises(ValueError, match=r"1 sample\(s\)"):
        callbacks.RepresentationMonitor({"numeric": np.zeros((1, 3))})


# --- data frames ---


class Frame:
    """What data frames have in common: names of columns, and columns by name."""

    def __init__(self, columns):
        self._data = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return self._data[name]


class Nullable:
    """A column of pandas' nullable integers: numbers as objects."""

    class dtype:
        kind = "i"

    def __array__(self, dtype=None, copy=None):
        return np.array([1, None, 3, 5], object)


COLUMNS = {
    "age": np.array([20.0, 30.0, np.nan, 40.0]),
    "job": np.array(["cook", "", "clerk", "cook"]),
    "member": np.array([True, False, True, True]),
    "mixed": np.array(["b", None, "a", float("nan")], object),
    "zip": np.array([7, 7, 9, 8]),
    "label": np.array([0, 1, 0, 1]),
}


@pytest.mark.parametrize("make", [dict, Frame])
def test_a_frame_becomes_numbers_and_codes(make):
    inputs, schema = data.from_dataframe(make(COLUMNS), categorical=["zip"], leave_out=["label"])
    age = np.array([-10.0, 0.0, np.nan, 10.0]) / np.sqrt(200 / 3)
    np.testing.assert_allclose(inputs["numeric"], age[:, None], rtol=1e-6)
    assert inputs["numeric"].dtype == "float32" and inputs["categorical"].dtype == "int32"
    wanted = [[1, 1, 1, 0], [-1, 0, -1, 0], [0, 1, 0, 2], [1, 1, -1, 1]]
    assert inputs["categorical"].tolist() == wanted
    assert schema.columns == ("age", "job", "member", "mixed", "zip")
    assert schema.cardinalities == (2, 2, 2, 3)
    assert schema.categorical["zip"] == (7, 8, 9) and schema.categorical["member"] == (False, True)
    again = data.TableSchema.from_config(json.loads(json.dumps(schema.get_config())))
    assert again == schema
    for name, x in data.from_dataframe(make(COLUMNS), again)[0].items():
        np.testing.assert_array_equal(x, inputs[name])
    tokenizer = tokens.FeatureTokenizer(len(schema.numeric), schema.cardinalities, 4, missing=True)
    assert tokenizer(inputs).shape == (4, 5, 4) and schema.shapes["categorical"] == (4,)


def test_a_schema_keeps_what_it_learned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, schema = data.from_dataframe({**COLUMNS, "count": Nullable()})
    assert schema.numeric["count"] == pytest.approx((3.0, np.std([1, 3, 5])))
    # What comes later may not have all columns of numbers as numbers, nor all rows filled.
    later = {**COLUMNS, "age": np.array([None, 50, 30, 30], object), "count": np.arange(4)}
    later |= {"job": np.array(["chef", "cook", "boss", "chef"]), "other": np.zeros(7)}
    with pytest.warns(UserWarning, match="'job' holds 3 values of 4 .*, 'chef', 'boss': they"):
        inputs, same = data.from_dataframe(later, schema)
    assert same is schema
    mean, scale = schema.numeric["age"]
    assert np.isnan(inputs["numeric"][0, 0])
    np.testing.assert_allclose(inputs["numeric"][1, 0], (50 - mean) / scale, rtol=1e-6)
    assert inputs["categorical"][:, 0].tolist() == [-1, 1, -1, -1]
    lost = {name: column for name, column in later.items() if name != "job"}
    with pytest.raises(ValueError, match="lacks 'job', which the schema was made with"):
        data.from_dataframe(lost, schema)
    with pytest.raises(ValueError, match="'age' is numeric by the schema"):
        data.from_dataframe({**later, "age": np.array(["old"] * 4)}, schema)


def test_columns_that_say_nothing_are_left_out():
    same = {"one": np.ones(4), "word": np.array(["x"] * 4), "none": np.full(4, np.nan)}
    with pytest.warns(UserWarning, match="left out: 'one', 'word', 'none'"):
        _, schema = data.from_dataframe({**COLUMNS, **same})
    assert not set(same) & set(schema.columns)
    # Whether a value is there may say something.
    gaps = {"one": np.array([1.0, np.nan, 1.0, 1.0]), "word": np.array(["x", "", "x", "x"])}
    inputs, schema = data.from_dataframe({**COLUMNS, **gaps})
    assert schema.numeric["one"] == (1.0, 1.0) and schema.categorical["word"] == ("x",)
    assert np.isnan(inputs["numeric"][1, schema.columns.index("one")])
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="tells rows apart"):
        data.from_dataframe(same)


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (3, {}, "Expected a data frame with columns or a dict"),
        (COLUMNS, {"categorical": ["zap"]}, "has no 'zap'; it has 'age', .* and 1 more"),
        ({"when": np.array(["2020-01-01"], "datetime64[D]")}, {}, "'when' is of type .* into days"),
        ({"a": np.zeros((2, 2))}, {}, r"'a' has shape \(2, 2\)"),
        ({"a": np.zeros(2), "b": np.zeros(3)}, {}, "as many rows each"),
        ({"a": np.array([0.0, np.inf])}, {}, "'a' holds 1 infinite values"),
        (
            {"a": np.array([0.0, 1.0, np.nan, np.nan]), "b": np.array(["x", "y", "", ""])},
            {},
            "knows: 2, 3 .2 in all.. Drop them",
        ),
    ],
)
def test_frames_that_are_no_tables_are_named(frame, options, message):
    with pytest.raises(ValueError, match=message):
        data.from_dataframe(frame, **options)
