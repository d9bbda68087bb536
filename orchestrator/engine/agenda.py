"""The work before the orchestrators, by domain: taken under a short lease and seen through.

The lease is short, so that another goes on soon when an orchestrator is killed;
every item may be done twice, so that one which merely was slow does no harm.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence

import redis

from ...common.state.connection import is_of_the_server
from ...common.state.store import Item, Store, Taken
from .verdicts import NotNow, TurnOver
from .work import Engine

log = logging.getLogger("penstock.orchestrator")

#: without a bell, work is looked for this often, seconds
LOOK_S = 2.0
#: an item that is neither done nor gone on with comes up again after this, seconds
LEASE_S = 1.0
#: a lease is renewed when this much of it has passed
RENEW_SHARE = 1 / 3
#: items taken at once
BATCH = 4
#: an item that fails so often for a reason of our own is given up
TRIES = 3
#: other roles have their turn when work has been done for so long, seconds
TURN_S = 0.5
#: an item that takes longer lets others go first, seconds: a small fan-out must not wait for a large one
SLICE_S = 0.1
#: the same for the expiry of what has ended: nobody waits for it
EXPIRY_SLICE_S = 0.01
#: most doublings of the lease of an item whose steps take longer than the lease
DOUBLINGS = 5


class Agenda:
    """Takes work off the agendas of `domains` (none: of all) until there is none.

    Work of a domain that nobody serves is taken by everyone; see agenda_take.lua. After
    `turn_s` of it, the other roles (and a signal to stop) are let in between two batches.
    """

    def __init__(
        self,
        store: Store,
        engine: Engine,
        domains: Sequence[str] = (),
        clock: Callable[[], float] = time.monotonic,
        turn_s: float = TURN_S,
    ):
        self._store, self._engine, self._domains, self._clock = store, engine, domains, clock
        self._turn_s = turn_s
        self._failures: Counter[Item] = Counter()
        self._slow: Counter[Item] = Counter()
        #: how many items the last tick found
        self.found = 0

    def tick(self) -> float:
        """Does what may be taken, for a turn; seconds until it should look again, 0 for at once."""
        self.found = 0
        turn_began = self._clock()
        while True:
            began = self._clock()
            taken = self._store.take_agenda(self._domains, LEASE_S, BATCH)
            if not taken.items:
                return LOOK_S if taken.next_s is None else min(LOOK_S, max(0.01, taken.next_s))
            self.found += len(taken.items)
            lease = _Lease(self._store, self._domains, taken, began, self._clock)
            for item in taken.items:
                self._perform(item, lease)
            if self._clock() - turn_began >= self._turn_s:
                return 0.0

    def _perform(self, item: Item, lease: _Lease) -> None:
        lease.begin(item, LEASE_S * 2 ** min(self._slow[item], DOUBLINGS))
        if item not in lease.items:  # the one before it took too long
            return
        try:
            self._engine.perform(item.text, lease.go_on, lease.is_turn_over)
        except NotNow:
            lease.leave(item)
            return
        except TurnOver:
            lease.give_back(item)
            return
        except Exception as error:
            if is_of_the_server(error):
                raise
            # It comes up again when its lease ends, here or elsewhere; the others go on.
            log.exception("event=agenda_item_failed item=%r", item.text)
            self._failures[item] += 1
            if self._failures[item] < TRIES or not self._give_up(item, error):
                lease.leave(item)
                return
        self._failures.pop(item, None)
        if lease.finish(item) == "AGAIN" and lease.overran:
            self._slow[item] += 1  # so that two which are both slow do not undo each other's work
        else:
            self._slow.pop(item, None)

    def _give_up(self, item: Item, error: Exception) -> bool:
        try:
            self._engine.give_up(item.text, error)
        except redis.exceptions.ResponseError as refused:
            if is_of_the_server(refused):
                raise
            log.exception("event=agenda_item_not_given_up item=%r", item.text)
            return False
        return True


class _Lease:
    """The items in hand and the lease on them, which is renewed before it ends."""

    def __init__(
        self,
        store: Store,
        domains: Sequence[str],
        taken: Taken,
        began: float,
        clock: Callable[[], float],
    ):
        self._store, self._domains, self._clock = store, domains, clock
        self.items = list(taken.items)
        self._mark = taken.mark
        self._since, self._length_s = began, LEASE_S
        self._begun, self._slice_s = began, SLICE_S
        #: did the lease end before the item in hand was done?
        self.overran = False

    def begin(self, item: Item, length_s: float) -> None:
        """The next item is worked on, under a lease of this length."""
        longer = length_s > self._length_s
        self._length_s = length_s
        if longer and item in self.items:
            self._renew()
        self.go_on()
        self._begun = self._clock()
        self._slice_s = EXPIRY_SLICE_S if item.text.startswith("expire ") else SLICE_S
        self.overran = False

    def is_turn_over(self, preparing_s: float = 0.0) -> bool:
        """Has the item in hand been worked on for long enough? What took long to prepare has a longer turn."""
        return self._clock() - self._begun >= self._slice_s + 3 * preparing_s

    def go_on(self) -> None:
        """To be called every few 100 ms: renews the lease when it is time."""
        if self.items and self._clock() - self._since >= self._length_s * RENEW_SHARE:
            self._renew()

    def _renew(self) -> None:
        self._note_time()
        self._since = self._clock()
        self._mark, lost = self._store.renew_agenda(
            self._domains, self.items, self._mark, self._length_s
        )
        self.items = [item for item in self.items if item not in lost]

    def _note_time(self) -> None:
        self.overran = self.overran or self._clock() - self._since > self._length_s

    def leave(self, item: Item) -> None:
        """An item is not gone on with; it comes up again."""
        self.items = [one for one in self.items if one != item]

    def give_back(self, item: Item) -> None:
        """An item is to go on behind the others that wait."""
        self.leave(item)
        self._store.renew_agenda(self._domains, [item], self._mark, 0)

    def finish(self, item: Item) -> str:
        """An item is done; as Store.finish_agenda."""
        self._note_time()
        self.leave(item)
        return self._store.finish_agenda(item, self._mark)
