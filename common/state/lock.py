"""Named locks with an owner, a TTL and a fencing number (mission row Q7)."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import LockHeld
from .store import Store


@dataclass
class Lock:
    """A lock by name. Its TTL frees it when the owner dies.

    `fence` grows with each change of owner: pass it along with what the lock
    protects, and let the receiver refuse lower numbers.
    """

    store: Store
    name: str
    owner: str
    ttl_s: float = 30.0
    fence: int = 0

    def try_acquire(self) -> bool:
        """Takes the lock, or renews it; False while another holds it."""
        verdict, value = self.store.lock_acquire(self.name, self.owner, self.ttl_s)
        if verdict == "OK":
            self.fence = int(value)
        return verdict == "OK"

    def acquire(self) -> int:
        """As `try_acquire`; returns the fencing number. Raises LockHeld, which names the holder."""
        verdict, value = self.store.lock_acquire(self.name, self.owner, self.ttl_s)
        if verdict != "OK":
            raise LockHeld(f"lock {self.name} is held by {value}; it frees itself after its TTL")
        self.fence = int(value)
        return self.fence

    def release(self) -> None:
        """Gives it back; nothing happens when it is not ours any more."""
        self.store.lock_release(self.name, self.owner)
