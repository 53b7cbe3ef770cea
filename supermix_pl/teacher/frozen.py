"""The frozen teacher: any classifier, in eval mode, without gradients to its weights, with its own input format."""

import itertools
import operator
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate

from supermix_pl.arguments import check_flag, check_size
from supermix_pl.teacher.folding import FoldedCopy
from supermix_pl.teacher.normalising import Normalisation
from supermix_pl.teacher.outputs import NO_GRADIENT, Outputs, Reader, are_probabilities, check_part, logits_of
from supermix_pl.teacher.published import of_timm, of_torchvision
from supermix_pl.teacher.several import ProbabilityMean

_MOST_SHAPES = 64
_NAMED = ("mean", "std", "input_mean", "input_std", "image_size", "class_indices")


class FrozenTeacher:
    """A classifier that supervises mixes and is never trained.

    It is no `nn.Module`. So it stays out of the state dict, the parameters and the optimisers of the module that holds
    it. Wrapping calls `eval()` and `requires_grad_(False)` on `module`, and changes nothing else about it. What makes
    passes faster is done to a private copy, made at the first call.

    Args:
        module: Gives logits (b, n) for images (b, c, h, w): a tensor, an output with `.logits`, or a mapping with the
            key "logits". Classifiers of torchvision, timm and Hugging Face do. Gradients must flow to the images.
        mean: What the teacher was trained with, one value a channel; None if it takes images in [0, 1].
        std: Likewise, > 0.
        input_mean: What your batches are normalised with, one value a channel; None if they are in [0, 1].
        input_std: Likewise, > 0.
        image_size: Side, or (height, width), in pixels. Images are resized to it for the teacher alone. None passes
            them as they are.
        class_indices: Where the teacher knows more classes than your labels have: its index of each of your classes, in
            their order. Its logits are of these classes alone. None keeps all.
        dtype: `torch.bfloat16` runs the passes under bfloat16 autocast. None runs them in the dtype of the weights.
        fold: Whether the private copy has batch norm folded into the convolutions before it; exact to rounding. Its
            weights are also cast once for `dtype`, not in each pass. A network that cannot be traced, or has hooks,
            runs as it is. The copy is made again when the module's weights or attributes change; after writing into
            `parameter.data`, or changing what `forward` reads outside of the module, call `refold`. Choose False if
            they change often.
        channels_last: Whether images are passed in this memory format.
        compile: Whether passes are compiled with `torch.compile`, on CUDA into CUDA graphs. Every number and size of
            images is compiled anew, so the solver fills its batches up to powers of two. On CUDA the stream engine
            compiles what is around a pass that moves masks with it, as one graph.
        features: Name of a part of the network, such as "layer3" or "blocks.2.norm1". The callback gives its output as
            `teacher_features`, from the passes that give `teacher_logits`. None keeps nothing.

    Attributes:
        module: The classifier that you gave.
        num_classes: n; None before the first pass, unless there are class_indices.
        most_rows: Images that the device has memory for at once, as the solver found out; None if memory never ran out.

    Raises:
        TypeError: If `module` is no `nn.Module`.
        ValueError: If a mean comes without its std, class_indices are negative or come twice, the solver cannot work
            with the dtype, weights were made in `torch.inference_mode`, or the network has no part named `features`.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        input_mean: Sequence[float] | None = None,
        input_std: Sequence[float] | None = None,
        image_size: int | Sequence[int] | None = None,
        class_indices: Sequence[int] | None = None,
        dtype: torch.dtype | str | None = None,
        fold: bool = True,
        channels_last: bool = False,
        compile: bool = False,
        features: str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"expected the teacher to be an nn.Module, got {type(module).__name__}; to build it late, give the "
                "callback a function that returns one; of a program of torch.export give program.module(); "
                "FrozenTeacher.mean_of averages several"
            )
        for name, flag in (("fold", fold), ("channels_last", channels_last), ("compile", compile)):
            check_flag(name, flag)
        if features is not None:
            check_part("features", module, features)
        _freeze(module)
        self.module = module
        self.features = features
        self.weight_dtype = _weight_dtype(module)
        self.autocast_dtype = _autocast_dtype(dtype, self.weight_dtype)
        self.image_size = None if image_size is None else check_size("image_size", image_size)
        self.channels_last = channels_last
        self.compile = compile
        self.class_indices = _class_indices(class_indices)
        self.num_classes = None if self.class_indices is None else len(self.class_indices)
        self.most_rows: int | None = None
        self._gives_logits = False  # not known before a pass of several images
        self.fold = fold
        self._copy = FoldedCopy(module, features, channels_last=channels_last, autocast_dtype=self.autocast_dtype)
        self._compiled: tuple[nn.Module, Reader, Callable[[Tensor], Outputs]] | None = None
        self._normalise = Normalisation(mean, std, input_mean, input_std)
        self.mean, self.std, self.input_mean, self.input_std = mean, std, input_mean, input_std

    def __repr__(self) -> str:
        if isinstance(self.module, ProbabilityMean):
            return f"FrozenTeacher.mean_of({self.module.teachers!r})"
        settings: dict[str, Any] = {name: getattr(self, name) for name in _NAMED}
        settings |= {"dtype": self.autocast_dtype, "features": self.features}
        given = [f"{name}={value!r}" for name, value in settings.items() if value is not None]
        defaults = {"fold": True, "channels_last": False, "compile": False}
        given += [f"{name}={not default}" for name, default in defaults.items() if getattr(self, name) != default]
        return f"FrozenTeacher({', '.join([type(self.module).__name__, *given])})"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what the next call makes anew."""
        return vars(self) | {"_compiled": None}

    @classmethod
    def mean_of(cls, teachers: "Sequence[FrozenTeacher | nn.Module]") -> "FrozenTeacher":
        """Make one teacher of several: its probabilities are the mean of theirs.

        Its logits are the logarithm of that mean, for labels, losses and the gradients of the solver alike. A pass is
        one of every teacher.

        Args:
            teachers: Of the same classes; each `FrozenTeacher` has its own size, normalisation and dtype.

        Raises:
            ValueError: If there is none, if their numbers of classes differ, or if one is compiled or gives features.
        """
        mean = ProbabilityMean([as_teacher(teacher) for teacher in teachers])
        teacher = cls(mean, fold=False)
        told = next((each for each in mean.teachers if each.input_mean is not None), mean.teachers[0])
        teacher.input_mean, teacher.input_std = told.input_mean, told.input_std  # all see the same batches
        teacher.weight_dtype = reduce(torch.promote_types, (each.weight_dtype for each in mean.teachers), torch.float32)
        return teacher

    @classmethod
    def from_timm(
        cls, name: str, *, pretrained: bool = True, network: Mapping[str, Any] | None = None, **settings: Any
    ) -> "FrozenTeacher":
        """Build a network of timm as a teacher, with its own weights and normalisation.

        Args:
            name: As `timm.create_model` takes it, such as "resnet18.a1_in1k".
            pretrained: Whether timm fetches its weights. False gives random ones.
            network: More arguments of `timm.create_model`, such as `{"img_size": 384}`. With another `num_classes` timm
                leaves out the trained last layer: load weights for your classes then, or choose `class_indices`.
            settings: Those of `FrozenTeacher`: `input_mean`, `input_std`, `image_size`, `class_indices` and others.
                `mean` and `std` replace timm's.

        Raises:
            ModuleNotFoundError: If timm is not installed.
            ValueError: If it has no such network.
        """
        module, mean, std = of_timm(name, pretrained, **(network or {}))
        return cls(module, **{"mean": mean, "std": std, **settings})

    @classmethod
    def from_torchvision(cls, weights: Any, *, pretrained: bool = True, **settings: Any) -> "FrozenTeacher":
        """Build the classifier of torchvision that weights belong to as a teacher, with its own normalisation.

        Args:
            weights: Such as `torchvision.models.ResNet50_Weights.DEFAULT`, or "ResNet50_Weights.DEFAULT".
            pretrained: Whether torchvision fetches the weights. False gives random ones.
            settings: Those of `FrozenTeacher`: `input_mean`, `input_std`, `image_size`, `class_indices` and others.

        Raises:
            ValueError: If these are no weights of a classifier.
        """
        module, mean, std = of_torchvision(weights, pretrained)
        return cls(module, **{"mean": mean, "std": std, **settings})

    def to(self, device: torch.device | str) -> "FrozenTeacher":
        """Move the weights to a device. The private copy follows at the next call."""
        self.module.to(device)
        return self

    def refold(self) -> None:
        """Make the private copy again at the next call. Needed after you changed weights through `parameter.data`."""
        self._copy.forget()
        for teacher in self.module.teachers if isinstance(self.module, ProbabilityMean) else ():
            teacher.refold()

    def network(self, prepared: Float[Tensor, "b c h w"]) -> nn.Module:
        """Return the network that makes the passes, in eval mode: the private copy, or `module` if there is none.

        With a `dtype` use it under autocast: the copy's convolutions and linear layers have that dtype.

        Args:
            prepared: Images from `prepare`.
        """
        if getattr(self.module, "training", False):  # frozen TorchScript has no such flag
            _set_eval(self.module)
        return self._copy.for_images(prepared) if self.fold else self.module

    def prepare(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c height width"]:
        """Convert images of a batch to the teacher's normalisation, size, dtype and memory format."""
        images = self._normalise(images)
        if self.image_size is not None and images.shape[-2:] != self.image_size:
            images = interpolate(images, self.image_size, mode="bilinear", antialias=True)
        images = images.to(self.weight_dtype)
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images

    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
        """Return the logits of images. Gradients flow from them to the images.

        Args:
            images: As your batches have them; `prepare` converts them.

        Returns:
            Logits in the dtype of the images, at least float32.

        Raises:
            TypeError: If the module gives no logits.
            ValueError: If they have another shape, are probabilities, or have no gradient although the images ask for
                one.
        """
        return self.look(images)[0]

    def look(self, images: Float[Tensor, "b c h w"]) -> Outputs:
        """Return logits as a call does, and of the same pass the features: without a graph, in the weights' dtype.

        Features are None where no `features` were asked for.
        """
        with torch.autocast(images.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
            prepared = self.prepare(images)
            if prepared.data_ptr() == images.data_ptr():
                prepared = prepared.clone()  # a network that works in place leaves the caller's images alone
            network = self.network(prepared)
            try:
                if self.compile:
                    logits, features = self._run_compiled(network, prepared)
                else:
                    logits, features = Reader(network, self.features)(prepared)
            except AssertionError as error:
                if "Guard failed" in str(error):
                    error.add_note(
                        "FrozenTeacher: passes are of any number of images; export the teacher with dynamic_shapes "
                        "for the first dimension of its images."
                    )
                raise
        if images.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise ValueError(NO_GRADIENT)
        if not self._gives_logits and len(logits) > 1:
            if are_probabilities(logits):
                raise ValueError(
                    "expected logits from the teacher, got probabilities: rows of numbers >= 0 that sum to 1; give the "
                    "network without its softmax, or a module around it that returns their logarithm"
                )
            self._gives_logits = True
        logits = self._of_chosen_classes(logits)
        self.num_classes = logits.shape[1]
        features = None if features is None else features.to(self.weight_dtype)
        return logits.to(torch.promote_types(images.dtype, torch.float32)), features

    def traceable(self, network: nn.Module) -> Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b n"]]:
        """Return a call with this `network` that can be part of a compiled function: it checks nothing."""

        def run(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b n"]:
            with torch.autocast(images.device.type, dtype=self.autocast_dtype, enabled=self.autocast_dtype is not None):
                logits = self._of_chosen_classes(logits_of(network(self.prepare(images).clone())))
            return logits.to(torch.promote_types(images.dtype, torch.float32))

        return run

    def _of_chosen_classes(self, logits: Float[Tensor, "b m"]) -> Float[Tensor, "b n"]:
        if self.class_indices is None:
            return logits
        if max(self.class_indices) >= logits.shape[1]:
            raise ValueError(
                f"expected class_indices in [0, {logits.shape[1]}), the classes that the teacher knows, got "
                f"{max(self.class_indices)}"
            )
        return logits[:, self.class_indices]

    def _run_compiled(self, network: nn.Module, prepared: Float[Tensor, "b c h w"]) -> Outputs:
        if self._compiled is None or self._compiled[0] is not network:
            mode = "reduce-overhead" if prepared.is_cuda else None  # CUDA graphs
            reader = Reader(network, self.features)
            self._compiled = network, reader, torch.compile(reader.run, dynamic=False, mode=mode)
        _, reader, run = self._compiled
        with torch._dynamo.config.patch(recompile_limit=_MOST_SHAPES):
            if not prepared.is_cuda:
                return reader(prepared, run)
            torch.compiler.cudagraph_mark_step_begin()
            logits, features = reader(prepared, run)  # a graph's next replay writes over its outputs
            return logits.clone(), None if features is None else features.clone()


def _freeze(module: nn.Module) -> None:
    _set_eval(module)
    if any(held.is_inference() for held in itertools.chain(module.parameters(), module.buffers())):
        raise ValueError(
            f"expected the weights of {type(module).__name__} to be made outside of torch.inference_mode, got some "
            "made in it, through which no gradient flows to the images; build and load the teacher outside"
        )
    for weight in module.parameters():  # TorchScript has no requires_grad_ of its own
        weight.requires_grad_(False)


def _set_eval(module: nn.Module) -> None:
    try:
        module.eval()
    except NotImplementedError:  # a program of torch.export has the one mode that it was exported in
        for part in module.modules():
            part.training = False


def as_teacher(teacher: "FrozenTeacher | nn.Module | Sequence[FrozenTeacher | nn.Module]") -> FrozenTeacher:
    """Wrap a module, unless it is wrapped already; average several, unless there is one alone."""
    if isinstance(teacher, list | tuple):
        return FrozenTeacher.mean_of(teacher) if len(teacher) != 1 else as_teacher(teacher[0])
    return teacher if isinstance(teacher, FrozenTeacher) else FrozenTeacher(teacher)  # pyright: ignore[reportArgumentType]


def _weight_dtype(module: nn.Module) -> torch.dtype:
    dtypes = {weight.dtype for weight in module.parameters() if weight.is_floating_point()}
    if torch.float16 in dtypes:
        raise ValueError(
            "expected the teacher's weights in float32, float64 or bfloat16, got float16, whose input gradients "
            "underflow; convert it with `module.float()`, and ask for dtype=torch.bfloat16 if speed matters"
        )
    return dtypes.pop() if len(dtypes) == 1 else torch.float32


def _autocast_dtype(dtype: torch.dtype | str | None, weight_dtype: torch.dtype) -> torch.dtype | None:
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype.removeprefix("torch."), dtype)
    if dtype is None or dtype == weight_dtype:
        return None
    if dtype != torch.bfloat16:
        raise ValueError(
            f"expected dtype None (the weights' own, {weight_dtype}) or torch.bfloat16, got {dtype}; to run in another "
            "dtype convert the module itself"
        )
    return torch.bfloat16


def _class_indices(class_indices: Sequence[int] | None) -> list[int] | None:
    if class_indices is None:
        return None
    try:
        chosen = [operator.index(index) for index in class_indices]
    except TypeError:
        chosen = []
    if len(chosen) < 2 or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise ValueError(
            "expected class_indices as two or more different indices of the teacher's classes, from 0 on, got "
            f"{chosen or class_indices!r}"
        )
    return chosen
