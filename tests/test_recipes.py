# SPDX-License-Identifier: Apache-2.0
"""Recipes say what their sources say, and build."""

import dataclasses

import keras
import numpy as np
import pytest

from keras_ssl import recipes, tokens
from keras_ssl.core import methods

# Written out here a second time, from the papers and the released codes:
# epochs, batch, peak learning rate, warm-up epochs, final share, decay, head, predictor.
TABLE = {
    "simclr_cifar": (1000, 512, 2.0, 10, 0.0, 1e-4, (512, 128), None),
    "simclr_imagenet": (1000, 4096, 4.8, 10, 0.0, 1e-6, (2048, 128), None),
    "byol_cifar": (1000, 256, 1.0, 10, 0.0, 1e-5, (4096, 256), (4096, 256)),
    "byol_imagenet": (1000, 4096, 3.2, 10, 0.0, 1.5e-6, (4096, 256), (4096, 256)),
    "simsiam_cifar": (1000, 256, 0.5, 10, 0.0, 1e-5, (2048,) * 3, (512, 2048)),
    "simsiam_imagenet": (100, 512, 0.1, 0, 0.0, 1e-4, (2048,) * 3, (512, 2048)),
    "barlow_twins_cifar": (1000, 256, 0.3, 10, 0.0, 1e-4, (2048,) * 3, None),
    "barlow_twins_imagenet": (1000, 2048, 1.6, 10, 1e-3, 1e-6, (8192,) * 3, None),
    "vicreg_cifar": (1000, 256, 0.3, 10, 0.0, 1e-4, (2048,) * 3, None),
    "vicreg_imagenet": (1000, 2048, 1.6, 10, 1e-3, 1e-6, (8192,) * 3, None),
    "moco_v2_cifar": (1000, 256, 0.3, 10, 0.0, 1e-4, (2048, 256), None),
    "moco_v2_imagenet": (200, 256, 0.03, 0, 0.0, 1e-4, (2048, 128), None),
    "moco_v3_cifar": (1000, 256, 0.3, 10, 0.0, 1e-6, (4096, 256), (4096, 256)),
    "moco_v3_imagenet": (1000, 4096, 4.8, 10, 0.0, 1.5e-6, (4096, 256), (4096, 256)),
    "dcl_cifar": (100, 256, 1e-3, 0, 1.0, 1e-6, (512, 128), None),
    "dcl_imagenet": (100, 256, 0.3, 10, 0.0, 1e-6, (2048, 128), None),
    "dclw_cifar": (100, 256, 1e-3, 0, 1.0, 1e-6, (512, 128), None),
    "dclw_imagenet": (100, 256, 0.3, 10, 0.0, 1e-6, (2048, 128), None),
    "nnclr_cifar": (1000, 256, 0.4, 10, 0.0, 1e-5, (2048, 2048, 256), (4096, 256)),
    "nnclr_imagenet": (1000, 4096, 4.8, 10, 0.0, 1e-6, (2048, 2048, 256), (4096, 256)),
    "sup_con_cifar": (1000, 1024, 0.5, 10, 1e-3, 1e-4, (2048, 128), None),
    "sup_con_imagenet": (700, 4096, 4.8, 10, 0.0, 1e-6, (2048, 128), None),
    "cacr_cifar": (200, 128, 0.06, 0, 1e-3, 1e-4, (512, 128), None),
    "cacr_imagenet": (1000, 4096, 4.8, 10, 0.0, 1.5e-6, (4096, 256), None),
    "hydra_cifar": (50, 256, 1e-3, 2, 0.0, 5e-4, (2048, 256), None),
    "hydra_imagenet": (100, 512, 1e-3, 5, 0.0, 5e-4, (2048, 256), None),
    "sla_cifar": (205, 128, 0.1, 0, 1e-2, 1e-4, (), None),
    "sla_imagenet": (90, 256, 0.1, 0, 1e-2, 1e-4, (), None),
    "gsimclr_imagenet": (100, 256, 0.3, 10, 0.0, 1e-6, (256, 128, 50), None),
    "direct_pred_cifar": (100, 128, 0.03, 0, 1.0, 4e-4, (512, 128), None),
    "direct_pred_imagenet": (300, 4096, 4.8, 10, 0.0, 1e-6, (4096, 256), None),
    "mixed_barlow_twins_cifar": (2000, 256, 0.01, 10, 1e-3, 1e-6, (512, 1024), None),
    "mixed_barlow_twins_imagenet": (300, 1024, 0.8, 10, 1e-3, 1e-6, (8192,) * 3, None),
    "lejepa_cifar": (800, 256, 2e-3, 1, 1e-3, 5e-4, (2048, 2048, 16), None),
    "lejepa_imagenet": (100, 512, 5e-4, 10, 1e-3, 5e-4, (2048, 2048, 128), None),
    "sie_cifar": (2000, 1024, 1e-3, 0, 1.0, 1e-6, (2048,) * 3, None),
    "sie_imagenet": (2000, 1024, 1e-3, 0, 1.0, 1e-6, (2048,) * 3, None),
    "dino_cifar": (1000, 256, 5e-4, 10, 2e-3, 0.04, (2048, 2048, 256), None),
    "dino_resnet_cifar": (1000, 256, 0.3, 10, 0.0, 1e-6, (2048, 2048, 256), None),
    "dino_imagenet": (100, 1024, 2e-3, 10, 5e-4, 0.04, (2048, 2048, 256), None),
    "deepcluster_v2_cifar": (1000, 256, 0.6, 11, 1e-3, 1e-6, (2048, 128), None),
    "deepcluster_v2_imagenet": (800, 4096, 4.8, 10, 1e-3, 1e-6, (2048, 128), None),
    "ibot_cifar": (1000, 256, 5e-4, 10, 2e-3, 0.04, (2048, 2048, 256), None),
    "ibot_imagenet": (800, 1024, 2e-3, 10, 5e-4, 0.04, (2048, 2048, 256), None),
    "mmc_cifar": (800, 256, 5e-4, 10, 2e-3, 0.04, (4096, 4096, 256), (4096, 256)),
    "mmc_imagenet": (800, 1024, 2e-3, 10, 5e-4, 0.04, (4096, 4096, 256), (4096, 256)),
    "franca_cifar": (1000, 256, 5e-4, 10, 2e-3, 0.04, (2048, 2048, 256), None),
    "franca_imagenet": (800, 2048, 7.01e-4 * 2**0.5, 128, 1e-3, 0.04, (2048, 2048, 384), None),
    "simmim_cifar": (800, 256, 1e-3, 10, 0.0, 0.05, None, None),
    "simmim_imagenet": (800, 2048, 4e-4, 10, 0.0, 0.05, None, None),
    "gmml_cifar": (800, 256, 5e-4, 10, 2e-3, 0.04, None, None),
    "gmml_imagenet": (800, 512, 1e-3, 10, 2e-3, 0.04, None, None),
    "cae_cifar": (800, 256, 1e-3, 20, 1e-2, 0.05, None, None),
    "cae_imagenet": (800, 2048, 1.5e-3, 20, 1 / 150, 0.05, None, None),
    "crop_mae_cifar": (400, 256, 1e-3, 20, 0.0, 0.05, None, None),
    "crop_mae_imagenet": (400, 2048, 8e-4, 20, 0.0, 0.05, None, None),
    "sit_cifar": (800, 256, 5e-4, 10, 2e-3, 0.04, (4096, 4096, 256), None),
    "sit_imagenet": (800, 256, 5e-4, 10, 2e-3, 0.04, (4096, 4096, 256), None),
    "spark_cifar": (800, 256, 1.5e-3, 40, 1e-3, 0.04, None, None),
    "spark_imagenet": (1600, 4096, 3.2e-3, 40, 1e-3, 0.04, None, None),
    "color_mae_cifar": (800, 256, 1.5e-3, 40, 0.0, 0.05, None, None),
    "color_mae_imagenet": (300, 4096, 2.4e-3, 40, 0.0, 0.05, None, None),
    "thorax_mae_cifar": (800, 256, 1.5e-3, 40, 0.0, 0.05, None, None),
    "thorax_mae_imagenet": (800, 2048, 1.2e-3, 40, 0.0, 0.05, None, None),
    "mae_cifar": (800, 256, 1.5e-3, 40, 0.0, 0.05, None, None),
    "ijepa_cifar": (600, 256, 1e-3, 40, 1e-3, 0.04, None, None),
    "ijepa_imagenet": (600, 2048, 1e-3, 40, 1e-3, 0.04, None, None),
    "sparse_jepa_cifar": (600, 256, 1e-3, 40, 1e-3, 0.04, None, None),
    "seq_jepa_cifar": (2000, 512, 4e-4, 20, 0.025, 1e-3, None, None),
    "act_jepa_pushes": (300, 64, 1e-4, 10, 0.0, 1e-4, None, None),
    "vjepa_videomix": (300, 3072, 6.25e-4, 40, 1.6e-3, 0.04, None, None),
    "salt_videomix": (300, 3072, 6.25e-4, 40, 1.6e-3, 0.04, None, None),
    "dseq_jepa_cifar": (600, 256, 1e-3, 40, 1e-3, 0.04, None, None),
    "dseq_jepa_imagenet": (600, 2048, 8e-4, 15, 0.125, 0.04, None, None),
    "ecg_jepa_12lead": (100, 2048, 1e-3, 10, 1e-3, 0.01, None, None),
    "eeg_vjepa_clinic": (400, 128, 6.25e-4, 40, 1.6e-3, 0.04, None, None),
    "sar_jepa_radar": (300, 300, 300 / 256 * 1e-3, 20, 0.0, 0.05, None, None),
    "mae_imagenet": (800, 4096, 2.4e-3, 40, 0.0, 0.05, None, None),
    "mixed_ae_cifar": (800, 256, 1.5e-3, 40, 0.0, 0.05, None, None),
    "mixed_ae_imagenet": (800, 4096, 2.4e-3, 40, 0.0, 0.05, None, None),
    "position_prediction_cifar": (800, 256, 1.5e-3, 40, 0.0, 0.05, None, None),
    "position_prediction_imagenet": (300, 1024, 1e-3, 5, 0.01, 0.05, None, None),
    "audio_mae_audioset": (33, 512, 4e-4, 3, 0.0, 1e-4, None, None),
    "video_mae_v2_hybrid": (200, 1024, 4e-3, 20, 1e-2, 0.05, None, None),
    "lv_mae_films": (151, 128, 5e-4, 40, 0.0, 0.05, None, None),
    "uni4eye_octa": (200, 64, 2.5e-4, 40, 0.0, 0.05, None, None),
    "signal_mae_electricity": (9, 128, 3e-3, 0.9, 0.0, 0.05, None, None),
    "tjepa_adult": (300, 512, 3.66e-4, 10, 0.0, 0.0, None, None),
    "mask_align_cifar": (200, 256, 1.5e-3, 20, 1e-5 / 1.5e-3, 0.05, None, None),
    "mask_align_imagenet": (200, 1024, 6e-4, 20, 1e-5 / 6e-4, 0.05, None, None),
    "hybrid_distillation_cifar": (300, 256, 1.5e-3, 15, 0.0, 0.05, None, None),
    "hybrid_distillation_imagenet": (300, 2048, 1.2e-3, 15, 0.0, 0.05, None, None),
    "g2sd_cifar": (300, 256, 1.5e-3, 10, 2.5e-6 / 1.5e-3, 0.05, None, None),
    "g2sd_imagenet": (300, 4096, 2.4e-3, 10, 2.5e-6 / 2.4e-3, 0.05, None, None),
    "swav_cifar": (1000, 256, 0.6, 10, 0.0, 1e-6, (2048, 128), None),
    "swav_imagenet": (800, 4096, 4.8, 10, 1e-3, 1e-6, (2048, 128), None),
}
# Views of another name than the method.
VIEWS = {
    "MoCoV2": "moco_v2",
    "BarlowTwins": "barlow_twins",
    "MoCoV3": "byol",
    "NNCLR": "byol",
    "DCL": "simclr",
    "DCLW": "simclr",
    "GSimCLR": "simclr",
    "SIE": "vicreg",
    "DeepClusterV2": "swav",
    "DirectPred": "direct_pred",
    "MixedBarlowTwins": "mixed_barlow_twins",
    "MMC": "byol",
    "ColorMAE": "mae",
    "CropMAE": "crop_mae",
    "MixedAE": "mae",
    "PositionPrediction": "mae",
    "ThoraxMAE": "thorax_mae",
    **dict.fromkeys(("AudioMAE", "VideoMAEV2", "LVMAE", "Uni4Eye", "SignalMAE", "VJEPA", "TJEPA")),
    "MaskAlign": "mae",
    **dict.fromkeys(("SparseJEPA", "DSeqJEPA"), "ijepa"),
    "SARJEPA": "sar_jepa",
    **dict.fromkeys(("ECGJEPA", "EEGVJEPA", "SALT")),
    "SeqJEPA": "byol",
    "ACTJEPA": None,
    "HybridDistillation": "mae",
    "G2SD": "mae",
}
SETTINGS = {
    "moco_v2_cifar": {"queue_size": 32768, "temperature": 0.2, "symmetric": True},
    "moco_v2_imagenet": {"queue_size": 65536, "temperature": 0.2, "momentum": 0.999},
    "moco_v3_cifar": {"temperature": 0.2},
    "moco_v3_imagenet": {"temperature": 1.0},
    "cacr_cifar": {"positive_temperature": 1.0, "negative_temperature": 0.9},
    "direct_pred_cifar": {"rho": 0.3, "epsilon": 0.01, "momentum": 0.996, "update_every": 1},
    "direct_pred_imagenet": {"rho": 0.3, "epsilon": 0.01},
    "mixed_barlow_twins_cifar": {"lambd": 1 / 128, "mix_scale": 4.0, "normalize": True},
    "mixed_barlow_twins_imagenet": {"lambd": 0.0051, "form": "imagenet", "normalize": False},
    "lejepa_cifar": {"trade_off": 0.02, "slices": 256, "centre": "all"},
    "lejepa_imagenet": {"trade_off": 0.05, "slices": 1024, "centre": "global"},
    "sie_cifar": {"split": 0.5, "equivariance_factor": 0.45},
    "sie_imagenet": {"split": 0.5, "equivariance_factor": 0.45},
    "deepcluster_v2_cifar": {"prototypes": (3000,) * 3, "samples": 50000, "temperature": 0.1},
    "deepcluster_v2_imagenet": {"prototypes": (3000,) * 3, "samples": 1281167, "rounds": 10},
    # Ten steps an epoch.
    "dino_cifar": {"prototypes": 4096, "freeze_steps": 10, "student_temperature": 0.1},
    "dino_resnet_cifar": {"teacher_temperature": 0.07, "freeze_steps": 10},
    "ibot_cifar": {"prototypes": 4096, "freeze_steps": 10, "teacher_temperature": 0.04},
    "ibot_imagenet": {"prototypes": 8192, "patch_projector": None, "term_weights": (1.0, 1.0)},
    "mmc_cifar": {"prototypes": 4096, "freeze_steps": 10, "temperature": 0.2},
    "mmc_imagenet": {"prototypes": 8192, "term_weights": (1.0, 1.0, 1.0)},
    "mae_imagenet": {"loss": "l2", "decode": None},
    "simmim_imagenet": {"loss": "l1", "unit": (32, 32)},
    "gmml_imagenet": {"loss": "l1"},
    "cae_cifar": {"codes": 512, "alignment_weight": 2.0, "loss": "cross_entropy"},
    "ijepa_cifar": {"loss": "smooth_l1", "normalize": True},
    "ijepa_imagenet": {"loss": "smooth_l1", "normalize": True},
    "sparse_jepa_cifar": {"groups": 2, "sparsity": 1e-4},
    "tjepa_adult": {"loss": "l2", "normalize": False},
    "seq_jepa_cifar": {"context": 3, "action_width": 128},
    "act_jepa_pushes": {"actions": 2, "chunk": 16, "loss": "l1", "normalize": True},
    "vjepa_videomix": {"loss": "l1", "normalize": True, "variance_weight": 0.0},
    "ecg_jepa_12lead": {"loss": "l1", "normalize": False},
    "eeg_vjepa_clinic": {"loss": "l1", "normalize": True},
    "sar_jepa_radar": {"loss": "l2"},
    "salt_videomix": {"loss": "l1", "normalize": True, "teacher_epochs": None},
    "dseq_jepa_cifar": {"regions": 5, "least": 0.15, "block": 1},
    "cae_imagenet": {"codes": 8192, "layer_scale": 0.1, "drop_path": 0.1},
    "crop_mae_imagenet": {"loss": "l2", "decode": None},
    "sit_cifar": {"reconstruction_weight": 5.0, "rotation_weight": 0.0},
    "sit_imagenet": {"reconstruction_weight": 1.0, "temperature": 0.2, "loss": "l1"},
    "spark_imagenet": {"loss": "l2", "scales": 4},
    "color_mae_imagenet": {"color": "green", "loss": "l2"},
    "mixed_ae_imagenet": {"components": 4, "recognition_weight": 0.1, "temperature": 0.25},
    "audio_mae_audioset": {"window": (4, 4), "loss": "l2"},
    "lv_mae_films": {"importance": True, "loss": "l2"},
    "uni4eye_octa": {
        "volume_shape": (112, 224, 224, 1),
        "volume_patch": (16, 16, 16),
        "decoder_size": (512, 8, 16),
    },
    "g2sd_imagenet": {"loss": "smooth_l1", "beta": 2.0, "teacher_block": 4, "supervise": "all"},
    "hybrid_distillation_imagenet": {
        "alpha": 1.0,
        "beta": 1.0,
        "relations": ("qk", "vv"),
        # Of five blocks.
        "relation_blocks": (4,),
        "drop_before": (2, 3, 4),
    },
    "mask_align_imagenet": {"loss": "smooth_l1", "levels": 5, "fusion": "linear", "head": "linear"},
    "franca_cifar": {"prototypes": 4096, "freeze_steps": 10, "levels": (1, 3, 6)},
    "franca_imagenet": {"term_weights": (1.0, 1.0, 0.1), "projected": False},
    "dino_imagenet": {"prototypes": 65536, "teacher_temperature": 0.04, "center_momentum": 0.9},
    "swav_cifar": {"prototypes": 3000, "queue_size": 3840, "queue_start": 500, "freeze_steps": 20},
    "swav_imagenet": {"prototypes": 3000, "epsilon": 0.05, "queue_size": 0, "freeze_steps": 10},
    "hydra_cifar": {"temperature": 0.1, "pairs": "arbitrary", "classes": 10, "joint": False},
    "sla_cifar": {"transforms": "rotation", "temperature": 1.0, "classes": 10, "summed": False},
    "sla_imagenet": {"classes": 1000, "summed": True},
    "dcl_cifar": {"temperature": 0.1},
    "dclw_cifar": {"temperature": 0.1, "sigma": 0.5},
    "nnclr_cifar": {"temperature": 0.2, "queue_size": 65536},
    "nnclr_imagenet": {"temperature": 0.1, "queue_size": 98304},
    "sup_con_cifar": {"temperature": 0.1, "base_temperature": 0.07},
    "simclr_cifar": {"temperature": 0.5},
    "simclr_imagenet": {"temperature": 0.1},
    "barlow_twins_cifar": {"lambd": 0.005, "scale": 0.1},
    "barlow_twins_imagenet": {"lambd": 0.0051, "scale": 1.0},
    "vicreg_cifar": {"invariance": 25, "variance": 25, "covariance": 1, "variance_scale": 2},
    "vicreg_imagenet": {"invariance": 25, "variance": 25, "covariance": 1, "variance_scale": 1},
}

GLOROT = {"kernel_initializer": "glorot_uniform"}
CONTEXT = {"positions": {"order": (0, 1)}, **GLOROT, "layer_scale": 0.1, "drop_path": 0.1}
TRANSFORMERS = {
    "dino_cifar": ("tiny", {"patch": 4, "drop_path": 0.1}),
    "ibot_cifar": ("tiny", {"patch": 4, "drop_path": 0.1}),
    "ibot_imagenet": ("small", {"patch": 16, "drop_path": 0.1}),
    "mmc_cifar": ("tiny", {"patch": 4, "drop_path": 0.1}),
    "mmc_imagenet": ("small", {"patch": 16, "drop_path": 0.1}),
    "dino_imagenet": ("small", {"patch": 16, "drop_path": 0.1}),
    "mae_cifar": ("tiny", {"patch": 4, "positions": "sincos", **GLOROT}),
    "mae_imagenet": ("base", {"positions": "sincos", **GLOROT}),
    "audio_mae_audioset": ("base", {"positions": "sincos", **GLOROT}),
    "uni4eye_octa": ("large", {"positions": "sincos", **GLOROT}),
    "simmim_cifar": ("tiny", {"patch": 4, "drop_path": 0.1}),
    "simmim_imagenet": ("base", {"layer_scale": 0.1, "drop_path": 0.1}),
    "gmml_cifar": ("tiny", {"patch": 4}),
    "gmml_imagenet": ("small", {}),
    "cae_cifar": ("tiny", {"patch": 4, **CONTEXT}),
    "cae_imagenet": ("base", CONTEXT),
    "crop_mae_cifar": ("tiny", {"patch": 4, "positions": "sincos", **GLOROT}),
    "crop_mae_imagenet": ("small", {"positions": "sincos", **GLOROT}),
    "sit_cifar": ("tiny", {"patch": 4, "drop_path": 0.1}),
    "sit_imagenet": ("small", {"patch": 16, "drop_path": 0.1}),
    "color_mae_cifar": ("tiny", {"patch": 4, "positions": "sincos", **GLOROT}),
    "color_mae_imagenet": ("base", {"positions": "sincos", **GLOROT}),
    "mixed_ae_cifar": ("tiny", {"patch": 4, "positions": "sincos", **GLOROT}),
    "mixed_ae_imagenet": ("base", {"positions": "sincos", **GLOROT}),
    "position_prediction_cifar": ("tiny", {"patch": 4, "positions": "none", **GLOROT}),
    "position_prediction_imagenet": ("base", {"positions": "none", "drop_path": 0.1}),
    "thorax_mae_cifar": ("tiny", {"patch": 4, "positions": "sincos", **GLOROT}),
    "thorax_mae_imagenet": ("small", {"positions": "sincos", **GLOROT}),
    "g2sd_cifar": ("tiny", {"patch": 4, "positions": "sincos", **GLOROT}),
    "g2sd_imagenet": ("small", {"positions": "sincos", **GLOROT}),
    "hybrid_distillation_cifar": ("tiny", {"patch": 4, "positions": "sincos", **GLOROT}),
    "hybrid_distillation_imagenet": ("base", {"positions": "sincos", **GLOROT}),
    "mask_align_cifar": (
        "tiny",
        {"patch": 4, "positions": "sincos", "drop_path": 0.1, **GLOROT},
    ),
    "mask_align_imagenet": ("base", {"positions": "sincos", "drop_path": 0.1, **GLOROT}),
    "ijepa_cifar": ("tiny", {"patch": 4, "class_token": False, "positions": "sincos", **GLOROT}),
    "sparse_jepa_cifar": (
        "tiny",
        {"patch": 4, "class_token": False, "positions": "sincos", **GLOROT},
    ),
    "ijepa_imagenet": ("base", {"class_token": False, "positions": "sincos"}),
    "dseq_jepa_cifar": (
        "tiny",
        {"patch": 4, "pooling": "mean", "positions": "sincos", **GLOROT},
    ),
    "dseq_jepa_imagenet": ("base", {"pooling": "mean", "positions": "sincos"}),
    "sar_jepa_radar": ("base", {"positions": "rotary", **GLOROT}),
    "franca_cifar": ("tiny", {"patch": 4, "drop_path": 0.1}),
    "franca_imagenet": (
        "base",
        {
            "patch": 14,
            "activation": "swiglu",
            "mlp_ratio": 8 / 3,
            "layer_scale": 1e-5,
            "drop_path": 0.1,
        },
    ),
}


def tiny_encoder(shape):
    """An encoder that costs nothing: the heads and the optimizer are what is looked at."""
    images = keras.Input(shape)
    x = keras.layers.GlobalAveragePooling2D()(images)
    return keras.Model(images, keras.layers.Dense(8)(x))


def tiny_convolution(shape):
    """The same for methods that mask cells of a network's last map."""
    images = keras.Input(shape)
    x = keras.layers.Conv2D(4, 8, 8)(images)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))


def tiny_transformer(shape, patch=16, depth=1, positions="learned", class_token=True, pooling=None):
    """The same for methods that mask patches."""
    from keras_ssl import backbones

    sizes = {"width": 6, "depth": depth, "heads": 1, "class_token": class_token}
    sizes |= {"pooling": pooling}
    return backbones.VisionTransformer("tiny", shape, patch, positions=positions, **sizes)


def teachers(method, shape, patch):
    """What a method learns from, which its recipes leave open."""
    network = tiny_transformer(shape, patch, 5)
    decoder = tokens.TransformerDecoder(3, 8, 4, 2)
    decoder.build((None, None, 6))
    given = {
        "MaskAlign": {"teacher": network},
        "G2SD": {"teacher": (network, decoder)},
        "HybridDistillation": {"teacher": network, "relation_teacher": network},
    }
    return given.get(method, {})


# Of the two recipes of a method the one for large images takes longer to build.
LONG = [n for n in TABLE if n.endswith("_imagenet") and n.replace("imagenet", "cifar") in TABLE]


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in TABLE]
)
def test_a_recipe_builds_with_the_numbers_of_its_source(name):
    epochs, batch, peak, warmup, end, decay, head, predictor = TABLE[name]
    recipe = recipes.get(name)
    assert (recipe.epochs, recipe.batch_size) == (epochs, batch)
    assert (recipe.projector, recipe.predictor) == (head, predictor)
    assert recipe.source
    if recipe.method != "SupCon":  # each of its recipes has those of its source
        assert recipe.views == VIEWS.get(recipe.method, recipe.method.lower())
    shape = recipe.image_shape or recipe.sample_shape
    # Heads 8192 wide hold 134 million weights; narrow ones show the same settings.
    narrow = {"projector": (16,) * len(head)} if head is not None else {}
    if predictor is not None:
        narrow["predictor"] = (16, 16)
    if recipe.method == "CAE":
        narrow |= {"regressor": (1, 1), "decoder": (1, 1)}
    if "predictor" in recipe.model:
        narrow["model"] = {**recipe.model, "predictor": (8, 1, 1)}
        # Of the six latents of a narrow encoder.
        narrow["model"] |= {"groups": 2} if "groups" in recipe.model else {}
    images = shape.get("image") if isinstance(shape, dict) else shape
    if isinstance(recipe.backbone, recipes.Transformer):
        backbone = dataclasses.replace(recipe.backbone, width=6, depth=1, heads=1)
        if recipe.method == "SALT":
            narrow["teacher"] = backbone.build(shape, seed=0)
    elif recipe.backbone.startswith("vit_"):
        patch = recipe.backbone_options.get("patch", 16)
        narrow |= teachers(recipe.method, images, patch)
        # A table of sines does not fit its width.
        places = "none" if recipe.backbone_options.get("positions") == "none" else "learned"
        depth, options = 5 if "teacher" in narrow else 1, recipe.backbone_options
        token, pooling = options.get("class_token") is not False, options.get("pooling")
        backbone = tiny_transformer(images, patch, depth, places, token, pooling)
    elif "convolutional network" in methods()[recipe.method].needs:
        backbone, narrow["model"] = tiny_convolution(shape), {"decoder": 16}
    else:
        backbone = tiny_encoder(shape)
    model = recipe.build(shape, 10, seed=0, backbone=backbone, **narrow)
    rate = model.optimizer._learning_rate
    assert float(rate(warmup * 10)) == pytest.approx(peak)
    assert float(rate(epochs * 10)) == pytest.approx(peak * end, abs=1e-6)
    assert float(model.optimizer.weight_decay) == pytest.approx(decay)
    for key, value in SETTINGS.get(name, {}).items():
        assert getattr(model, key) == value, key


@pytest.mark.parametrize("name", [n for n in recipes.names() if n.endswith("_digits")])
def test_a_digits_recipe_builds_whole(name):
    model = recipes.get(name).build((16, 16, 1), 6, seed=0)
    assert model.encoder.input_shape == (None, 16, 16, 1)


def test_the_mixed_term_of_imagenet_rises():
    recipe = recipes.get("mixed_barlow_twins_imagenet")
    encoder = tiny_encoder((32, 32, 3))
    model = recipe.build((32, 32, 3), 100, seed=0, backbone=encoder, projector=(8, 8, 8))
    assert [float(model.mix_scale(step)) for step in (0, 500, 1000, 9000)] == [0.0, 0.5, 1.0, 1.0]


def test_rates_that_fall_in_steps_or_start_again():
    encoder = tiny_encoder((32, 32, 3))
    sla = recipes.get("sla_cifar").build((32, 32, 3), 100, seed=0, backbone=encoder)
    rate = sla.optimizer._learning_rate
    at = [float(rate(epoch * 100)) for epoch in (0, 100, 110, 150, 160, 204)]
    assert at == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    recipe = recipes.get("gsimclr_cifar")
    assert (recipe.epochs, recipe.batch_size, recipe.projector) == (15, 64, (256, 128, 50))
    guided = recipe.build((32, 32, 3), 781, seed=0, backbone=encoder)
    rate = guided.optimizer._learning_rate
    assert [float(rate(step)) for step in (0, 500, 999, 1000, 2999)] == pytest.approx(
        [0.1, 0.05, 0.0, 0.1, 0.0], abs=1e-4
    )
    assert guided.optimizer.momentum == 0.0 and guided.temperature == 0.1


def test_encoders_are_the_papers():
    for name in TABLE:
        recipe = recipes.get(name)
        small = recipe.data == "cifar"
        small_network = name in ("sie_imagenet", "act_jepa_pushes") or (
            small and "sup_con" not in name
        )
        if isinstance(recipe.backbone, recipes.Transformer):
            continue
        if name in TRANSFORMERS:
            size, options = TRANSFORMERS[name]
            assert (recipe.backbone, recipe.backbone_options) == (f"vit_{size}", options)
        else:
            assert recipe.backbone == ("resnet18" if small_network else "resnet50")
            assert recipe.backbone_options == {"stem": "small" if small else "imagenet"}
        if recipe.image_shape is not None:
            assert recipe.image_shape == ((32, 32, 3) if small else (224, 224, 3))
        elif name == "audio_mae_audioset":
            assert recipe.sample_shape == (1024, 128, 1)


def test_schedules_of_dino():
    encoder = tiny_encoder((32, 32, 3))
    recipe = recipes.get("dino_cifar")
    model = recipe.build((32, 32, 3), 10, seed=0, backbone=encoder, projector=(8, 4))
    masked = recipes.get("ibot_cifar").build(
        (32, 32, 3), 10, seed=0, backbone=tiny_transformer((32, 32, 3)), projector=(8, 4)
    )
    assert [float(masked.patch_temperature(s)) for s in (0, 300)] == pytest.approx([0.04, 0.07])
    found = [float(model.teacher_temperature(step)) for step in (0, 150, 300, 9000)]
    assert found == pytest.approx([0.04, 0.055, 0.07, 0.07])
    decay = model.optimizer._weight_decay
    assert [float(decay(step)) for step in (0, 5000, 10000)] == pytest.approx([0.04, 0.22, 0.4])
    assert [float(model.momentum(step)) for step in (0, 10000)] == pytest.approx([0.9995, 1.0])
    assert model.optimizer.clipnorm == 3.0


def test_teacher_momentum_and_optimizer_families():
    assert recipes.get("byol_cifar").teacher_momentum == 0.99
    moco = recipes.get("moco_v2_cifar")
    assert (moco.teacher_momentum, moco.teacher_momentum_end) == (0.99, 0.999)
    assert recipes.get("moco_v3_imagenet").teacher_momentum == 0.996
    assert recipes.get("byol_imagenet").teacher_momentum == 0.996
    assert recipes.get("simclr_imagenet").optimizer.options == {"lr_in_momentum": True}
    bias = recipes.get("barlow_twins_imagenet").optimizer
    assert bias.options["bias_scale"] * bias.learning_rate == pytest.approx(0.0048)
    solo = recipes.get("vicreg_cifar").optimizer
    assert solo.warmup_start == 3e-5
    assert solo.options == {"trust_coefficient": 0.02, "clip": True, "ratio": "separate"}


def test_the_momentum_of_ijepa_rises_in_a_straight_line():
    recipe = recipes.get("ijepa_imagenet")
    backbone = tiny_transformer((64, 64, 3), 8, class_token=False)
    model = recipe.build((64, 64, 3), 10, seed=0, backbone=backbone, model={"predictor": (8, 1, 1)})
    found = [float(model.momentum(step)) for step in (0, 1500, 6000)]
    assert found == pytest.approx([0.996, 0.997, 1.0])
    assert recipe.model["predictor"] == (384, 6, 12)
    decay, rate = model.optimizer._weight_decay, model.optimizer._learning_rate
    assert [float(decay(step)) for step in (0, 3000, 6000)] == pytest.approx([0.04, 0.22, 0.4])
    assert float(rate(0)) == pytest.approx(2e-4)


def test_larc_of_the_authors_adapts_every_parameter():
    for name in ("swav_imagenet", "deepcluster_v2_imagenet"):
        optimizer = recipes.get(name).optimizer
        assert optimizer.options == {"ratio": "separate", "exclude_rank": -1}
        assert optimizer.warmup_start == 0.3


def test_spark_follows_the_released_command():
    small, large = (recipes.get(f"spark_{data}") for data in ("cifar", "imagenet"))
    assert (small.model, large.model) == ({"decoder": 256}, {"decoder": 768})
    images = keras.Input((64, 64, 3))
    maps = keras.layers.Conv2D(4, 32, 32)(images)
    encoder = keras.Model(images, keras.layers.GlobalAveragePooling2D()(maps))
    model = large.build((64, 64, 3), 10, seed=0, backbone=encoder, model={"decoder": 32})
    assert (model.masking.ratio, model.masking.rounding) == (0.6, "round_visible")
    optimizer = model.optimizer
    assert type(optimizer).__name__ == "LAMB"
    assert (optimizer.beta_2, optimizer.global_clipnorm) == (0.95, 5.0)
    rate, decay = optimizer._learning_rate, optimizer._weight_decay
    assert float(rate(0)) == pytest.approx(0.005 * 3.2e-3)
    assert [float(decay(s)) for s in (0, 8000, 16000)] == pytest.approx([0.04, 0.12, 0.2])


def test_delays_shrink_with_the_run():
    encoder = tiny_encoder((32, 32, 3))
    short = recipes.get("swav_cifar").build(
        (32, 32, 3), 10, seed=0, backbone=encoder, projector=(8, 4), epochs=100
    )
    assert (short.queue_start, short.freeze_steps) == (100, 20)


def test_the_rate_of_simsiams_predictor_stays():
    encoder = tiny_encoder((32, 32, 3))
    model = recipes.get("simsiam_cifar").build(
        (32, 32, 3), 1, seed=0, backbone=encoder, projector=(8, 8, 8), predictor=(4, 8)
    )
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(recipes.get("simsiam_cifar").epochs)
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    optimizer.apply_gradients([(keras.ops.ones_like(v), v) for v in model.trainable_variables])
    for old, variable in zip(before, model.trainable_variables, strict=True):
        moved = abs(keras.ops.convert_to_numpy(variable) - old).max()
        # At the end of the schedule everything but the predictor stands still.
        assert (
            moved == pytest.approx(0.5, rel=1e-3) if "predictor" in variable.path else moved < 1e-6
        )


def test_tokens_of_other_samples_are_the_papers():
    video, films = (recipes.get(n).backbone for n in ("video_mae_v2_hybrid", "lv_mae_films"))
    assert (video.width, video.depth, video.heads) == (768, 12, 12)
    assert video.tokenizer_options == {"patch": (2, 16, 16)} and not video.options["class_token"]
    assert (films.width, films.depth, films.heads) == (1024, 32, 16)
    assert films.tokenizer is tokens.EmbeddingTokenizer


def small(name, width=12, **options):
    """A recipe's own encoder, narrow and shallow."""
    backbone = dataclasses.replace(recipes.get(name).backbone, width=width, depth=1, heads=2)
    return {"backbone": backbone, "model": {"decoder": (12, 1, 2), **options}}


def test_recipes_of_other_samples_train():
    rng = np.random.default_rng(0)
    video = recipes.get("video_mae_v2_hybrid").build(
        (4, 64, 64, 1), 2, seed=0, **small("video_mae_v2_hybrid", 24, masking=0.7)
    )
    assert video.encoder.grid == (2, 4, 4) and video.masking.ratio == 0.7
    films = recipes.get("lv_mae_films").build(
        {"vectors": (12, 5), "real": (12,)}, 2, seed=0, **small("lv_mae_films")
    )
    sizes = {"width": 12, "depth": 1, "heads": 2, "patch": 8}
    retina = recipes.get("uni4eye_octa").build(
        {"image": (16, 16, 1), "volume": (8, 8, 8, 1)},
        2,
        seed=0,
        backbone_options=sizes,
        model={"volume_patch": (4, 4, 4), "decoder_size": (12, 1, 2)},
    )
    assert (retina.encoder.grid, retina.volume_encoder.grid) == ((2, 2), (2, 2, 2))
    image = rng.uniform(size=(4, 16, 16, 1)).astype("float32")
    batches = {
        films: {"vectors": rng.normal(size=(4, 12, 5)).astype("float32"), "real": np.ones((4, 12))},
        retina: {"image": image, "volume": rng.uniform(size=(4, 8, 8, 8, 1)).astype("float32")},
    }
    for model, batch in batches.items():
        views = model.make_views(batch)
        found = model.compute_losses(views, True)
        assert all(np.isfinite(float(value)) for value in found.values())


def test_a_table_has_a_recipe_as_well():
    """Any tokenizer makes the encoder of a recipe, and the same seed the same weights."""
    recipe = recipes.Recipe(
        name="mae_table",
        method="MAE",
        data="table",
        source="none",
        backbone=recipes.Transformer(
            tokens.FeatureTokenizer, 12, 1, 2, {"numeric": 3, "cardinalities": (4,)}
        ),
        sample_shape={"numeric": (3,), "categorical": (1,)},
        epochs=1,
        batch_size=8,
        optimizer=recipes.Optimizer("adamw", 1e-3),
    )
    first, second = (recipe.backbone.build(recipe.sample_shape, seed=3) for _ in range(2))
    assert first.grid == (4,) and first.output_shape == (None, 12)
    pairs = zip(first.weights, second.weights, strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs)


def test_samples_of_another_kind_are_named():
    with pytest.raises(ValueError, match="AudioMAE is no method of images alone"):
        recipes.for_images("audio-mae", (32, 32, 3))
    with pytest.raises(ValueError, match="takes samples of a shape like .16, 224, 224, 3."):
        recipes.get("video_mae_v2_hybrid").build((224, 224, 3))
    with pytest.raises(ValueError, match="takes samples of a shape like .'image'"):
        recipes.get("uni4eye_octa").build({"image": (224, 224, 3)})
    with pytest.raises(ValueError, match="needs an image_shape, or a sample_shape"):
        dataclasses.replace(recipes.get("mae_cifar"), image_shape=None)


def test_an_image_size_finds_its_recipe():
    assert recipes.for_images("simclr", (16, 16, 1)).name == "simclr_digits"
    assert recipes.for_images("Barlow-Twins", (32, 32, 3)).name == "barlow_twins_cifar"
    assert recipes.for_images("BYOL", (224, 224, 3)).name == "byol_imagenet"


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="simclr_cifar"):
        recipes.get("simclr_cifr")
    with pytest.raises(ValueError, match="Did you mean SimCLR"):
        recipes.for_images("simclrr", (32, 32, 3))
    with pytest.raises(ValueError, match="Did you mean epochs"):
        recipes.get("simclr_digits").build((16, 16, 1), 6, epoch=3)


def test_a_recipe_takes_arguments_of_its_method():
    encoder = tiny_encoder((32, 32, 3))
    simclr = recipes.get("simclr_cifar")
    model = simclr.build((32, 32, 3), 1, backbone=encoder, projector=(4,), temperature=0.3)
    assert model.temperature == 0.3
    with pytest.raises(ValueError, match="Did you mean temperature"):
        simclr.build((32, 32, 3), 1, backbone=encoder, temprature=0.3)
    with pytest.raises(ValueError, match="MaskAlign needs teacher=..., which no recipe can know"):
        recipes.get("mask_align_cifar").build()


def test_the_same_seed_builds_the_same_weights_and_no_two_parts_share_them():
    first, second, other = (recipes.get("byol_digits").build((16, 16, 1), 6, s) for s in (1, 1, 2))
    pairs = list(zip(first.trainable_variables, second.trainable_variables, strict=True))
    assert all((a.numpy() == b.numpy()).all() for a, b in pairs)
    kernel, different = (m.encoder.trainable_variables[0].numpy() for m in (first, other))
    assert (kernel != different).any()
