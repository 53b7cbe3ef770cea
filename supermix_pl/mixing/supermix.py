"""SuperMix: masks that a frozen teacher supervises."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from supermix_pl.arguments import (
    check_at_least,
    check_flag,
    check_not_negative,
    check_one_of,
    check_positive,
    check_share,
    check_size,
    check_transform,
    hold_floats,
)
from supermix_pl.mixing.checks import check_images, numbers
from supermix_pl.mixing.choosing import ChoosingMixer, Chosen
from supermix_pl.mixing.mixer import MixedBatch, Seed
from supermix_pl.mixing.natural import NaturalPass, float_autograd, show_natural
from supermix_pl.mixing.presenting import present
from supermix_pl.mixing.sampling import Pairing, draw_keys, draw_weights
from supermix_pl.mixing.unsolved import average_capped, own_logits, restored, settle
from supermix_pl.mixing.views import Transform, Viewer, keeps_graph, tell_substitute
from supermix_pl.solver import SGD, Newton, NewtonSmoothProjection, Sets, Solution, Solver, UpdateRule, solve
from supermix_pl.solver.masks import normalized_masks
from supermix_pl.solver.objective import criterion_objective, margin_objective, paper_objective
from supermix_pl.solver.rows import to_device
from supermix_pl.solver.saliency import contrast_logits, saliency_logits
from supermix_pl.teacher.frozen import FrozenTeacher, as_teacher
from supermix_pl.teacher.passes import Chunks
from supermix_pl.transforms import RandomCropFlip

_OBJECTIVES = {"paper": paper_objective, "margin": margin_objective, "criterion": criterion_objective}
_SOLVING = 0x501  # names the chance of the views that masks are solved under
_FAST: dict[str, Any] = {
    "views": "auto",
    "early_stop": False,
    "max_steps": 12,
    "mask_size": 16,
    "sigma": 0.5,
    "lambda_s": 12.0,
    "objective": "criterion",
    "max_logit_step": 3.0,
    "momentum": 0.7,
    "pairing": "distinct",
}


@dataclass(frozen=True, kw_only=True)
class SuperMix(ChoosingMixer):
    """Mix every image with k - 1 others, under masks that the teacher supervises.

    Algorithm 1 of Dabouei et al., "SuperMix: Supervising the Mixing Data Augmentation", CVPR 2021. The defaults are the
    paper's for CIFAR; for ImageNet the paper has k=3, sigma=2 and mask_size=16. `SuperMix.fast()` has the settings that
    we recommend.

    Deviation: a set that the paper would iterate on for ever ends after `max_steps`, and `on_unsolved` decides its mix.

    Deviation: with `views` the masks are solved under random views, as the student will see them, and not on the exact
    pixels: expectation over transformation (Athalye et al., "Synthesizing Robust Adversarial Examples", ICML 2018). One
    lucky view proves nothing, so all sets then take the same number of steps.

    Args:
        k: Sources in a set, >= 1.
        alpha: Concentration of the Dirichlet distribution of the mixing weights, > 0. Larger is more equal.
        lambda_s: Weight of the sparsity of the masks in the loss, >= 0. Larger is sharper.
        sigma: Standard deviation of the Gaussian that smooths the updates, in cells of the mask grid, >= 0. The rules
            "newton" and "sgd", and an `UpdateRule`, use it only for a start from saliency.
        mask_size: Side of the mask grid, or its (height, width), >= 1. The grid is never finer than the image.
        min_steps: Steps that every set takes before it may end, >= 0. With 0 a start that passes is accepted; from
            "zeros" that is the plain average.
        max_steps: Steps after which a set ends unsolved, >= min_steps and >= 1.
        pairing: Which images are mixed. "shift": each with the next ones of the batch. "random": with the next ones of
            a random order. "distinct": with random images of other classes, as far as the batch has enough.
        init: Where the masks start. "zeros": at the plain average. "saliency": at the saliency of each source.
            "contrast": at its contrast to that of the others, with the mixing weights. The last two cost one input
            gradient an image.
        update_rule: "newton_sp" (Eq. 7), "newton" or "sgd" (the baselines of Table 4), or an `UpdateRule`.
        objective: "paper" is Eq. 3. "margin" adds a pull on the two classes that decide whether a set is solved,
            "criterion" on all classes that are close to deciding it.
        max_logit_step: Largest change of one mask logit in a step, > 0; None for no bound.
        momentum: Share of the last step that is added to the next one, in [0, 1); Nesterov's.
        classes: Where the classes of the sources come from: the "teacher"'s argmax, or the given "labels".
        on_unsolved: What a set that ends unsolved becomes: "keep" its best mix, put the "source" image back, or "mixup"
            its sources with their weights. A set that ends non-finite always gets its source back. Without `early_stop`
            this acts on no other set.
        views: What the teacher sees a mix under while it is solved, drawn anew in every step. None: the exact pixels,
            as in the paper. A transform of a batch of images through which gradients flow, such as `RandomCropFlip` or
            one of kornia. "auto": the view that the callback or engine shows the student; `RandomCropFlip` if no
            gradient flows through that, or if nothing is shown.
        early_stop: Whether a set ends at the first test that it passes, after `min_steps`, with the masks of its best
            test. Otherwise every set takes `max_steps` steps and keeps its last masks. None is True without `views` and
            False with them. With views True is refused, as one lucky view would end a set.
        chunk_size: Images that the teacher sees at once, >= 1; None for all. It bounds the memory of the passes; the
            mixes are the same to rounding. It is halved when memory runs out.

    Raises:
        ValueError: If an argument is out of its range.
    """

    needs_teacher = True

    k: int = 2
    alpha: float = 3.0
    lambda_s: float = 25.0
    sigma: float = 1.0
    mask_size: int | Sequence[int] = 8
    min_steps: int = 1
    max_steps: int = 50
    pairing: Pairing = "shift"
    init: Literal["zeros", "saliency", "contrast"] = "zeros"
    update_rule: Literal["newton_sp", "newton", "sgd"] | NewtonSmoothProjection | Newton | SGD | UpdateRule = (
        "newton_sp"
    )
    objective: Literal["paper", "margin", "criterion"] = "paper"
    max_logit_step: float | None = None
    momentum: float = 0.0
    classes: Literal["teacher", "labels"] = "teacher"
    on_unsolved: Literal["keep", "source", "mixup"] = "keep"
    views: Literal["auto"] | Transform | None = None
    early_stop: bool | None = None
    chunk_size: int | None = dataclasses.field(default=None, repr=False)  # fixed mixes are known by the repr

    def __post_init__(self) -> None:
        check_at_least("k", self.k, 1)
        check_positive("alpha", self.alpha)
        check_not_negative("lambda_s", self.lambda_s)
        check_not_negative("sigma", self.sigma)
        size = check_size("mask_size", self.mask_size)
        if not isinstance(self.mask_size, int):  # lists come from configs
            object.__setattr__(self, "mask_size", size)
        check_at_least("min_steps", self.min_steps, 0)
        check_at_least("max_steps", self.max_steps, 1)
        if self.max_steps < self.min_steps:
            raise ValueError(f"expected max_steps >= min_steps, got {self.max_steps} and {self.min_steps}")
        if self.max_logit_step is not None:
            check_positive("max_logit_step", self.max_logit_step)
        check_share("momentum", self.momentum)
        hold_floats(self)
        if self.chunk_size is not None:
            check_at_least("chunk_size", self.chunk_size, 1)
        check_one_of("pairing", self.pairing, get_args(Pairing))
        check_one_of("init", self.init, ("zeros", "saliency", "contrast"))
        check_one_of("objective", self.objective, tuple(_OBJECTIVES))
        check_one_of("classes", self.classes, ("teacher", "labels"))
        check_one_of("on_unsolved", self.on_unsolved, ("keep", "source", "mixup"))
        if isinstance(self.views, str):
            check_one_of("views", self.views, ("auto",))
        elif self.views is not None:
            check_transform("views", self.views)
        if self.early_stop is None:
            object.__setattr__(self, "early_stop", self.views is None)
        check_flag("early_stop", self.early_stop)
        if self.early_stop and self.views is not None:
            raise ValueError(
                "expected early_stop=False with views, got early_stop=True: one lucky view would end a set; max_steps "
                "sets the number of steps"
            )
        if isinstance(self.update_rule, type) or not isinstance(self.update_rule, UpdateRule):
            check_one_of("update_rule", self.update_rule, ("newton_sp", "newton", "sgd"))

    @classmethod
    def fast(cls, **changes: Any) -> "SuperMix":
        """Make the recommended mixer. Its mixes hold under the views that the student gets.

        It solves masks under views (views="auto"), each set for the same `max_steps`, on a fine grid, with the loss
        objective="criterion", bounded steps and momentum, and sources of distinct classes. `docs/solver.md` has every
        value.

        Deviation: none of this is in the paper.

        Args:
            changes: Arguments of `SuperMix` that replace the recommended ones.
        """
        return cls(**(_FAST | changes))

    @property
    def takes_labels(self) -> bool:
        """Whether the classes of the sources are the given labels."""
        return self.classes == "labels"

    def is_labelled(self, labels: Int[Tensor, " b"] | None) -> bool:
        """Return the same, whether or not there are labels."""
        return self.takes_labels

    @property
    def mask_grid(self) -> tuple[int, int]:
        """Height and width of the mask grid, of images that are no smaller."""
        return check_size("mask_size", self.mask_size)

    def grid_for(self, images: Float[Tensor, "*batch h w"]) -> tuple[int, int]:
        """Return height and width of the mask grid of some images: a grid is not finer than they are."""
        height, width = self.mask_grid
        return min(height, images.shape[-2]), min(width, images.shape[-1])

    @property
    def solver(self) -> Solver:
        """The steps of the masks as the arguments have them."""
        rule = self.update_rule
        if isinstance(rule, str):
            rules = {"newton_sp": NewtonSmoothProjection(sigma=self.sigma), "newton": Newton(), "sgd": SGD()}
            rule = rules[rule]
        return Solver(
            objective=_OBJECTIVES[self.objective](self.lambda_s, rule.roughness_weight),
            update_rule=rule,
            max_logit_step=self.max_logit_step,
            min_steps=self.min_steps,
            max_steps=self.max_steps,
            momentum=self.momentum,
            early_stop=bool(self.early_stop),
        )

    def solving_view(self, shown: Transform | None, images: Float[Tensor, "b c h w"]) -> Transform | None:
        """Return what the masks are solved under; None for the exact pixels.

        Args:
            shown: What the student sees the mixes under.
            images: Of the kind that are mixed, to try foreign transforms on.

        Raises:
            ValueError: If `views` lets no gradient through.
        """
        automatic = isinstance(self.views, str)
        views = shown if isinstance(self.views, str) else self.views
        if views is None:
            return RandomCropFlip() if automatic else None
        if keeps_graph(views, images):
            return views
        if not automatic:
            raise ValueError(
                f"expected views through which gradients flow, got {views!r}, which breaks the graph; give a "
                "differentiable transform, such as RandomCropFlip() or one of kornia.augmentation"
            )
        tell_substitute(repr(views))
        return RandomCropFlip()

    def __call__(
        self,
        teacher: FrozenTeacher | nn.Module | None,
        images: Float[Tensor, "b c h w"],
        labels: Int[Tensor, " b"] | None = None,
        *,
        seed: Seed,
        view: Transform | None = None,
        natural_logits: Float[Tensor, "b n"] | None = None,
    ) -> MixedBatch:
        """Return one mix for each image.

        Args:
            teacher: The classifier that supervises the masks.
            images: Finite floating point images, normalised as `teacher` expects.
            labels: Class indices, needed for classes="labels"; else used only for images for which the teacher's logits
                are not finite, which are no source without one.
            seed: Non-negative integer, or a sequence of them. The same seed and batch give the same mixes.
            view: The view under which the student sees the mixes; None for the mixes as they are.
            natural_logits: The teacher's logits of `images`, if you have them; this spares a forward pass.

        Returns:
            The mixes, each with its masks, labels and outcome.

        Raises:
            ValueError: If images, labels, masks, views and teacher do not fit together.
        """
        if teacher is None:
            raise ValueError("expected a teacher to supervise the masks, got None; MixUp and others do without")
        teacher, pixels = as_teacher(teacher), check_images(images)
        with float_autograd(pixels.device):
            chosen, natural, left_out = self.choose(
                teacher, pixels, labels, natural_logits, seed, with_saliency=self.init != "zeros"
            )
            indices, n = chosen.source_indices, natural.num_classes
            weights = draw_weights(chosen.rng, len(indices), indices.shape[1], self.alpha)
            mix_weights = to_device(weights, pixels.device, pixels.dtype)
            keys = to_device(draw_keys(chosen.rng, len(pixels)), pixels.device)
            sets = Sets.of(chosen.sources, chosen.classes[indices], mix_weights, n, keys)
            solution = solve(
                self.solver,
                teacher,
                sets,
                self._start(natural.saliency, indices, mix_weights, self.grid_for(pixels)),
                show=Viewer(self.solving_view(view, pixels), (*numbers(seed), _SOLVING), images.dtype),
                chunks=Chunks(teacher, self.chunk_size),
                static_shapes=teacher.compile,
            )
            with torch.no_grad():
                mix = self._finish(teacher, sets, solution, natural, chosen, mix_weights)
        return present(
            dataclasses.replace(mix, left_out=left_out),
            teacher,
            images,
            view,
            seed=seed,
            exact=mix.teacher_logits is not None,
            keys=keys,
            look=self.max_steps + 1,
            chunk_size=self.chunk_size,
        )

    def start(
        self,
        teacher: FrozenTeacher,
        sources: Float[Tensor, "r k c h w"],
        classes: Int[Tensor, "r k"],
        mix_weights: Float[Tensor, "r k"],
    ) -> Float[Tensor, "r k s t"]:
        """Return the masks that sets of these sources start from, if not from "zeros"; it costs k passes a set."""
        natural = show_natural(
            teacher,
            sources.flatten(0, 1),
            with_saliency=True,
            saliency_classes=classes.flatten(),
            chunk_size=self.chunk_size,
        )
        own = torch.arange(classes.numel(), device=classes.device).view(classes.shape)
        return self._start(natural.saliency, own, mix_weights, self.grid_for(sources))

    def _start(
        self,
        saliency: Float[Tensor, "n h w"] | None,
        source_indices: Int[Tensor, "r k"],
        mix_weights: Float[Tensor, "r k"],
        grid: tuple[int, int],
    ) -> Float[Tensor, "r k s t"]:
        if saliency is None:
            return mix_weights.new_zeros(*source_indices.shape, *grid)
        if self.init == "saliency":
            return saliency_logits(saliency, source_indices, grid, self.sigma)
        return contrast_logits(saliency, source_indices, mix_weights, grid, self.sigma)

    @property
    def _treatment(self) -> str:
        """What becomes of capped sets: without `early_stop` there are none."""
        return self.on_unsolved if self.early_stop else "keep"

    def settle(
        self, mask_logits: Float[Tensor, "r k s t"], mix_weights: Float[Tensor, "r k"], outcomes: Int[Tensor, " r"]
    ) -> tuple[Float[Tensor, "r k s t"], Float[Tensor, "r k"]]:
        """Return the masks and weights that sets are kept with: what `on_unsolved` says, on the mask grid."""
        return settle(self._treatment, mask_logits, mix_weights, outcomes)

    def _finish(
        self,
        teacher: FrozenTeacher,
        sets: Sets,
        solution: Solution,
        natural: NaturalPass,
        chosen: Chosen,
        mix_weights: Float[Tensor, "b k"],
    ) -> MixedBatch:
        """Mix the sets as they were solved, and do with the others what `on_unsolved` says.

        The mixes have the teacher's logits where the last pass was of exactly their pixels.
        """
        masks = normalized_masks(solution.mask_logits, (sets.sources.shape[3], sets.sources.shape[4]))
        if self._treatment == "mixup":
            masks = average_capped(teacher, sets, solution, masks, mix_weights, Chunks(teacher, self.chunk_size))
        weights, alone = restored(self._treatment, mix_weights, solution.outcomes)
        masks = torch.where(alone[:, None, None, None], weights[:, :, None, None], masks)
        logits = None
        if self.early_stop:
            logits = torch.where(alone[:, None], own_logits(natural, chosen), solution.teacher_logits)
        return MixedBatch.of(
            sets.sources,
            masks,
            chosen.source_indices,
            chosen.classes[chosen.source_indices],
            weights,
            natural.num_classes,
            teacher_logits=logits,
            outcomes=solution.outcomes,
            num_steps=solution.num_steps,
            natural_logits=natural.logits,
            teacher_forwards=natural.forwards + solution.forwards,
            teacher_backwards=natural.backwards + solution.backwards,
        )
