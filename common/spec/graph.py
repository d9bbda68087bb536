"""The graph of a workflow's jobs: cycles, found without recursion."""

from collections.abc import Iterator, Mapping

Graph = Mapping[str, tuple[str, ...]]


def cycles(dependencies: Graph) -> Iterator[list[str]]:
    """One cycle of every group of jobs that wait for each other, in the order of the file.

    A cycle lists its jobs from the one that stands first; each waits for the next, the last for the
    first. Names without an entry of their own are ignored.
    """
    order = {name: place for place, name in enumerate(dependencies)}
    groups = (group for group in _components(dependencies) if _is_ring(group, dependencies))
    for group in sorted(groups, key=lambda group: min(order[name] for name in group)):
        yield _walk(min(group, key=order.__getitem__), group, dependencies, order)


def _is_ring(group: set[str], dependencies: Graph) -> bool:
    return len(group) > 1 or any(name in dependencies[name] for name in group)


def _walk(start: str, group: set[str], dependencies: Graph, order: Mapping[str, int]) -> list[str]:
    """Follow the first dependency inside the group until a job comes again."""
    trail: dict[str, int] = {}
    name = start
    while name not in trail:
        trail[name] = len(trail)
        name = next(other for other in dependencies[name] if other in group)
    ring = list(trail)[trail[name] :]
    first = ring.index(min(ring, key=order.__getitem__))
    return ring[first:] + ring[:first]


def _components(dependencies: Graph) -> Iterator[set[str]]:
    """Groups of jobs that can reach each other (Tarjan 1972, with a stack of its own)."""
    walk = _Walk(dependencies)
    for root in dependencies:
        if root not in walk.number:
            yield from walk.groups(root)


class _Walk:
    """A depth-first walk that gives each group when its first job is left."""

    def __init__(self, dependencies: Graph) -> None:
        self.dependencies = dependencies
        self.number: dict[str, int] = {}
        self.low: dict[str, int] = {}
        self.open: dict[str, None] = {}
        self.stack: list[tuple[str, Iterator[str]]] = []

    def groups(self, root: str) -> Iterator[set[str]]:
        self._enter(root)
        while self.stack:
            name, others = self.stack[-1]
            new = self._next_new(name, others)
            if new is not None:
                self._enter(new)
                continue
            self.stack.pop()
            if self.stack:
                above = self.stack[-1][0]
                self.low[above] = min(self.low[above], self.low[name])
            if self.low[name] == self.number[name]:
                yield self._close(name)

    def _enter(self, name: str) -> None:
        self.number[name] = self.low[name] = len(self.number)
        self.open[name] = None
        self.stack.append((name, iter(self.dependencies[name])))

    def _next_new(self, name: str, others: Iterator[str]) -> str | None:
        """The next dependency that was not visited yet; edges back are noted on the way."""
        for other in others:
            if other in self.dependencies and other not in self.number:
                return other
            if other in self.open:
                self.low[name] = min(self.low[name], self.number[other])
        return None

    def _close(self, first: str) -> set[str]:
        group = set()
        while first not in group:
            group.add(self.open.popitem()[0])
        return group
