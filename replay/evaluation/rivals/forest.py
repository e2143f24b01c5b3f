"""Robust random cut forest, compiled: the streaming algorithm of Guha et al. (ICML 2016).

*Robust random cut forest based anomaly detection on streams*, algorithms 1 and 2 and the
CoDisp score, as in the Python package ``rrcf`` 0.4.4 (Bartos, Mullapudi and Troutman, JOSS
2019), whose 400 points a second would only do for a sample of the keys.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models._jit import kernel, njit

NODE = np.dtype(
    [
        ("parent", "i4"),
        ("left", "i4"),  # -1 = a leaf
        ("right", "i4"),
        ("count", "i4"),  # points below, duplicates included
        ("axis", "i4"),
        ("cut", "f8"),  # left: value <= cut
    ],
    align=True,
)

_GOLDEN, _A, _B = (
    np.uint64(c) for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_S27, _S30, _S31, _S11 = (np.uint64(s) for s in (27, 30, 31, 11))


class Tree(NamedTuple):
    """One tree over the last ``len(leaf)`` points of a stream."""

    random: Any  # uint64[1]: state of splitmix64
    root: Any  # int32[1]: -1 = empty
    node: Any  # NODE[2 x size]
    low: Any  # float64[2 x size, d]: bounding box of the points below a node
    high: Any
    free: Any  # int32[2 x size]: stack of unused nodes
    n_free: Any  # int32[1]
    leaf: Any  # int32[size]: leaf of the point i, i modulo size
    seen: Any  # int64[1]: points so far


def make_tree(size: int, dimensions: int) -> Tree:
    """Room for a tree that remembers the last ``size`` points; ``reset`` it before use."""
    return Tree(
        np.zeros(1, np.uint64),
        np.zeros(1, np.int32),
        np.zeros(2 * size, NODE),
        np.zeros((2 * size, dimensions)),
        np.zeros((2 * size, dimensions)),
        np.zeros(2 * size, np.int32),
        np.zeros(1, np.int32),
        np.zeros(size, np.int32),
        np.zeros(1, np.int64),
    )


@njit
def displacements(t: Tree, point: Any, start: Any, n_trees: int, seed: int, score: Any) -> None:
    """Adds to ``score[n]`` the mean collusive displacement over ``n_trees`` of each point.

    ``point[n, d]`` holds streams one after the other, stream i from ``start[i]`` up to
    ``start[i + 1]``; each has a forest of its own. A point is scored when it has just come.
    """
    for number in range(n_trees):
        for stream in range(len(start) - 1):
            reset(t, (seed * n_trees + number) * len(start) + stream)
            for i in range(start[stream], start[stream + 1]):
                score[i] += update(t, point[i]) / n_trees


@kernel
def reset(t: Tree, seed: int) -> None:
    """Empties the tree; its cuts depend on ``seed`` and the points alone."""
    t.random[0] = np.uint64(seed)
    t.root[0] = -1
    t.seen[0] = 0
    t.n_free[0] = len(t.free)
    for i in range(len(t.free)):
        t.free[i] = i


@kernel
def update(t: Tree, point: Any) -> float:
    """Takes in ``point``, forgetting the oldest of a full tree; its collusive displacement.

    The largest ratio, over the nodes from its leaf up, of points beside to points below.
    """
    place = t.seen[0] % len(t.leaf)
    if t.seen[0] >= len(t.leaf):
        _forget(t, t.leaf[place])
    leaf = _insert(t, point)
    t.leaf[place] = leaf
    t.seen[0] += 1
    most, at = 0.0, leaf
    while at != t.root[0]:
        up = t.node[at].parent
        most = max(most, (t.node[up].count - t.node[at].count) / t.node[at].count)
        at = up
    return most


@kernel
def _uniform(t: Tree) -> float:
    t.random[0] += _GOLDEN
    z = t.random[0]
    z = (z ^ (z >> _S30)) * _A
    z = (z ^ (z >> _S27)) * _B
    z = z ^ (z >> _S31)
    return np.float64(z >> _S11) / 9007199254740992.0


@kernel
def _take(t: Tree) -> int:
    t.n_free[0] -= 1
    return int(t.free[t.n_free[0]])


@kernel
def _give_back(t: Tree, at: int) -> None:
    t.free[t.n_free[0]] = at
    t.n_free[0] += 1


@kernel
def _new_leaf(t: Tree, point: Any) -> int:
    at = _take(t)
    leaf = t.node[at]
    leaf.parent = leaf.left = leaf.right = -1
    leaf.count = 1
    for j in range(len(point)):
        t.low[at, j] = t.high[at, j] = point[j]
    return at


@kernel
def _insert(t: Tree, point: Any) -> int:
    """Descends from the root until a random cut separates the point from all below."""
    at = t.root[0]
    if at < 0:
        leaf = _new_leaf(t, point)
        t.root[0] = leaf
        return leaf
    while True:
        span = 0.0
        for j in range(len(point)):
            span += max(t.high[at, j], point[j]) - min(t.low[at, j], point[j])
        if span == 0.0:  # the same point once more
            t.node[at].count += 1
            return int(at)
        rest, axis, cut = _uniform(t) * span, 0, 0.0
        for j in range(len(point)):
            low, high = min(t.low[at, j], point[j]), max(t.high[at, j], point[j])
            if high > low:
                axis, cut = j, min(low + rest, high)
            if rest <= high - low:
                break
            rest -= high - low
        if point[axis] > cut >= t.high[at, axis] or point[axis] <= cut < t.low[at, axis]:
            return _split(t, at, point, axis, cut)
        node = t.node[at]
        if node.left < 0:
            continue  # rounding put the cut on one of two points: draw again
        node.count += 1
        for j in range(len(point)):
            t.low[at, j] = min(t.low[at, j], point[j])
            t.high[at, j] = max(t.high[at, j], point[j])
        at = node.left if point[node.axis] <= node.cut else node.right


@kernel
def _split(t: Tree, at: int, point: Any, axis: int, cut: float) -> int:
    """A new branch above ``at``, with the point as its other side."""
    leaf, branch = _new_leaf(t, point), _take(t)
    node, up = t.node[branch], t.node[at].parent
    node.axis, node.cut, node.parent = axis, cut, up
    node.count = t.node[at].count + 1
    is_left = point[axis] <= cut
    node.left, node.right = (leaf, at) if is_left else (at, leaf)
    t.node[leaf].parent = t.node[at].parent = branch
    _replace_child(t, up, at, branch)
    for j in range(len(point)):
        t.low[branch, j] = min(t.low[at, j], point[j])
        t.high[branch, j] = max(t.high[at, j], point[j])
    return leaf


@kernel
def _replace_child(t: Tree, up: int, old: int, new: int) -> None:
    if up < 0:
        t.root[0] = new
    elif t.node[up].left == old:
        t.node[up].left = new
    else:
        t.node[up].right = new


@kernel
def _forget(t: Tree, leaf: int) -> None:
    """Removes one point of a leaf; the last one takes the leaf and the branch above along."""
    at = leaf
    while at >= 0:
        t.node[at].count -= 1
        at = t.node[at].parent
    if t.node[leaf].count > 0:
        return
    branch = t.node[leaf].parent
    _give_back(t, leaf)
    if branch < 0:
        t.root[0] = -1
        return
    sibling = t.node[branch].right if t.node[branch].left == leaf else t.node[branch].left
    up = t.node[branch].parent
    t.node[sibling].parent = up
    _replace_child(t, up, branch, sibling)
    _give_back(t, branch)
    while up >= 0:
        left, right = t.node[up].left, t.node[up].right
        for j in range(t.low.shape[1]):
            t.low[up, j] = min(t.low[left, j], t.low[right, j])
            t.high[up, j] = max(t.high[left, j], t.high[right, j])
        up = t.node[up].parent
