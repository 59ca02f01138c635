# SPDX-License-Identifier: Apache-2.0
"""Neighbours, maps and the Embedding Projector, while training goes on."""

import keras
import numpy as np
import pytest
from PIL import Image
from test_callbacks import tags

from keras_ssl.callbacks import EmbeddingProjector, MapPictures, NeighbourPictures
from keras_ssl.evaluation import map_picture, map_points, neighbour_picture

RNG = np.random.default_rng(0)


@pytest.fixture
def groups():
    """Thirty grey images of three brightnesses, their labels, and a model that gives pixels."""
    labels = np.arange(30) % 3
    values = 0.3 * labels[:, None, None, None] + RNG.uniform(0.0, 0.05, (30, 4, 4, 1)) + 0.1
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(8)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.01), "mse", run_eagerly=True)
    return values.astype("float32"), labels, model


def fit(model, images, epochs, *callbacks):
    y = np.zeros((len(images), 8))
    model.fit(images, y, batch_size=15, epochs=epochs, verbose=0, callbacks=list(callbacks))


def test_neighbours_are_the_most_similar_others_in_order():
    angles = np.array([0.0, 3.0, 0.2, 0.1, -0.05])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * [[1], [9], [2], [5], [1]]
    images = np.broadcast_to(np.linspace(0, 1, 5)[:, None, None, None], (5, 3, 3, 1))
    picture = neighbour_picture(images, features, queries=2, k=3, labels=[0, 1, 0, 1, -1])
    assert picture.shape == (2 * 104, 4 * 104 + 12, 3) and picture.dtype == "uint8"
    centres, corners = [52, 168, 272, 376], [0, 117, 221, 325]
    # Nearest to angle 0 is -0.05, then 0.1, then 0.2; to 3 it is 0.2, then 0.1.
    shown = np.array([[4, 3, 2], [2, 3, 0]])
    for row, (query, own) in enumerate(zip((0, 1), shown, strict=True)):
        values = picture[row * 104 + 52, centres, 0] / 255
        np.testing.assert_allclose(values, np.array([query, *own]) / 4, atol=0.01)
    frames = picture[[[0], [104]], corners]
    white, green, red = (255, 255, 255), (44, 160, 44), (214, 39, 40)
    assert frames[0].tolist() == [list(c) for c in (white, white, red, green)]
    assert frames[1].tolist() == [list(c) for c in (white, red, green, red)]


def test_maps_lie_over_the_one_before():
    z = RNG.normal(size=(40, 6)) * [5, 3, 1, 1, 1, 1]
    first = map_points(z)
    # The plane of largest variance keeps those two dimensions.
    assert np.corrcoef(np.linalg.norm(first, axis=1), np.linalg.norm(z[:, :2], axis=1))[0, 1] > 0.9
    turned = -first @ np.array([[0, 1], [1, 0]])
    np.testing.assert_allclose(map_points(z, before=turned), turned, atol=1e-4)
    alone = map_points(z[:, :1])
    assert np.abs(alone[:, 1]).max() < 1e-5 < np.ptp(alone[:, 0])
    same = np.ones((8, 3))
    for method in ("pca", "tsne"):
        assert not map_points(same, method).any()
    assert np.isfinite(map_points(z, before=np.zeros((40, 2)))).all()


def test_tsne_keeps_groups_and_their_places():
    z = np.repeat(np.eye(3), 12, axis=0) * 10 + RNG.normal(size=(36, 3))
    first = map_points(z, "tsne")
    again = map_points(z + 0.1 * RNG.normal(size=z.shape), "tsne", before=first)
    centres = [points.reshape(3, 12, 2).mean(axis=1) for points in (first, again)]
    apart = min(np.linalg.norm(centres[0][i] - centres[0][i - 1]) for i in range(3))
    assert np.linalg.norm(centres[0] - centres[1], axis=1).max() < 0.5 * apart


def test_labels_colour_the_map():
    points = RNG.normal(size=(20, 2))
    plain, coloured = map_picture(points), map_picture(points, np.arange(20) % 2, "update 3")
    assert plain.shape == coloured.shape == (720, 840, 3) and plain.dtype == "uint8"
    vivid = [np.unique(p[np.ptp(p.astype(int), axis=-1) > 120], axis=0) for p in (plain, coloured)]
    assert len(vivid[1]) > len(vivid[0]) > 0
    with pytest.raises(ValueError, match="20 points have 3 labels"):
        map_picture(points, [0, 1, 2])


def test_pictures_come_before_every_few_epochs_and_at_the_end(groups, tmp_path):
    x, y, model = groups
    maps = MapPictures(x, tmp_path, labels=y, every=2)
    neighbours = NeighbourPictures(x, tmp_path, labels=y, queries=3, k=2, every=2)
    drawn = {"map": [], "neighbours": []}
    for callback in (maps, neighbours):
        write = callback._write

        def noted(callback=callback, write=write):
            drawn[callback.tag].append(int(model.optimizer.iterations))
            write()

        callback._write = noted
    fit(model, x, 5, maps, neighbours)
    assert drawn == {"map": [0, 4, 8, 10], "neighbours": [0, 4, 8, 10]}
    assert tags(tmp_path)[1] == {"map", "neighbours"}
    assert maps.points.shape == (30, 2)


def test_the_embedding_projector_reads_what_is_written(groups, tmp_path):
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.projector import projector_plugin
    from werkzeug.test import Client

    x, y, model = groups
    fit(model, x, 2, EmbeddingProjector(x, tmp_path, labels=y, every=1, side=8))
    reader = EventMultiplexer().AddRunsFromDirectory(str(tmp_path)).Reload()
    context = base_plugin.TBContext(logdir=str(tmp_path), multiplexer=reader)
    pages = projector_plugin.ProjectorPlugin(context).get_plugin_apps()

    def ask(page, **options):
        return Client(pages[page]).get("/", query_string={"run": ".", **options})

    (run,) = ask("/runs").json
    found = ask("/info", run=run).json["embeddings"]
    # The page sorts them by name, and opens the first.
    names = ["latest: update 4", "update 00000002", "update 00000000"]
    assert [one["tensorName"] for one in found] == names and sorted(names)[0] == names[0]
    assert found[0]["tensorShape"] == [30, 8]
    last = np.frombuffer(ask("/tensor", run=run, name=found[0]["tensorName"]).data, "float32")
    np.testing.assert_allclose(last.reshape(30, 8), model.predict(x, verbose=0), rtol=1e-3)
    labels = ask("/metadata", run=run, name=found[0]["tensorName"]).text.split()
    assert labels == [str(label) for label in y]
    image = Image.open(tmp_path / found[0]["sprite"]["imagePath"])
    assert image.size == (48, 48) and found[0]["sprite"]["singleImageDim"] == [8, 8]
    # Number 7 stands in the second row of six.
    tile = np.asarray(image)[8:16, 8:16, 0].mean() / 255
    assert tile == pytest.approx(float(x[7].mean()), abs=0.01)


def test_mistakes_are_named(groups, tmp_path):
    x, y, _ = groups
    with pytest.raises(ValueError, match="1 to N queries"):
        NeighbourPictures(x[:4], tmp_path, queries=5)
    with pytest.raises(ValueError, match="every is 0"):
        NeighbourPictures(x, tmp_path, every=0)
    with pytest.raises(ValueError, match="queries is 2 and k is 4"):
        neighbour_picture(x[:4], np.eye(4), queries=2, k=4)
    with pytest.raises(ValueError, match="4 images have 3 features"):
        neighbour_picture(x[:4], np.eye(3))
    with pytest.raises(ValueError, match="'umap'"):
        MapPictures(x, tmp_path, method="umap")
    with pytest.raises(ValueError, match="method is 'umap'"):
        map_points(np.eye(4), "umap")
    with pytest.raises(ValueError, match="a label for each"):
        EmbeddingProjector(x, tmp_path, labels=y[:3])
    with pytest.raises(ValueError, match="do not fit a sheet"):
        EmbeddingProjector(x, tmp_path, side=2000)
