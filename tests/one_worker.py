# SPDX-License-Identifier: Apache-2.0
"""One worker of a run on several: its number, a folder, and the number of who raises.

TF_CONFIG=... python tests/one_worker.py 0 FOLDER 1
"""

import json
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_ssl import callbacks
from keras_ssl.core import SSLModel

RANK, FOLDER, RAISING = sys.argv[1:]


class Pull(SSLModel):
    """One linear map of pixels whose outputs are to be one."""

    loss_terms = ("square",)

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        inputs = keras.Input((4, 4, 1))
        start = keras.initializers.GlorotNormal(seed=0)
        outputs = keras.layers.Dense(8, kernel_initializer=start)(keras.layers.Flatten()(inputs))
        self.encoder = keras.Model(inputs, outputs)

    def call(self, inputs, training=False):
        return self.encoder(inputs, training=training)

    def standalone_encoder(self):
        return self.encoder

    def compute_losses(self, views, training):
        return {"square": ops.mean(ops.square(self.encoder(views) - 1.0))}


class Raise(keras.callbacks.Callback):
    """Breaks on one worker, at the end of the second epoch."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 1 and RANK == RAISING:
            raise RuntimeError("this callback is broken")


def main():
    # Before anything makes the context of TensorFlow.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        model = Pull()
        model.compile(keras.optimizers.SGD(0.1))
    # Each worker takes half of the rows: two steps an epoch.
    images = np.random.default_rng(0).uniform(size=(16, 4, 4, 1)).astype("float32")
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    data = tf.data.Dataset.from_tensor_slices(images).batch(16).with_options(options)
    folder, labels = Path(FOLDER) / RANK, np.arange(16) % 2
    watchers = [
        callbacks.OnlineKNN((images, labels), (images, labels), k=3, log_dir=folder),
        callbacks.RepresentationMonitor(images, log_dir=folder),
        callbacks.NeighbourPictures(images, folder, k=2),
        callbacks.EmbeddingProjector(images, folder, every=1),
        callbacks.TrainingBoard(folder, every_steps=1, gradient_norms=True),
        callbacks.BestEncoder(folder / "best.keras"),
        Raise(),
    ]
    found = model.fit(data, epochs=4, verbose=0, callbacks=watchers).history
    Path(FOLDER, f"{RANK}.json").write_text(json.dumps([float(x) for x in found["loss"]]))


if __name__ == "__main__":
    main()
