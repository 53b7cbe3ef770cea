"""How many images the teacher sees at once: what is allowed, what memory holds, and few numbers if it is compiled."""

import gc
import warnings
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from supermix_pl.teacher.frozen import FrozenTeacher
from supermix_pl.teacher.outputs import Outputs

T = TypeVar("T")

_CPU_IS_OUT_OF_MEMORY = ("DefaultCPUAllocator: can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocator refused, of a GPU or of the CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _CPU_IS_OUT_OF_MEMORY)


class Chunks:
    """Work on rows that need not know of each other, some at a time.

    A chunk that runs out of memory is tried once more in halves. The teacher remembers the smaller size, so that the
    rest of the run has it too, whichever mixer or engine works with this teacher.
    """

    def __init__(self, teacher: FrozenTeacher, largest: int | None = None) -> None:
        self._teacher = teacher
        self._largest = largest

    def size(self, rows: int) -> int:
        """Return the number of rows that are worked on at once when there are so many."""
        limits = (self._largest, self._teacher.most_rows)
        return min([rows, *(limit for limit in limits if limit is not None)])

    def run(self, work: Callable[[slice], T], rows: int) -> list[T]:
        """Return the results of work on some of the rows (`slice(None)` for all), which leaves no trace if it fails.

        Raises:
            torch.OutOfMemoryError: If half a chunk is still too much.
        """
        results: list[T] = []
        done, halved_at = 0, -1
        while done < rows:
            size = min(self.size(rows), rows - done)
            part = slice(None) if size == rows else slice(done, done + size)
            try:
                results.append(work(part))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if size == 1 or done == halved_at:
                    raise _hopeless(error, size) from error
                halved_at = done
            else:
                done += size
                continue
            self._halve(size)  # out of the handler, whose traceback holds the tensors of the failed chunk
        return results

    def _halve(self, size: int) -> None:
        half = -(-size // 2)
        if self._teacher.most_rows is None:
            warnings.warn(
                f"the teacher ran out of memory with {size} images at once: it sees {half} at once from now on, which "
                "changes the mixes by no more than rounding. chunk_size of the mixer sets this from the start. This is "
                "said once.",
                stacklevel=2,
            )
        self._teacher.most_rows = half
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _hopeless(error: Exception, rows: int) -> torch.OutOfMemoryError:
    return torch.OutOfMemoryError(
        f"the teacher ran out of memory also with {rows} images at once ({error}): give the mixer a "
        f"chunk_size < {rows}, free memory, or pass dtype=torch.bfloat16 to FrozenTeacher"
        if rows > 1
        else f"the teacher ran out of memory with one image ({error}), the least that chunk_size can ask for: free "
        "memory, or pass dtype=torch.bfloat16 to FrozenTeacher"
    )


def show(teacher: FrozenTeacher, images: Float[Tensor, "b c h w"], largest: int | None = None) -> Outputs:
    """Ask the teacher for its logits and features, without gradients and at most `largest` images at a time."""
    with torch.no_grad():
        logits, features = zip(
            *Chunks(teacher, largest).run(lambda rows: teacher.look(images[rows]), len(images)), strict=True
        )
        return torch.cat(logits), joined(features)


def joined(parts: Sequence[Float[Tensor, "_ ..."] | None]) -> Float[Tensor, "b ..."] | None:
    """Put the teacher's outputs of some images and of the following ones together; None where some are not there."""
    held = [part for part in parts if part is not None]
    return torch.cat([part.to(held[0].dtype) for part in held]) if held and len(held) == len(parts) else None


def in_chunks(work: Callable[[slice], T], rows: int, chunks: Chunks | None) -> list[T]:
    """Work on all rows, at once where no chunks are asked for."""
    return [work(slice(None))] if chunks is None else chunks.run(work, rows)


def bucket(rows: int, largest: int) -> int:
    """Round a number of images up to a power of two, or to the largest number that there will be.

    >>> [bucket(rows, 100) for rows in (1, 3, 64, 65, 100)]
    [1, 4, 64, 100, 100]
    """
    return min(1 << (rows - 1).bit_length(), largest)


def fill_up(images: Float[Tensor, "r c h w"], rows: int) -> Float[Tensor, "rows c h w"]:
    """Repeat the last image, without a gradient, until there are `rows` of them."""
    missing = rows - len(images)
    return torch.cat([images, images[-1:].detach().expand(missing, -1, -1, -1)]) if missing else images
