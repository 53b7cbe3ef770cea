"""The teacher: frozen, prepared for fast passes, or a moving average of the student."""

from supermix_pl.teacher.frozen import FrozenTeacher, as_teacher
from supermix_pl.teacher.moving_average import MovingAverage

__all__ = ["FrozenTeacher", "MovingAverage", "as_teacher"]
