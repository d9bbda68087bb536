"""What a job can know about itself: `penstock.context.current()`."""

from .common.context import Ctx, current

__all__ = ["Ctx", "current"]
