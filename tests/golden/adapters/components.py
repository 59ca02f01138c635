# SPDX-License-Identifier: Apache-2.0
"""Layers that are no method of their own."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
from adapters.common import run

from keras_ssl import layers, losses, models


def _reweight_head(arrays: dict, meta: dict) -> dict:
    head = layers.ReweightHead(meta["kappa"])
    weighed = head(tf.constant(arrays["in_x"], "float32"))
    return {"out_y": np.asarray(weighed), "out_weights": np.asarray(head.factors)}


def _nested_dropout(arrays: dict, meta: dict) -> dict:
    dropout = layers.NestedDropout(meta["mu"], meta["std"])
    features = tf.constant(arrays["in_features"], "float32")
    kept = dropout.first(features, meta["k"] + meta["index_from"])
    return {"out_pmf": dropout.probabilities(meta["N"]), "out_masked": np.asarray(kept)}


class _PrototypeTerms:
    """Distances to prototypes and every term of the loss, as functions of a file's inputs."""

    def __init__(self, labels: np.ndarray, weights: dict[str, float]):
        self.labels, self.weights = labels, weights

    def distances(self, x: dict) -> tf.Tensor:
        layer = layers.PrototypeDistance(x["in_prototypes"].shape[0], 0.0, 0.0)
        layer.build(x["in_z"].shape)
        # The tensor itself, or no gradient would reach it.
        layer.__dict__["prototypes"] = x["in_prototypes"]
        return layer(x["in_z"])

    def logits(self, x: dict) -> tf.Tensor:
        return tf.matmul(self.distances(x), x["in_w"])

    def ce(self, x: dict) -> tf.Tensor:
        logits = self.logits(x)
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels, logits=logits)
        )

    def ae(self, x: dict) -> tf.Tensor:
        return tf.reduce_mean(tf.reduce_sum(tf.square(x["in_recon"] - x["in_x"]), axis=1))

    def r1(self, x: dict) -> tf.Tensor:
        return losses.nearest_sample(self.distances(x))

    def r2(self, x: dict) -> tf.Tensor:
        return losses.nearest_prototype(self.distances(x))

    def total(self, x: dict) -> tf.Tensor:
        return tf.add_n([w * getattr(self, name)(x) for name, w in self.weights.items()])


def _prototype_layer(arrays: dict, meta: dict) -> dict:
    weights = {"ce": meta["weights"]["cls"], **meta["weights"]}
    del weights["cls"]
    terms = _PrototypeTerms(arrays["in_y"], weights)
    names = ("distances", "logits", "ce", "ae", "r1", "r2")
    outputs = {f"out_{name}": getattr(terms, name) for name in names} | {"out_loss": terms.total}
    gradients = {"grad_z": {"of": "out_loss"}, "grad_prototypes": {"of": "out_loss"}}
    return run(arrays, {**meta, "grad_of": gradients}, outputs)


def _prototype_classifier(arrays: dict, meta: dict) -> dict:
    weights = {"ce": meta["lambda_class"], "r1": meta["lambda_1"], "r2": meta["lambda_2"]}
    terms = _PrototypeTerms(arrays["in_labels"], weights)
    names = ("distances", "logits", "ce", "r1", "r2", "total")
    return run(arrays, meta, {f"out_{name}": getattr(terms, name) for name in names})


def _sparse_autoencoder(arrays: dict, meta: dict) -> dict:
    x, result = tf.constant(arrays["in_x"], "float32"), {}
    names = [n[5:-9] for n in arrays if n.startswith("in_w_") and n.endswith("_pre_bias")]
    for name in names:
        weights = {n: arrays[f"in_w_{name}_{n}"] for n in ("pre_bias", "latent_bias")}
        encoder, decoder = (arrays[f"in_w_{name}_{n}.weight"] for n in ("encoder", "decoder"))
        options = meta["options"][f"out_{name}_pre"]
        model = models.SparseAutoencoder(
            encoder.shape[1],
            encoder.shape[0],
            options["activation"],
            k=meta["k"],
            l1=meta["l1_weight"],
            normalize=options["standardize"],
            unit_norm=False,
        )
        for variable, value in {**weights, "encoder": encoder, "decoder": decoder.T}.items():
            getattr(model, variable).assign(value)
        with tf.GradientTape() as tape:
            loss = tf.add_n(list(model.compute_losses(x, training=True).values()))
        result |= {
            f"out_{name}_pre": model.pre_activations(model.preprocess(x)[0]),
            f"out_{name}_latents": model(x),
            f"out_{name}_recon": model.reconstruction(x),
            f"out_{name}_loss": loss,
            f"out_{name}_dead_counter": model.unused,
            f"grad_{name}_enc": tape.gradient(loss, model.encoder.value),
        }
    return {name: np.asarray(value) for name, value in result.items()}


def _tweedie(arrays: dict, meta: dict) -> dict:
    levels = {"gaussian": meta["sigma"], "poisson": meta["zeta"], "gamma": meta["gamma_k"]}
    y, score = (tf.constant(arrays[n], "float32") for n in ("in_y", "in_score"))
    return {
        name: np.asarray(layers.TweediePosterior(o["noise"], levels[o["noise"]])(y, score))
        for name, o in meta["options"].items()
    }


CASES = {
    "mim_noise2score_tweedie": _tweedie,
    "mim_sparse_autoencoder": _sparse_autoencoder,
    "reweight_head": _reweight_head,
    "mim_nested_dropout": _nested_dropout,
    "mim_prototype_layer": _prototype_layer,
    "layer_prototype": _prototype_classifier,
}
