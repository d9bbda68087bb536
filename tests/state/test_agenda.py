"""Who may work on what, and from when: leases and domains."""  # Q8

from __future__ import annotations

import pytest
import redis

from penstock.common.settings import Settings
from penstock.common.spec.loading import parse_workflow
from penstock.common.state import keys
from penstock.common.state.store import Item
from penstock.orchestrator.engine.agenda import LEASE_S, LOOK_S, SLICE_S, Agenda
from penstock.orchestrator.engine.bell import ANYONE, DUE, Bell
from penstock.orchestrator.engine.verdicts import TurnOver
from penstock.orchestrator.service import Service
from support.scripted import EXECUTION_ID, bad, new_job

TAKEOVER_S = 3


class Engine:
    """Performs nothing; notes what it was to perform, and lets the test do something meanwhile."""

    def __init__(self, meanwhile=lambda item, go_on: None):
        self.performed = []
        self.given_up = []
        self._meanwhile = meanwhile

    def perform(self, item, go_on, is_turn_over):
        self.performed.append(item)
        self.is_turn_over = is_turn_over
        self._meanwhile(item, go_on)

    def give_up(self, item, error):
        self.given_up.append(item)


def post(cluster, *texts, domain="default"):
    """As scripts do; with a first visit, so that the domain is known."""
    cluster.client.zadd(keys.domains(), {domain: 0}, nx=True)
    cluster.client.zadd(keys.agenda(domain), dict.fromkeys(texts, 0))


def test_leased_work_comes_up_again_when_the_lease_ends(cluster):
    post(cluster, "expire a")
    mark, items, next_s = cluster.store.take_agenda((), 1.2, 4)
    assert items == [Item("default", "expire a")]
    assert next_s == pytest.approx(1.2, abs=0.002)
    cluster.pass_time(0.5)
    _, nothing, next_s = cluster.store.take_agenda((), 1.2, 4)
    assert nothing == []
    assert 0 < next_s <= 0.7
    assert cluster.store.renew_agenda((), items, mark, 1.2)[1] == []
    cluster.pass_time(0.8)
    assert cluster.take_agenda() == []
    cluster.pass_time(0.4)
    assert cluster.take_agenda() == ["expire a"]
    assert cluster.store.renew_agenda((), items, mark, 1.2)[1] == items


def test_without_work_there_is_nothing_to_wait_for(cluster):
    assert cluster.store.take_agenda((), 1.2, 4)[1:] == ([], None)
    post(cluster, "expire a")
    mark, (item,), _ = cluster.store.take_agenda((), 1.2, 4)
    assert cluster.store.finish_agenda(item, mark) == "OK"
    assert cluster.store.finish_agenda(item, mark) == "OK"
    assert cluster.store.take_agenda((), 1.2, 4)[1:] == ([], None)


def test_more_than_is_taken_at_once_is_asked_for_at_once(cluster):
    post(cluster, *"abcdef")
    assert cluster.store.take_agenda((), 1.2, 4).next_s == 0
    assert len(cluster.take_agenda()) == 2


def test_the_agenda_wakes_when_a_lease_of_another_ends(cluster):
    agenda = Agenda(cluster.store, Engine())
    assert agenda.tick() == LOOK_S
    post(cluster, "expire a")
    cluster.take_agenda(lease_s=1.2)
    assert 0 < agenda.tick() <= 1.2
    cluster.pass_time(1.2)
    assert agenda.tick() == LOOK_S
    assert agenda.found == 1


def test_steady_work_lets_the_other_roles_have_their_turn(cluster):
    def meanwhile(item, go_on):
        clock[0] += 0.2
        if len(engine.performed) < 20:
            post(cluster, f"expire {len(engine.performed)}")

    clock = [0.0]
    engine = Engine(meanwhile)
    agenda = Agenda(cluster.store, engine, clock=lambda: clock[0])
    post(cluster, "expire a", "expire b", "expire c", "expire d")
    assert agenda.tick() == 0
    assert len(engine.performed) == 4
    assert agenda.tick() == 0
    assert len(engine.performed) == 8


def test_a_long_step_keeps_its_lease_and_that_of_what_waits_behind_it(cluster):
    seen = []

    def meanwhile(item, go_on):
        for _ in range(4):
            cluster.pass_time(0.5)
            clock[0] += 0.5
            go_on()
            seen.extend(cluster.take_agenda())

    clock = [0.0]
    engine = Engine(meanwhile)
    post(cluster, "expire a", "expire b")
    Agenda(cluster.store, engine, clock=lambda: clock[0]).tick()
    assert seen == []
    assert engine.performed == ["expire a", "expire b"]


def test_an_item_that_takes_long_goes_on_behind_the_others(cluster):
    """A small fan-out need not wait until a large one was made. What takes long to prepare is made in longer turns."""

    def meanwhile(item, go_on):
        clock[0] += SLICE_S * 0.6
        assert not engine.is_turn_over(0)
        if item == "expand a large" and engine.performed.count(item) < 3:
            clock[0] += SLICE_S * 0.6
            assert engine.is_turn_over(0)
            assert not engine.is_turn_over(SLICE_S * 0.3)
            if engine.performed.count(item) == 1:
                post(cluster, "expand b small")
            raise TurnOver

    clock = [0.0]
    engine = Engine(meanwhile)
    post(cluster, "expand a large")
    agenda = Agenda(cluster.store, engine, clock=lambda: clock[0])
    while agenda.tick() == 0:
        pass
    large = "expand a large"
    assert engine.performed == [large, "expand b small", large, large]
    assert cluster.client.zcard(keys.agenda("default")) == 0


def test_what_another_took_meanwhile_is_left_to_it(cluster):
    def meanwhile(item, go_on):
        cluster.pass_time(2 * LEASE_S)
        clock[0] += 2 * LEASE_S
        taken.extend(cluster.take_agenda())

    clock, taken = [0.0], []
    engine = Engine(meanwhile)
    post(cluster, "expire a", "expire b")
    Agenda(cluster.store, engine, clock=lambda: clock[0]).tick()
    assert taken == ["expire a", "expire b"]
    assert engine.performed == ["expire a"]
    assert cluster.client.zcard(keys.agenda("default")) == 2


def test_two_that_are_both_slow_do_not_undo_each_others_work_for_ever(cluster):
    """A step of twice the lease without a sign of life: the lease grows until it is enough."""

    def meanwhile(item, go_on):
        cluster.pass_time(3 * LEASE_S)
        clock[0] += 3 * LEASE_S
        if cluster.take_agenda(lease_s=0.001):
            interfered.append(item)
            cluster.pass_time(0.002)

    clock, interfered = [0.0], []
    post(cluster, "fanin a b")
    agenda = Agenda(cluster.store, Engine(meanwhile), clock=lambda: clock[0])
    while agenda.tick() == 0:
        pass
    assert 1 <= len(interfered) <= 2
    assert cluster.client.zcard(keys.agenda("default")) == 0


def test_an_item_that_fails_for_a_reason_of_ours_is_given_up_at_the_third_time(cluster):
    def meanwhile(item, go_on):
        raise RuntimeError

    engine = Engine(meanwhile)
    agenda = Agenda(cluster.store, engine)
    post(cluster, "compile a")
    for _ in range(4):
        agenda.tick()
        cluster.pass_time(LEASE_S)
    assert (engine.performed, engine.given_up) == (["compile a"] * 3, ["compile a"])


@pytest.mark.parametrize("can_be_given_up", [True, False])
def test_an_item_that_a_script_refuses_does_not_hold_up_the_others(cluster, can_be_given_up):
    def refuse(item, *rest):
        if item == "compile a":
            raise redis.exceptions.ResponseError("user_script:9: attempt to index a nil value")

    engine = Engine(refuse)
    if not can_be_given_up:
        engine.give_up = refuse
    agenda = Agenda(cluster.store, engine)
    post(cluster, "compile a", "compile b", "compile c")
    for _ in range(4):
        agenda.tick()
        cluster.pass_time(2 * LEASE_S)
    assert {"compile b", "compile c"} <= set(engine.performed)
    assert engine.given_up == (["compile a"] if can_be_given_up else [])


@pytest.mark.parametrize(
    "error",
    [
        redis.exceptions.ConnectionError(),
        redis.exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left"),
        redis.exceptions.ResponseError("BUSY Redis is busy running a script."),
    ],
)
def test_a_server_that_does_not_serve_is_no_fault_of_an_item(cluster, error):
    def fail(item, go_on):
        raise error

    engine = Engine(fail)
    agenda = Agenda(cluster.store, engine)
    post(cluster, "compile a")
    for _ in range(4):
        with pytest.raises(type(error)):
            agenda.tick()
        cluster.pass_time(2 * LEASE_S)
    assert engine.given_up == []


def submit(service, domain):
    service.compile_s = 0  # left to the orchestrators
    jobs = [{"id": "x", "run": "m:f"}]
    workflow = {"name": "flow", "jobs": jobs, **({"domain": domain} if domain else {})}
    return f"compile {service.submit(parse_workflow(workflow))}"


def test_a_domain_is_left_to_those_who_serve_it(cluster):
    service = Service(cluster.store, Settings())
    assert cluster.take_agenda("gpu") == []
    assert cluster.take_agenda("default") == []
    ours, theirs = submit(service, "gpu"), submit(service, None)
    assert cluster.take_agenda("gpu") == [ours]
    assert cluster.take_agenda("gpu") == []
    assert cluster.take_agenda("default") == [theirs]


def test_a_domain_left_alone_is_taken_over_until_its_own_come_back(cluster):
    service = Service(cluster.store, Settings())
    cluster.take_agenda("default")
    first = submit(service, None)
    _, nothing, next_s = cluster.store.take_agenda(("gpu",), 1.2, 9)
    assert nothing == []
    assert next_s == pytest.approx(TAKEOVER_S, abs=0.5)
    cluster.pass_time(next_s + 0.001)
    assert cluster.take_agenda("gpu") == [first]
    second = submit(service, None)
    assert cluster.take_agenda("gpu") == [second]
    third = submit(service, None)
    assert cluster.take_agenda("default") == [third]
    fourth = submit(service, None)
    assert cluster.take_agenda("gpu") == []
    assert cluster.take_agenda("rag", "default") == [fourth]


def test_one_who_serves_all_keeps_others_away_also_while_it_is_busy(cluster):
    service = Service(cluster.store, Settings())
    busy = submit(service, None)
    mark, (item,), _ = cluster.store.take_agenda((), 1.2, 9)
    assert item.text == busy
    other = submit(service, "rag")
    for _ in range(5):
        cluster.pass_time(1)
        mark, lost = cluster.store.renew_agenda((), [item], mark, 1.2)
        assert lost == []
        assert cluster.take_agenda("gpu") == []
    assert cluster.take_agenda() == [other]


def test_a_domain_never_heard_of_is_not_left_waiting(cluster):
    cluster.take_agenda("gpu")
    item = submit(Service(cluster.store, Settings()), "never-heard-of")
    assert cluster.take_agenda("gpu") == []
    cluster.pass_time(TAKEOVER_S + 0.1)
    cluster.take_agenda("rag")
    assert cluster.take_agenda("gpu") == []  # `rag` has taken it
    cluster.pass_time(11)
    assert cluster.take_agenda("gpu") == [item]


def test_all_that_an_execution_asks_for_goes_to_its_domain(cluster):
    """compile, expand, fanin and expire; a retry takes them back."""
    source = new_job("src", kind="fan-out", dependents="best?")
    del source.fields["origin"]
    others = [new_job(f"o{i}", ("best",)) for i in range(31)]
    cluster.submit(source, new_job("best", ("src?",), kind="fan-in", dependents=" ".join(
        one.name for one in others)), *others, domain="gpu")  # fmt: skip
    assert cluster.take_agenda("gpu") == [f"expand {EXECUTION_ID} src"]
    cluster.store.open_group(EXECUTION_ID, "src", 1, 0, 1000, "{}")
    child = new_job("src_0", group="src")
    cluster.store.extend(EXECUTION_ID, "src", 0, True, [child])
    node = cluster.node()
    node.advance(bad(*node.claim(1)))
    assert cluster.take_agenda("gpu") == [f"fanin {EXECUTION_ID} best"]
    cluster.store.fail_control(EXECUTION_ID, "best", "{}")
    assert cluster.take_agenda("gpu") == [f"expire {EXECUTION_ID}"]
    cluster.store.retry(EXECUTION_ID)
    names = {raw.decode() for raw in cluster.client.zrange(keys.agenda("gpu"), 0, -1)}
    assert names == {f"expand {EXECUTION_ID} src"}
    assert cluster.client.exists(keys.agenda("default")) == 0


def test_a_domain_without_work_and_visits_is_forgotten(cluster):
    submit(Service(cluster.store, Settings()), "once")
    mark, (item,), _ = cluster.store.take_agenda((), 10, 9)
    cluster.pass_time(3700)
    cluster.take_agenda()
    assert cluster.client.zscore(keys.domains(), "once") is not None
    cluster.client.delete(keys.agenda("once"))
    cluster.take_agenda()
    assert cluster.client.zscore(keys.domains(), "once") is None


def test_the_bell_names_the_domain_or_calls_everyone(cluster):
    bell, other = Bell(cluster.client), Bell(cluster.client)
    assert bell.wait(5) == other.wait(5) == {ANYONE, DUE}
    service = Service(cluster.store, Settings())
    submit(service, "gpu")
    submit(service, None)
    assert bell.wait(5) | bell.wait(0.1) == {"gpu", "default"}
    assert other.wait(5)
    cluster.pass_time(TAKEOVER_S + 0.1)
    submit(service, "gpu")
    assert "*" in bell.wait(5)
    cluster.take_agenda("gpu")
    submit(service, "gpu")
    assert bell.wait(5) == {"gpu"}
    assert bell.wait(0.01) == set()
    bell._ears.subscribe(keys.bell())  # as redis-py does when it connects anew
    assert bell.wait(5) == {ANYONE, DUE}
    bell.close()
    other.close()


def test_a_retry_that_is_due_soon_rings(cluster):
    cluster.submit(new_job("a", retries=2))
    node = cluster.node()
    bell = Bell(cluster.client)
    bell.wait(5)
    node.advance(bad(*node.claim(1), retry_ms=10_000))
    assert bell.wait(0.01) == set()
    cluster.pass_time(10)
    cluster.store.promote_due()
    node.advance(bad(*node.claim(1), retry_ms=100))
    assert bell.wait(5) == {DUE}
    bell.close()
