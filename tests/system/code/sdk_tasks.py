"""Tasks that the tests of the Python SDK submit."""

import os
import time

from penstock import Cluster, context, task, workflow


@task
def double(x, *, more=0):
    print(f"double {x}")
    return 2 * x + more


def plain(x):
    return x


@task
def total(parts):
    return sum(parts)


@task
def echo(value):
    return value


@task(time="00:01:00")
def sleep(s):
    time.sleep(s)
    return s


@task
def fails(why):
    raise ValueError(why)


@task(retry={"max": 2, "backoff_s": 0.05})
def third_time():
    attempt = context.current().attempt
    if attempt < 3:
        raise ValueError(f"attempt {attempt}")
    return attempt


@task(cpus_per_task=1)
def inside(depth):
    """Submits to the same cluster and waits."""
    if depth == 0:
        return os.getpid()
    with Cluster():
        return inside(depth - 1).get_result(60)


@task
def await_file(path):
    while not os.path.exists(path):
        time.sleep(0.02)
    return path


@task
def mix(a, b=1, *, of=()):
    """A number out of numbers, lists and dicts of them, all of which count, and in their order."""
    return _folded([a, b, of])


def _folded(value):
    if isinstance(value, dict):
        value = [part for pair in sorted(value.items()) for part in pair]
    if isinstance(value, list | tuple):
        found = 7
        for part in value:
            found = (31 * found + _folded(part)) % 1_000_003
        return found
    return len(value) if isinstance(value, str) else value


@task
def noted(value, path):
    """Says in a file that it ran."""
    with open(path, "a") as file:
        file.write(f"{value} ")
    return value


@workflow
def sums(count, factor=2):
    doubled = double.map(range(count))
    return {"total": total(doubled), "each": [double(factor)], "n": count}


@workflow
def dies_once(path):
    """Its process ends after the first of two jobs, in the first attempt."""
    first = noted.map([("a", path), ("b", path)])
    first.wait()
    if context.current().attempt == 1:
        os._exit(1)
    return [*first, noted("c", path)]


@workflow(retry={"max": 1, "backoff_s": 0.01})
def changes_its_mind(how):
    first = context.current().attempt == 1
    if how == "arguments":
        value = double(1 if first else 2).get_result()
    elif how == "function":
        value = (double if first else echo)(1).get_result()
    else:
        value = double.map([1] if first else [1, 2]).get_results()
    if first:
        raise ValueError("once more")
    return value


@task
def unless_mended(path, count):
    """Works once somebody has made a file."""
    with open(f"{path}.runs", "a") as file:
        file.write("x")
    if not os.path.exists(path):
        raise FileNotFoundError(path)
    return count


@workflow
def depends_on_a_file(path):
    before = noted.map([("a", f"{path}.noted"), ("b", f"{path}.noted")])
    found = unless_mended.after(before)(path, 2).get_result()
    return total(noted.map([(number, f"{path}.noted") for number in range(found + 1)]))


@workflow
async def awaits(n):
    return await double(await double(n))


@workflow
def waits_long():
    sleep(600).get_result()


@workflow
def fails_beside_others():
    sleep(600)
    return fails("as asked").get_result()
