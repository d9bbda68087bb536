"""What a job can know about itself: `penstock.context.current()`; and `waiting`, while it waits for other jobs."""

from .common.context import Ctx, current, waiting

__all__ = ["Ctx", "current", "waiting"]
