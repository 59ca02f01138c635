# SPDX-License-Identifier: Apache-2.0
"""The engine of masked modelling: tokenizer → masking → encoder → decoder → target → loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from keras_ssl import losses, targets
from keras_ssl.backbones import TokenTransformer
from keras_ssl.core import batches, distribution
from keras_ssl.core.seeds import layer_seed
from keras_ssl.losses.reconstruction import checked_token_error
from keras_ssl.masking import (
    MaskPlan,
    RandomMasking,
    asked_of,
    decode_of,
    decode_part,
    each_alone,
)
from keras_ssl.models.encoder_model import EncoderModel
from keras_ssl.models.masked._pictures import reconstructed
from keras_ssl.models.masked._views import check_samples, one_view_of
from keras_ssl.tokens import MaskToken, TransformerDecoder

# Tells the masks of a step from its views.
MASKS, DECODED = 7001, 7002
# Tokens that a target is adapted to.
ADAPTED = 100_000


class MaskedModeling(EncoderModel):
    """Predicts what is hidden of a sample from what is seen; a method chooses the parts.

    The modality is only the encoder's tokenizer. Calling the model gives the representation of
    whole samples.

    Class attributes:
        decoded_terms: of the `loss_terms` those that have a decoder and a target; `None` for all.
        layout: `"replace"` where hidden tokens become mask tokens whatever the masking, so that
            the encoder sees all places, `"sparse"` where it keeps the places of visible ones and
            leaves the others empty, `"context"` where none attends to them; else a plan with
            indices gathers the visible ones.
        several_views: whether the views may be several.
        makes: names of arguments below that a class fills itself, which its config leaves out.

    Args:
        encoder: a `backbones.TokenTransformer`, such as `backbones.VisionTransformer`.
        masking: a strategy of `masking`, or a ratio for `masking.RandomMasking`; `None` hides
            nothing, and the plan is `None`.
        decoder: `(width, depth, heads)` of a `tokens.TransformerDecoder`, or a layer called as it
            is; where a class has several `decoded_terms`, a dict with one for each. `None` where a
            class has something else in its place.
        target: a layer of `targets`, or `"pixels"` or `"normalized"`, or `None`; a dict like the
            decoder's.
        loss: of a token: `"l2"`, `"l1"`, `"smooth_l1"`, `"cosine"` or `"cross_entropy"`.
        decode: which hidden tokens are predicted: `None` for all, a share of them, or a masking
            strategy whose visible tokens are.
        views: name of views or a layer that makes one view of every sample; `None` leaves samples
            as they are (uint8 becomes 0..1).
        **kwargs: `seed`, `name`, `dtype`.

    Raises:
        ValueError: for an encoder without tokens, a ratio that leaves nothing visible or hidden,
            or parts that do not fit each other.
    """

    loss_terms = ("reconstruction",)
    decoded_terms: tuple[str, ...] | None = None
    layout: str | None = None
    several_views = False
    makes: tuple[str, ...] = ()

    def __init__(
        self,
        encoder: TokenTransformer,
        masking: float | keras.Layer | None = 0.75,
        decoder: Sequence[int] | keras.Layer | Mapping[str, Any] | None = (512, 8, 16),
        target: str | keras.Layer | Mapping[str, Any] | None = "normalized",
        loss: str = "l2",
        decode: float | keras.Layer | None = None,
        views: str | keras.Layer | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.encoder = self.checked_encoder(encoder)
        self.views = self.checked_views(views)
        self.masking: Any = RandomMasking(masking) if isinstance(masking, float) else masking
        needed = masking is not None or decoder is not None
        if needed and not isinstance(self.masking, keras.Layer):
            raise ValueError(
                f"masking is a ratio such as 0.75 or a layer of keras_ssl.masking; received "
                f"{masking!r}."
            )
        self.loss = checked_token_error(loss)
        self.decode: Any = decode
        if self.layout is not None and decode is not None:
            raise ValueError(
                f"{type(self).__name__} predicts all hidden tokens; leave decode=None."
            )
        grid = self.masked_encoder.grid
        for strategy in (self.masking, self.decode):
            if hasattr(strategy, "visible"):
                # Raises where the grid leaves nothing visible or nothing hidden.
                strategy.visible(grid)
        self.mask_token = None
        replaces = self.layout is None and getattr(self.masking, "replaces", False)
        if self.layout == "replace" or replaces:
            start = keras.initializers.TruncatedNormal(stddev=0.02)
            self.mask_token = MaskToken(start, layer_seed(self.seed, 1), dtype=self.dtype_policy)
            self.mask_token.build((None, *grid, self.encoder.width))
        self.target = self._each(target, self._target)
        self.decoder = self._each(decoder, self._decoder)
        self.built = True

    def checked_encoder(self, encoder: Any) -> Any:
        """The encoder, if it is of the kind that this class takes: made of tokens.

        Raises:
            ValueError: if it is not.
        """
        if not isinstance(encoder, TokenTransformer):
            raise ValueError(
                f"{type(self).__name__} hides tokens, so its encoder must be a "
                "backbones.TokenTransformer such as backbones.VisionTransformer(...); received "
                f"{type(encoder).__name__}. Your own Keras layers may be its tokenizer: "
                "backbones.TokenTransformer(tokenizer, input_shape)."
            )
        return encoder

    @property
    def masked_encoder(self) -> Any:
        """What encodes under a plan: the encoder, where it is made of tokens."""
        return self.encoder

    def checked_views(self, views: Any) -> Any:
        """A layer that makes one view of a sample, or `None`; see `one_view_of`."""
        return one_view_of(self, views)

    # --- parts ----------------------------------------------------------------------------

    @property
    def _decoded(self) -> tuple[str, ...]:
        return self.loss_terms if self.decoded_terms is None else self.decoded_terms

    def _each(self, given: Any, make: Any) -> Any:
        """One part, or one for each term that is decoded."""
        names = self._decoded
        if not isinstance(given, Mapping):
            if len(names) == 1:
                return make(given, names[0])
            given = {name: given for name in names}
        if set(given) != set(names):
            raise ValueError(
                f"{type(self).__name__} has the loss terms {list(names)}; a dict of parts must "
                f"name these, received {list(given)}."
            )
        return {name: make(given[name], name) for name in names}

    def _target(self, target: Any, term: str) -> keras.Layer | None:
        if target is None:
            return None
        if isinstance(target, str):
            names = {"pixels": None, "normalized": "patch"}
            if target not in names:
                raise ValueError(
                    f"target must be one of {list(names)} or a layer; received {target!r}."
                )
            target = targets.PixelTarget(self.masked_encoder.patch, normalize=names[target])
        target.check(self.masked_encoder.batch_shape, self.masked_encoder.grid)
        if hasattr(target, "adapt") and not target.built:
            target.build(self.masked_encoder.batch_shape)
        if target.categorical != (self.loss == "cross_entropy"):
            raise ValueError(
                f"{type(target).__name__} and loss={self.loss!r} do not go together: classes are "
                'predicted with "cross_entropy", numbers with another loss.'
            )
        return target

    def _decoder(self, decoder: Any, term: str) -> keras.Layer | None:
        if decoder is None:
            return None
        target = self.target[term] if isinstance(self.target, Mapping) else self.target
        position = self._decoded.index(term)
        return self.build_decoder(decoder, target, self.masked_encoder, position)

    def make_decoder(self, size: Any, values: int, **options: Any) -> keras.Layer:
        """A decoder of a size, not yet built.

        Args:
            size: what the constructor was given in place of a layer.
            values: numbers that it predicts for a token.
            **options: `seed` and `dtype`.

        Returns:
            The layer.
        """
        width, depth, heads = size
        return TransformerDecoder(values, width, depth, heads, **options)

    def build_decoder(
        self, decoder: Any, target: keras.Layer, encoder: Any, position: int = 0
    ) -> keras.Layer:
        """A built decoder for what a target asks of an encoder's tokens.

        Args:
            decoder: a layer, or the size of `make_decoder`.
            target: layer that says how many values a token has.
            encoder: the encoder whose tokens are decoded.
            position: tells this decoder's initial weights from the other decoders'.

        Returns:
            The built layer.

        Raises:
            ValueError: if a given layer predicts another number of values, or has windows for
                another number of axes.
        """
        values = target.head_width(encoder.batch_shape)
        if not isinstance(decoder, keras.Layer):
            seed = layer_seed(self.seed, 2, position)
            decoder = self.make_decoder(decoder, values, seed=seed, dtype=self.dtype_policy)
        if decoder.values is None:
            decoder.values = values
        if decoder.values != values:
            raise ValueError(
                f"the decoder predicts {decoder.values} values of a token, the target "
                f"{type(target).__name__} has {values}. Leave values=None to take the target's."
            )
        if hasattr(decoder, "check"):
            decoder.check(encoder.grid)
        if not decoder.built:
            decoder.build(encoder.encoded_shape)
        return decoder

    # --- the questions ----------------------------------------------------------------------

    def make_views(self, batch: Any) -> dict[str, Any]:
        """One view of every sample, and which of its tokens are hidden."""
        inputs = self.one_view(batch)
        return {"inputs": inputs, "plan": self.draw_plan(inputs, self.masked_encoder)}

    def one_view(self, samples: Any) -> Any:
        """One view of every sample, as the encoder takes it."""
        return self.all_views(samples)[0]

    def all_views(self, samples: Any, seed: Any = None) -> list:
        """All views of every sample, one where there are none; the next ones without a seed."""
        if not isinstance(samples, Mapping):
            check_samples(self, samples)
        if self.views is None:
            return [self.preprocess(samples)]
        return self.views(samples, seed=self.draw_seed() if seed is None else seed)

    def draw_plan(self, inputs: Any, encoder: Any, **context: Any) -> Any:
        """Which tokens of samples `(B, …)` are hidden in this step, see `plan_for`."""
        seed = distribution.fold_in(self.draw_seed(), MASKS)
        return self.plan_for(inputs, encoder, seed, **context)

    def plan_for(self, inputs: Any, encoder: Any, seed: Any, **context: Any) -> Any:
        """Which tokens are hidden by a seed.

        Args:
            inputs: samples `(B, …)`.
            encoder: whose tokens are hidden.
            seed: int32 `(2,)`.
            **context: what a strategy may know besides samples and step, see `Masking.plan`.

        Returns:
            `MaskPlan`, or `None` without a masking.
        """
        if self.masking is None:
            return None
        rows, grid = ops.shape(keras.tree.flatten(inputs)[0])[0], encoder.grid_of(inputs)
        step = getattr(getattr(self, "optimizer", None), "iterations", None)
        plan = self.masking.plan(rows, grid, seed, inputs=inputs, step=step, **context)
        if self.layout is not None:
            return MaskPlan(plan.mask, shown=plan.mask < 0.5 if self.layout == "context" else None)
        if self.decode is None:
            return plan
        if isinstance(self.decode, float):
            return decode_part(plan, self.decode)
        seed = distribution.fold_in(seed, DECODED)
        return decode_of(plan, self.decode.plan(rows, grid, seed, inputs=inputs, step=step))

    def compute_losses(self, views: dict, training: bool) -> dict[str, Any]:
        """How far predictions are from what was hidden."""
        inputs, plan = views["inputs"], views["plan"]
        decoder = self.decoder_for(views, training)
        return self.terms(inputs, plan, self.masked_encoder, decoder, self.target, training)

    def decoder_for(self, views: dict, training: bool = False) -> Any:
        """What predicts hidden tokens of views: a decoder, or a dict of one for each term."""
        return self.decoder

    def terms(
        self,
        inputs: Any,
        plan: MaskPlan,
        encoder: Any,
        decoder: Any,
        target: Any,
        training: bool,
    ) -> dict[str, Any]:
        """The losses of samples under a plan, of one decoder and target or one for each term.

        Of several plans the mean; sets of tokens that a plan asks for are predicted one by one.
        """
        names, grid = self._decoded, encoder.grid_of(inputs)
        decoder, target = (
            p if isinstance(p, Mapping) else dict.fromkeys(names, p) for p in (decoder, target)
        )
        wanted = {name: target[name](inputs, training=training) for name in names}
        plans = [plan] if isinstance(plan, MaskPlan) else plan
        found: dict[str, list] = {name: [] for name in names}
        made: dict[str, list] = {name: [] for name in names}
        for number, one in enumerate(plans):
            encoded, alone = self.encoded_sets(inputs, one, encoder, training), each_alone(one)
            where = {"plan": alone, "grid": grid, "training": training, **self.decoding(number)}
            for name in names:
                made[name].append(decoder[name](encoded, **where))
                found[name].append(self.compared(made[name][-1], wanted[name], one))
        means = {name: sum(errors) / len(plans) for name, errors in found.items()}
        return means | self.further_terms(made, plans)

    def encoded_sets(self, inputs: Any, plan: MaskPlan, encoder: Any, training: bool) -> Any:
        """Tokens of what is seen, a row for each of a plan's sets as `each_alone` has them."""
        options = {"mask_token": self.mask_token, "training": training}
        if plan.apart:
            inputs = ops.repeat(inputs, plan.sets, axis=0)
            return encoder.encode(inputs, each_alone(plan), **options)
        encoded = encoder.encode(inputs, plan, **options)
        return ops.repeat(encoded, plan.sets, axis=0) if plan.sets > 1 else encoded

    def decoding(self, number: int) -> dict[str, Any]:
        """Further arguments of decoders under one of several plans."""
        return {}

    def further_terms(self, predicted: dict[str, list], plans: Sequence) -> dict[str, Any]:
        """Terms of predictions alone, `(B · m, q, P)` for each term that is decoded and plan."""
        return {}

    def compared(self, predicted: Any, wanted: Any, plan: MaskPlan) -> Any:
        """The error of predictions `(B, q, P)`, or `(B · m, q, P)` of m sets, of `(B, L, P)`."""
        if plan.decode is None:
            return losses.token_error(predicted, wanted, plan.mask, self.loss)
        weight = each_alone(plan).weight
        return losses.token_error(predicted, asked_of(wanted, plan), weight, self.loss)

    def encode(self, inputs: Any, plan: MaskPlan, training: bool = False) -> Any:
        """Tokens `(B, e + k, D)` of what is seen; of all places where hidden ones are replaced."""
        return self.masked_encoder.encode(inputs, plan, self.mask_token, training=training)

    def fit(self, x: Any = None, *args: Any, **kwargs: Any):
        """Trains; arguments as `SSLModel.fit`. A target that must know data before, such as
        `targets.PatchCodeTarget`, is adapted to some of it."""
        for target in self._targets():
            if hasattr(target, "adapt") and not target.ready():
                rows = -(-ADAPTED // math.prod(self.masked_encoder.grid))
                target.adapt(self.preprocess(batches.some_rows(x, rows)))
        return super().fit(x, *args, **kwargs)

    def _targets(self) -> list:
        return list(self.target.values()) if isinstance(self.target, Mapping) else [self.target]

    def teachers(self) -> list:
        """Teachers of targets that follow the encoder."""
        found = [getattr(target, "teacher", None) for target in self._targets()]
        return [(t, self.encoder) for t in found if getattr(t, "momentum", None) is not None]

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = super().get_config()
        return {name: value for name, value in config.items() if name not in self.makes}

    def views_to_show(self, samples: Any, seed: Any) -> dict[str, Any]:
        """What `reconstruct` shows: samples as they are, masked by a seed, int32 `(2,)`."""
        inputs = self.preprocess(samples)
        return {"inputs": inputs, "plan": self.plan_for(inputs, self.masked_encoder, seed)}

    def reconstruct(self, samples: Any, seed: int = 0) -> dict[str, Any]:
        """What the model sees of samples and what it makes of it, for pictures.

        Args:
            samples: `(B, …)` as the model takes them.
            seed: of the mask.

        Returns:
            `original`, `masked` (the mean of all samples where hidden) and `reconstruction`
            (predictions where hidden, the sample elsewhere), float32 of the samples' shape.

        Raises:
            ValueError: for a target whose predictions are no samples.
        """
        return reconstructed(self, samples, seed)
