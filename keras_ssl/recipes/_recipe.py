# SPDX-License-Identifier: Apache-2.0
"""What a recipe is: a method with views, encoder, optimizer, schedule, epochs and batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras

from keras_ssl import backbones, layers, optimizers, schedules
from keras_ssl.core import registry
from keras_ssl.core.seeds import layer_seed

ENCODER_SEED, PROJECTOR_SEED, PREDICTOR_SEED = 101, 102, 103
# A run shortened by the user keeps the shape of its schedule.
LONGEST_WARMUP = 0.1


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer with its learning rate schedule: linear warm-up, then half a cosine, or steps.

    Args:
        kind: `"lars"`, `"sgd"`, `"adamw"` or `"lamb"`.
        learning_rate: base learning rate at the reference batch.
        reference: batch for which the base is stated; None: not scaled.
        scaling: how the rate follows the batch, `"linear"` or `"sqrt"`.
        warmup_epochs: length of the warm-up, at most `longest_warmup` of the run.
        warmup_start: learning rate at step 0 of the warm-up.
        end_factor: learning rate at the end, as a share of the scaled base.
        weight_decay: L2 decay; for `"adamw"` and `"lamb"` of the weights, not of the loss.
        weight_decay_end: where the decay ends that goes there by half a cosine; None: constant.
        constant: regular expression of variable paths whose learning rate does not decay.
        drops: shares of the run after each of which the rate falls to a tenth, in place of the
            cosine; without warm-up.
        restart_steps: length of the first of several cosines, each twice as long as the one
            before (Loshchilov & Hutter, 2017), in place of one; without warm-up.
        longest_warmup: share of the run, which keeps the shape of the schedule of a short one.
        options: further arguments of the optimizer's class.
    """

    kind: str
    learning_rate: float
    reference: int | None = 256
    warmup_epochs: float = 0.0
    warmup_start: float = 0.0
    end_factor: float = 0.0
    weight_decay: float = 0.0
    weight_decay_end: float | None = None
    constant: str | None = None
    drops: tuple[float, ...] = ()
    restart_steps: int | None = None
    longest_warmup: float = LONGEST_WARMUP
    scaling: str = "linear"
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, epochs: int, steps_per_epoch: int, batch_size: int) -> Any:
        """Makes the optimizer.

        Args:
            epochs: length of the run.
            steps_per_epoch: optimizer steps of an epoch.
            batch_size: global batch.

        Returns:
            A Keras optimizer.
        """
        base = self.scaled(batch_size)
        schedule = self._schedule(base, epochs, steps_per_epoch)
        classes = {
            "lars": optimizers.LARS,
            "sgd": optimizers.SGD,
            "adamw": optimizers.AdamW,
            "lamb": optimizers.LAMB,
        }
        options = dict(self.options)
        if self.constant is not None:
            classes["sgd"] = optimizers.PartlyConstantSGD
            options |= {"constant": self.constant, "constant_rate": base}
        decay: Any = self.weight_decay
        if self.weight_decay_end is not None:
            steps = epochs * steps_per_epoch
            decay = schedules.CosineRamp(decay, self.weight_decay_end, total_steps=steps)
        return classes[self.kind](schedule, weight_decay=decay, **options)

    def _schedule(self, base: float, epochs: int, steps_per_epoch: int) -> Any:
        steps = epochs * steps_per_epoch
        if self.drops:
            ends = [round(share * steps) for share in self.drops]
            rates = [base * 0.1**index for index in range(len(ends) + 1)]
            return keras.optimizers.schedules.PiecewiseConstantDecay(ends, rates)
        if self.restart_steps is not None:
            return keras.optimizers.schedules.CosineDecayRestarts(base, self.restart_steps)
        return schedules.WarmupCosine(
            base,
            total_steps=steps,
            warmup_steps=min(self.warmup_epochs, self.longest_warmup * epochs) * steps_per_epoch,
            start=min(self.warmup_start, base),
            end=base * self.end_factor,
        )

    def scaled(self, batch_size: int) -> float:
        """The peak learning rate for a global batch."""
        if self.reference is None:
            return self.learning_rate
        return schedules.scale_by_batch(
            self.learning_rate, batch_size, reference=self.reference, rule=self.scaling
        )


@dataclasses.dataclass(frozen=True)
class Transformer:
    """A transformer over tokens of any samples, as the encoder of a recipe.

    Args:
        tokenizer: class of `keras_ssl.tokens`, or your own, that takes `width` and `seed`.
        width: features of a token.
        depth: number of blocks.
        heads: heads of a block.
        tokenizer_options: further arguments of the tokenizer, such as `patch`.
        options: further arguments of `keras_ssl.backbones.TokenTransformer`.
    """

    tokenizer: type[keras.Layer]
    width: int
    depth: int
    heads: int
    tokenizer_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, sample_shape: Any, seed: int | None = None) -> backbones.TokenTransformer:
        """Makes the encoder.

        Args:
            sample_shape: of one sample, or a dict of shapes for a tokenizer that takes a dict.
            seed: of the weights; None draws one.

        Returns:
            A Keras model from samples to `(batch, width)`.
        """
        options = {"width": self.width, "seed": layer_seed(seed, 0), **self.tokenizer_options}
        tokenizer = self.tokenizer(**options)
        return backbones.TokenTransformer(
            tokenizer, sample_shape, self.depth, self.heads, seed=seed, **self.options
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """A published way to train one method.

    Args:
        name: for `recipes.get`, `method_data`.
        method: name of the model class.
        data: what it was made for, such as `"digits"`, `"cifar"`, `"imagenet"` or `"audioset"`.
        source: where the numbers come from.
        views: name of the views, see `keras_ssl.views.get`; None where the method has none.
        backbone: name of the encoder, see `keras_ssl.backbones.get`, or a `Transformer`.
        image_shape: `(height, width, channels)` of the images it was made for.
        sample_shape: in its place, for samples that are no images, or not images alone: a shape or
            a dict of shapes, as the encoder takes them. A name of a backbone takes the shape of
            `"image"` of a dict; the others are `{name}_shape` of the model class.
        epochs: passes over the data.
        batch_size: global batch.
        optimizer: optimizer and schedule.
        projector: arguments of `keras_ssl.layers.MLP`, or a tuple of widths for the method's own
            kind of head; None where the method has none.
        predictor: the same for the predictor, where the method has one.
        teacher_momentum: momentum at step 0, ramped over the run.
        teacher_momentum_end: where that ramp ends.
        teacher_ramp: its form, half a `"cosine"` or `"linear"`.
        backbone_options: arguments of the encoder's builder.
        model: further arguments of the model class.
        ramps: of those, which rise from 0, over how many epochs (at most a tenth of the run), None
            for the whole run; or (start, epochs) where they rise from another number.
        delays: arguments of the model class that count optimizer steps, in epochs (at most a tenth
            of the run).
    """

    name: str
    method: str
    data: str
    source: str
    views: str | None = None
    backbone: str | Transformer
    image_shape: tuple[int, int, int] | None = None
    sample_shape: Any = None
    epochs: int
    batch_size: int
    optimizer: Optimizer
    projector: Mapping[str, Any] | tuple[int, ...] | None = None
    predictor: Mapping[str, Any] | tuple[int, ...] | None = None
    teacher_momentum: float | None = None
    teacher_momentum_end: float = 1.0
    teacher_ramp: str = "cosine"
    backbone_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    model: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    ramps: Mapping[str, float | None | tuple[float, float | None]] = dataclasses.field(
        default_factory=dict
    )
    delays: Mapping[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.image_shape is None) == (self.sample_shape is None):
            raise ValueError(
                f"Recipe {self.name} needs an image_shape, or a sample_shape for what is no image."
            )

    def build(
        self,
        input_shape: Any = None,
        steps_per_epoch: int = 1,
        seed: int | None = None,
        **overrides: Any,
    ) -> Any:
        """Makes the compiled model.

        Args:
            input_shape: `(height, width, channels)` of the images, or what `sample_shape` says of
                other samples; None for the recipe's own.
            steps_per_epoch: optimizer steps of an epoch; the schedules are measured in it.
            seed: of weights and views; None draws one.
            **overrides: `backbone` (a name, a `Transformer` or a Keras model), any other field of
                the recipe but its name, or an argument of the model class, such as the `teacher`
                that a method learns from.

        Returns:
            A `keras_ssl.SSLModel`, ready for `fit`.

        Raises:
            ValueError: for an override that does not exist, a shape of another kind than the
                recipe's, or without what the class must be given.

        Example:

        ```python
        model = recipes.get("simclr_cifar").build((32, 32, 3), steps_per_epoch=97, epochs=200)
        model = recipes.get("mask_align_cifar").build(teacher=trained.encoder)
        ```
        """
        encoder = overrides.pop("backbone", None) or self.backbone
        known = [f.name for f in dataclasses.fields(self) if f.name not in ("name", "method")]
        arguments = registry.arguments(registry.find(self.method), "encoder", "seed")
        for name in overrides:
            if name not in known and name not in arguments:
                nearest = registry.nearest(name, [*known, *arguments])
                raise ValueError(f"Cannot override {name!r}. {nearest}")
        given = {n: overrides.pop(n) for n in list(overrides) if n not in known}
        recipe = dataclasses.replace(self, **overrides)
        recipe = dataclasses.replace(recipe, model={**recipe.model, **given})
        shape = recipe._checked_shape(input_shape)
        image, others = shape, {}
        if isinstance(shape, Mapping) and "image" in shape:
            image = shape["image"]
            others = {f"{name}_shape": one for name, one in shape.items() if name != "image"}
        if isinstance(encoder, str):
            # What another encoder was given is not an argument of this one.
            own = encoder == self.backbone or "backbone_options" in overrides
            options = recipe.backbone_options if own else {}
            options = {"seed": layer_seed(seed, ENCODER_SEED), **options}
            encoder = backbones.get(encoder, image, **options)
        elif isinstance(encoder, Transformer):
            encoder = encoder.build(shape, layer_seed(seed, ENCODER_SEED))
        return recipe._assemble(encoder, others, steps_per_epoch, seed)

    def missing(self) -> list[str]:
        """What `build` must be given besides, such as the `teacher` of a distillation."""
        shapes = self.sample_shape if isinstance(self.sample_shape, Mapping) else ()
        given = {*self.model, *self.delays, *(f"{name}_shape" for name in shapes)}
        given |= {name for name in ("projector", "predictor") if getattr(self, name) is not None}
        given |= {"momentum"} if self.teacher_momentum is not None else set()
        cls = registry.find(self.method)
        needed = registry.arguments(cls, "encoder", "seed", "views")
        return [name for name, must in needed.items() if must and name not in given]

    def _checked_shape(self, given: Any) -> Any:
        """The shape of a sample, as a tuple or a dict of them."""
        own: Any = self.sample_shape if self.image_shape is None else self.image_shape
        shape = own if given is None else given
        if isinstance(own, Mapping):
            fits = isinstance(shape, Mapping) and set(shape) == set(own)
        else:
            fits = not isinstance(shape, Mapping) and len(shape) == len(own)
        if not fits:
            raise ValueError(
                f"Recipe {self.name} takes samples of a shape like {own}; received {shape}."
            )
        if isinstance(shape, Mapping):
            return {name: tuple(one) for name, one in shape.items()}
        return tuple(shape)

    def _assemble(
        self, encoder: keras.Model, shapes: dict, steps_per_epoch: int, seed: int | None
    ) -> Any:
        arguments: dict[str, Any] = {**self.model, **shapes}
        for name, ramp in self.ramps.items():
            start, epochs = ramp if isinstance(ramp, tuple) else (0.0, ramp)
            most = self.epochs if epochs is None else LONGEST_WARMUP * self.epochs
            steps = min(most if epochs is None else epochs, most) * steps_per_epoch
            arguments[name] = schedules.LinearWarmup(start, arguments[name], steps)
        for name, epochs in self.delays.items():
            steps = min(epochs, LONGEST_WARMUP * self.epochs) * steps_per_epoch
            arguments[name] = round(steps)
        if self.projector is not None:
            arguments["projector"] = _head(self.projector, seed, PROJECTOR_SEED, "projector")
        if self.predictor is not None:
            arguments["predictor"] = _head(self.predictor, seed, PREDICTOR_SEED, "predictor")
        if self.teacher_momentum is not None:
            first, last = self.teacher_momentum, self.teacher_momentum_end
            steps = self.epochs * steps_per_epoch
            if self.teacher_ramp == "linear":
                arguments["momentum"] = schedules.LinearWarmup(first, last, steps)
            else:
                arguments["momentum"] = schedules.CosineMomentum(first, total_steps=steps, end=last)
        cls = registry.find(self.method)
        for name in self.missing():
            raise ValueError(
                f"{self.method} needs {name}=..., which no recipe can know: "
                f"recipes.get({self.name!r}).build({name}=...)."
            )
        model = cls(encoder, views=self.views, seed=seed, **arguments)
        model.compile(self.optimizer.build(self.epochs, steps_per_epoch, self.batch_size))
        return model


def _head(
    head: Mapping[str, Any] | tuple[int, ...], seed: int | None, position: int, name: str
) -> Any:
    if not isinstance(head, Mapping):
        return head
    return layers.MLP(**{"seed": layer_seed(seed, position), "name": name, **head})
