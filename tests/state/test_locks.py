"""Locks: one owner at a time, told apart by a number that only grows."""  # Q7

from __future__ import annotations

import math
import threading
import time

import pytest

from penstock.common.errors import InputError, LockHeld, LockLost
from penstock.common.state import keys
from penstock.common.state.lock import Lock, holding, new_owner
from penstock.common.state.store import Holder
from support.processes import until


def lock(cluster, owner=None, ttl_s=30.0):
    return Lock(cluster.store, "l", owner, ttl_s)


def test_one_owner_at_a_time_and_a_growing_fence(cluster):
    one, two = lock(cluster, "one"), lock(cluster, "two")
    first = one.acquire()
    assert one.try_acquire()
    assert one.fence == first > 0
    assert not two.try_acquire()
    two.release()
    assert not two.try_acquire()
    one.release()
    assert two.acquire() > first
    assert 0 < cluster.client.pttl(keys.lock("l")) <= 30_000
    assert 0 < cluster.client.ttl(keys.fence("l"))
    two.release()
    assert cluster.client.exists(keys.lock("l")) == 0


@pytest.mark.parametrize("forgotten", [False, True])
def test_the_fence_grows_though_the_lock_or_all_of_it_is_gone(cluster, forgotten):
    before = lock(cluster, "died").acquire()
    cluster.client.delete(keys.lock("l"), *([keys.fence("l")] if forgotten else []))
    cluster.pass_time(1)
    assert lock(cluster).acquire() > before


def test_the_fence_grows_though_the_clock_was_set_back(cluster):
    one = lock(cluster, "one")
    before = one.acquire()
    one.release()
    cluster.pass_time(-3600)
    assert lock(cluster, "two").acquire() == before + 1


def test_renewing_never_takes_a_lock(cluster):
    one = lock(cluster, "one", ttl_s=20.0)
    assert not one.renew()
    assert cluster.client.exists(keys.lock("l")) == 0
    one.acquire()
    cluster.client.pexpire(keys.lock("l"), 1000)
    assert one.renew()
    assert cluster.client.pttl(keys.lock("l")) > 1000
    cluster.client.delete(keys.lock("l"))
    lock(cluster, "two").acquire()
    assert not one.renew()
    assert one.fence == 0
    assert cluster.client.hget(keys.lock("l"), "owner") == b"two"


def test_the_same_request_twice_is_one(cluster):
    fence = cluster.store.lock_acquire("l", "one", 30)
    assert cluster.store.lock_acquire("l", "one", 30) == fence
    assert [cluster.store.lock_renew("l", "one", 30) for _ in "12"] == ["OK", "OK"]
    assert [cluster.store.lock_release("l", "one") for _ in "12"] == ["OK", "FREE"]
    assert cluster.store.lock_renew("l", "one", 30) == "LOST"


def test_who_waits_too_long_learns_lock_and_holder(cluster):
    owner = new_owner()
    lock(cluster, owner).acquire()
    answer = cluster.store.lock_acquire("l", "two", 30)
    assert isinstance(answer, Holder)
    assert answer.owner == owner
    assert 29 < answer.left_s <= 30
    with pytest.raises(LockHeld, match=f"lock l is held by {owner}") as caught:
        lock(cluster).acquire(wait_s=0.1)
    assert caught.value.about == {"lock": "l", "holder": owner}


def test_who_waits_gets_it_with_the_release(cluster):
    one, two = lock(cluster, "one"), lock(cluster, "two")
    first = one.acquire()
    waiter = threading.Thread(target=two.acquire, args=(60,))
    waiter.start()
    channel = keys.lock_channel("l")
    until(lambda: dict(cluster.client.pubsub_numsub(channel))[channel.encode()] == 1)
    asked = time.monotonic()
    one.release()
    waiter.join(30)
    assert two.fence > first
    assert time.monotonic() - asked < 25  # not at the end of the TTL


@pytest.mark.parametrize("wait_s", [30, 1e10, math.inf])
def test_who_waits_gets_it_when_the_holder_died(cluster, wait_s):
    lock(cluster, "died", ttl_s=0.3).acquire()
    assert lock(cluster).acquire(wait_s) > 0


def test_a_held_lock_renews_itself_and_is_given_back(cluster):
    with holding(lock(cluster, ttl_s=0.6), 0) as held:
        before = held._lock.since
        until(lambda: held._lock.since > before + 0.6)
        held.check()
        assert not lock(cluster).try_acquire()
        assert cluster.client.hget(keys.lock("l"), "fence") == str(held.fence).encode()
    assert cluster.client.exists(keys.lock("l")) == 0


def test_a_lost_lock_says_so_and_is_left_to_its_new_owner(cluster):
    with holding(lock(cluster, ttl_s=0.6), 0) as held:
        cluster.client.delete(keys.lock("l"))
        other = lock(cluster, "other")
        assert other.acquire() > held.fence
        until(lambda: held.lost)
        with pytest.raises(LockLost, match="lock l was lost") as caught:
            held.check()
        assert caught.value.about == {"lock": "l", "fence": held.fence}
    assert cluster.client.hget(keys.lock("l"), "owner") == b"other"


def test_one_that_could_not_renew_for_a_ttl_counts_as_lost(cluster):
    with holding(lock(cluster, ttl_s=30), 0) as held:
        assert not held.lost
        held._lock.since -= 30
        assert held.lost
        held._lock.since += 30
        assert held.lost  # for good


def test_an_error_of_the_block_passes_and_frees_the_lock(cluster):
    with pytest.raises(ZeroDivisionError), holding(lock(cluster), 0):
        raise ZeroDivisionError
    assert lock(cluster).try_acquire()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "ü", "x" * 201, 5, b"l", None])
def test_names_that_cannot_be_used(cluster, name):
    with pytest.raises(InputError, match="names no lock"):
        Lock(cluster.store, name)


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), "5", True])
def test_times_that_cannot_be_used(cluster, ttl_s):
    with pytest.raises(InputError, match=r"TTL is 0\.05 s to 30 days"):
        lock(cluster, ttl_s=ttl_s)


@pytest.mark.parametrize("wait_s", ["x", None, -1, float("nan"), True])
def test_waits_that_are_no_time(cluster, wait_s):
    with pytest.raises(InputError, match="wait_s"):
        holding(lock(cluster), wait_s)
