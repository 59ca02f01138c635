# SPDX-License-Identifier: Apache-2.0
"""Objectives as pure functions of tensors, one file per idea.

Every loss computes in float32 whatever the dtype of its inputs, and declares with
`core.distribution.kind` what it needs from other replicas. Under a `tf.distribute` strategy a
loss returns a scalar per replica: its mean over the replicas is the value of the global batch,
and its gradients, summed over the replicas and divided by their number, are the global ones.
"""

from keras_ssl.losses._math import normalize
from keras_ssl.losses.asymmetric import asymmetric_loss, prototype_orthogonality
from keras_ssl.losses.barlow_twins import barlow_twins, cross_correlation
from keras_ssl.losses.cacr import cacr_attraction, cacr_momentum, cacr_repulsion
from keras_ssl.losses.classification import (
    classification,
    sla,
    sla_aggregate,
    sla_distillation,
)
from keras_ssl.losses.cosine import byol, negative_cosine, simsiam
from keras_ssl.losses.dcl import dcl, dclw
from keras_ssl.losses.deepcluster_v2 import deepcluster_v2
from keras_ssl.losses.distillation import (
    centered_softmax,
    dino,
    ibot,
    masked_token_weights,
    nested_distillation,
    patch_distillation,
    self_distillation,
)
from keras_ssl.losses.info_nce import info_nce, moco_v3, nnclr
from keras_ssl.losses.knowledge import hard_distillation, nkd
from keras_ssl.losses.koleo import koleo
from keras_ssl.losses.mixed_barlow_twins import mixed_barlow_twins
from keras_ssl.losses.nt_xent import nt_xent
from keras_ssl.losses.prototypes import nearest_prototype, nearest_sample
from keras_ssl.losses.reconstruction import feature_alignment, token_error, token_variance
from keras_ssl.losses.sie import sie
from keras_ssl.losses.sigreg import epps_pulley, lejepa, sigreg
from keras_ssl.losses.simlap import simlap
from keras_ssl.losses.sinkhorn import sinkhorn_knopp
from keras_ssl.losses.sparse_coding import dead_latent_error, relative_error, relative_l1
from keras_ssl.losses.sup_con import sup_con, token_sup_con
from keras_ssl.losses.swav import swav, swav_codes
from keras_ssl.losses.token_relations import token_relation_kl
from keras_ssl.losses.vicreg import (
    vicreg,
    vicreg_covariance,
    vicreg_invariance,
    vicreg_variance,
)

__all__ = [
    "asymmetric_loss",
    "barlow_twins",
    "byol",
    "cacr_attraction",
    "cacr_momentum",
    "cacr_repulsion",
    "centered_softmax",
    "classification",
    "cross_correlation",
    "dcl",
    "dclw",
    "dead_latent_error",
    "deepcluster_v2",
    "dino",
    "epps_pulley",
    "feature_alignment",
    "hard_distillation",
    "ibot",
    "info_nce",
    "koleo",
    "lejepa",
    "masked_token_weights",
    "mixed_barlow_twins",
    "moco_v3",
    "nearest_prototype",
    "nearest_sample",
    "negative_cosine",
    "nested_distillation",
    "nkd",
    "nnclr",
    "normalize",
    "nt_xent",
    "patch_distillation",
    "prototype_orthogonality",
    "relative_error",
    "relative_l1",
    "self_distillation",
    "sie",
    "sigreg",
    "simlap",
    "simsiam",
    "sinkhorn_knopp",
    "sla",
    "sla_aggregate",
    "sla_distillation",
    "sup_con",
    "swav",
    "swav_codes",
    "token_error",
    "token_relation_kl",
    "token_sup_con",
    "token_variance",
    "vicreg",
    "vicreg_covariance",
    "vicreg_invariance",
    "vicreg_variance",
]
