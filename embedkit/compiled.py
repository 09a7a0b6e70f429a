"""Mixed layers of many heads times their weights, forwards and backwards, and steps of Adam, compiled for this CPU.

numba compiles them. A head's mixture of a few utterances stays in the core's nearest cache until all that needs it is
done; torch's products write the mixtures of all heads to memory first, or multiply every layer apart, which takes
several times the work. Loops over dimensions run along memory, so that they become vector instructions; two heads are
mixed at once, for layers come from a slower cache than mixtures do. Arrays are flat and indices unsigned: numba's views
and its negative indices cost more than these loops.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
from numba import boolean, config, float32, int64, njit, void
from numpy.typing import NDArray

if config.DISABLE_JIT:  # type: ignore[attr-defined, unused-ignore]
    raise ImportError("NUMBA_DISABLE_JIT is set")

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]

ROWS = 4
"""Utterances that are computed together."""

U = np.uintp
ZERO, ONE = np.float32(0), np.float32(1)
OPTIONS: dict[str, Any] = {"fastmath": {"reassoc", "contract", "nsz"}, "nogil": True, "error_model": "numpy"}
_logger = logging.getLogger("embedkit")
Loop = TypeVar("Loop", bound=Callable[..., None])

_inner = njit(**OPTIONS)


def _outer(*types: Any) -> Callable[[Loop], Loop]:
    """Compile a function for these types at once, and keep what was compiled where there is a place for it."""

    def compile_loop(function: Loop) -> Loop:
        try:
            return cast(Loop, njit(void(*types), cache=True, **OPTIONS)(function))
        except Exception as error:
            # No folder for it, a full disk, or a file that was cut off when the machine stopped.
            _logger.info("numba's cache cannot be used: %s: %s", type(error).__name__, error)
            return cast(Loop, njit(void(*types), **OPTIONS)(function))

    return compile_loop


@_inner
def _mix_two(
    one: Floats,
    other: Floats,
    numbers: int,
    layers: Floats,
    start: int,
    step: int,
    shares: Floats,
    first: int,
    second: int,
    count: int,
) -> None:
    """Fill `one` and `other` with the sums of `count` layers under two heads' shares."""
    done = count % 3
    a = start
    if done == 1:
        p, s = shares[U(first)], shares[U(second)]
        for d in range(numbers):
            one[U(d)] = p * layers[U(a + d)]
            other[U(d)] = s * layers[U(a + d)]
    elif done == 2:
        b = a + step
        p, q, s, t = shares[U(first)], shares[U(first + 1)], shares[U(second)], shares[U(second + 1)]
        for d in range(numbers):
            one[U(d)] = p * layers[U(a + d)] + q * layers[U(b + d)]
            other[U(d)] = s * layers[U(a + d)] + t * layers[U(b + d)]
    else:
        for d in range(numbers):
            one[U(d)] = ZERO
            other[U(d)] = ZERO
    while done < count:
        a = start + done * step
        b, c = a + step, a + 2 * step
        p, q, r = shares[U(first + done)], shares[U(first + done + 1)], shares[U(first + done + 2)]
        s, t, u = shares[U(second + done)], shares[U(second + done + 1)], shares[U(second + done + 2)]
        for d in range(numbers):
            one[U(d)] += p * layers[U(a + d)] + q * layers[U(b + d)] + r * layers[U(c + d)]
            other[U(d)] += s * layers[U(a + d)] + t * layers[U(b + d)] + u * layers[U(c + d)]
        done += 3


@_inner
def _dot_two(
    one: Floats,
    other: Floats,
    numbers: int,
    layers: Floats,
    start: int,
    step: int,
    sums: Floats,
    first: int,
    second: int,
    count: int,
) -> None:
    """Add to `sums` the dot products of `one` and `other` with each of `count` layers."""
    done = 0
    while done + 2 < count:
        a = start + done * step
        b, c = a + step, a + 2 * step
        p = q = r = s = t = u = ZERO
        for d in range(numbers):
            x, y = one[U(d)], other[U(d)]
            p += x * layers[U(a + d)]
            q += x * layers[U(b + d)]
            r += x * layers[U(c + d)]
            s += y * layers[U(a + d)]
            t += y * layers[U(b + d)]
            u += y * layers[U(c + d)]
        sums[U(first + done)] += p
        sums[U(first + done + 1)] += q
        sums[U(first + done + 2)] += r
        sums[U(second + done)] += s
        sums[U(second + done + 1)] += t
        sums[U(second + done + 2)] += u
        done += 3
    while done < count:
        a = start + done * step
        p = s = ZERO
        for d in range(numbers):
            p += one[U(d)] * layers[U(a + d)]
            s += other[U(d)] * layers[U(a + d)]
        sums[U(first + done)] += p
        sums[U(second + done)] += s
        done += 1


@_inner
def _score(
    mixed: Floats,
    dimensions: int,
    rows: int,
    weight: Floats,
    start: int,
    classes: int,
    products: Floats,
    place: int,
    step: int,
) -> None:
    """Put the dot products of `rows` mixtures with the weights of `classes` into `products`."""
    if rows < ROWS:
        for row in range(rows):
            m = row * dimensions
            for k in range(classes):
                w = start + k * dimensions
                p = ZERO
                for d in range(dimensions):
                    p += weight[U(w + d)] * mixed[U(m + d)]
                products[U(place + k * step + row)] = p
        return
    b, c, e = dimensions, 2 * dimensions, 3 * dimensions
    k = 0
    while k < classes:
        # Two classes at once; the last of an odd number is computed twice.
        v = start + k * dimensions
        w = v + dimensions if k + 1 < classes else v
        p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = ZERO
        for d in range(dimensions):
            x, y = weight[U(v + d)], weight[U(w + d)]
            p0 += x * mixed[U(d)]
            p1 += x * mixed[U(b + d)]
            p2 += x * mixed[U(c + d)]
            p3 += x * mixed[U(e + d)]
            q0 += y * mixed[U(d)]
            q1 += y * mixed[U(b + d)]
            q2 += y * mixed[U(c + d)]
            q3 += y * mixed[U(e + d)]
        o = place + k * step
        products[U(o)], products[U(o + 1)], products[U(o + 2)], products[U(o + 3)] = p0, p1, p2, p3
        if k + 1 < classes:
            o += step
            products[U(o)], products[U(o + 1)], products[U(o + 2)], products[U(o + 3)] = q0, q1, q2, q3
        k += 2


@_inner
def _measure(mixed: Floats, dimensions: int, rows: int, norms: Floats, place: int) -> None:
    """Put the norms of `rows` mixtures into `norms`."""
    for row in range(rows):
        m = row * dimensions
        p = ZERO
        for d in range(dimensions):
            p += mixed[U(m + d)] * mixed[U(m + d)]
        norms[U(place + row)] = np.sqrt(p)


@_inner
def _slope_rows(
    found: Floats,
    mixed: Floats,
    dimensions: int,
    rows: int,
    weight: Floats,
    start: int,
    classes: int,
    slopes: Floats,
    place: int,
    step: int,
    factors: Floats,
    factor: int,
    measured: bool,
) -> None:
    """Fill `found` with the gradient of each mixture: of its scores and, where it was measured, of its norm."""
    for row in range(rows):
        z = row * dimensions
        done = classes % 4
        a, o = start, place + row
        if done == 1:
            p = slopes[U(o)]
            for d in range(dimensions):
                found[U(z + d)] = p * weight[U(a + d)]
        elif done == 2:
            b = a + dimensions
            p, q = slopes[U(o)], slopes[U(o + step)]
            for d in range(dimensions):
                found[U(z + d)] = p * weight[U(a + d)] + q * weight[U(b + d)]
        elif done == 3:
            b, c = a + dimensions, a + 2 * dimensions
            p, q, r = slopes[U(o)], slopes[U(o + step)], slopes[U(o + 2 * step)]
            for d in range(dimensions):
                found[U(z + d)] = p * weight[U(a + d)] + q * weight[U(b + d)] + r * weight[U(c + d)]
        else:
            for d in range(dimensions):
                found[U(z + d)] = ZERO
        while done < classes:
            a, o = start + done * dimensions, place + done * step + row
            b, c, e = a + dimensions, a + 2 * dimensions, a + 3 * dimensions
            p, q, r, s = slopes[U(o)], slopes[U(o + step)], slopes[U(o + 2 * step)], slopes[U(o + 3 * step)]
            for d in range(dimensions):
                found[U(z + d)] += (
                    p * weight[U(a + d)] + q * weight[U(b + d)] + r * weight[U(c + d)] + s * weight[U(e + d)]
                )
            done += 4
        if measured:
            p = factors[U(factor + row)]
            for d in range(dimensions):
                found[U(z + d)] += p * mixed[U(z + d)]


@_inner
def _slope_weights(
    mixed: Floats,
    dimensions: int,
    rows: int,
    found: Floats,
    start: int,
    classes: int,
    slopes: Floats,
    place: int,
    step: int,
) -> None:
    """Add to `found` the gradient of the weights of `classes`."""
    b, c, e = dimensions, 2 * dimensions, 3 * dimensions
    for k in range(classes):
        w, o = start + k * dimensions, place + k * step
        if rows == ROWS:
            p, q, r, s = slopes[U(o)], slopes[U(o + 1)], slopes[U(o + 2)], slopes[U(o + 3)]
            for d in range(dimensions):
                found[U(w + d)] += p * mixed[U(d)] + q * mixed[U(b + d)] + r * mixed[U(c + d)] + s * mixed[U(e + d)]
        else:
            for row in range(rows):
                p, m = slopes[U(o + row)], row * dimensions
                for d in range(dimensions):
                    found[U(w + d)] += p * mixed[U(m + d)]


_FLOATS, _FLAGS = float32[::1], boolean[::1]
_SIZES = (int64,) * 6


@_outer(_FLOATS, _FLOATS, _FLOATS, _FLAGS, _FLOATS, _FLOATS, *_SIZES)
def forward(
    layers: Floats,
    shares: Floats,
    weight: Floats,
    measured: Flags,
    products: Floats,
    norms: Floats,
    groups: int,
    count: int,
    batch: int,
    dimensions: int,
    members: int,
    classes: int,
) -> None:
    """Mix and multiply.

    Args:
        layers: float32 `[groups * layers * batch * dimensions]`.
        shares: `[groups * members * layers]`.
        weight: `[groups * members * classes * dimensions]`.
        measured: Of which heads norms are taken, bool `[groups * members]`.
        products: Gets dot products, `[groups * members * classes * batch]`.
        norms: Gets the norms of the mixtures, `[groups * members * batch]`.
        groups, count, batch, dimensions, members, classes: The sizes; `count` that of layers.
    """
    one, other = np.empty(ROWS * dimensions, np.float32), np.empty(ROWS * dimensions, np.float32)
    for group in range(groups):
        for start in range(0, batch, ROWS):
            rows = min(ROWS, batch - start)
            source = (group * count * batch + start) * dimensions
            for member in range(0, members, 2):
                head = group * members + member
                last = head + 1 if member + 1 < members else head
                _mix_two(
                    one,
                    other,
                    rows * dimensions,
                    layers,
                    source,
                    batch * dimensions,
                    shares,
                    head * count,
                    last * count,
                    count,
                )
                for own in range(head, last + 1):
                    mixed = one if own == head else other
                    place = own * classes * batch + start
                    _score(mixed, dimensions, rows, weight, own * classes * dimensions, classes, products, place, batch)
                    if measured[own]:
                        _measure(mixed, dimensions, rows, norms, own * batch + start)


@_outer(_FLOATS, _FLOATS, _FLOATS, _FLAGS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, *_SIZES)
def backward(
    layers: Floats,
    shares: Floats,
    weight: Floats,
    measured: Flags,
    slopes: Floats,
    factors: Floats,
    for_shares: Floats,
    for_weight: Floats,
    groups: int,
    count: int,
    batch: int,
    dimensions: int,
    members: int,
    classes: int,
) -> None:
    """Add the gradients of what `forward` gives to zeros.

    Args:
        layers, shares, weight, measured: As in `forward`, and the sizes likewise.
        slopes: Gradients of the products, `[groups * members * classes * batch]`.
        factors: Gradients of the norms, divided by them, `[groups * members * batch]`.
        for_shares, for_weight: Get the gradients.
    """
    one, other = np.empty(ROWS * dimensions, np.float32), np.empty(ROWS * dimensions, np.float32)
    back, beside = np.empty(ROWS * dimensions, np.float32), np.empty(ROWS * dimensions, np.float32)
    alone = np.zeros(2 * count, np.float32)
    for group in range(groups):
        for start in range(0, batch, ROWS):
            rows = min(ROWS, batch - start)
            source = (group * count * batch + start) * dimensions
            for member in range(0, members, 2):
                head = group * members + member
                last = head + 1 if member + 1 < members else head
                _mix_two(
                    one,
                    other,
                    rows * dimensions,
                    layers,
                    source,
                    batch * dimensions,
                    shares,
                    head * count,
                    last * count,
                    count,
                )
                for own in range(head, last + 1):
                    mixed, found = (one, back) if own == head else (other, beside)
                    w, place = own * classes * dimensions, own * classes * batch + start
                    _slope_rows(
                        found,
                        mixed,
                        dimensions,
                        rows,
                        weight,
                        w,
                        classes,
                        slopes,
                        place,
                        batch,
                        factors,
                        own * batch + start,
                        measured[own],
                    )
                    _slope_weights(mixed, dimensions, rows, for_weight, w, classes, slopes, place, batch)
                if last > head:
                    _dot_two(
                        back,
                        beside,
                        rows * dimensions,
                        layers,
                        source,
                        batch * dimensions,
                        for_shares,
                        head * count,
                        last * count,
                        count,
                    )
                else:
                    alone[:] = ZERO
                    _dot_two(back, back, rows * dimensions, layers, source, batch * dimensions, alone, 0, count, count)
                    for layer in range(count):
                        for_shares[head * count + layer] += alone[layer]


@_outer(_FLOATS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, _FLOATS, int64, float32, float32, float32, float32)
def update(
    parameters: Floats,
    gradients: Floats,
    first: Floats,
    second: Floats,
    factors: Floats,
    kept: Floats,
    size: int,
    beta1: float,
    beta2: float,
    epsilon: float,
    scale: float,
) -> None:
    """Take one step of Adam, in one pass over memory.

    Args:
        parameters, gradients, first, second: Of all heads, float32 `[heads * size]`; moments are changed in place.
        factors: What each head's steps are multiplied by, `[heads]`.
        kept: The share of each head's parameters that weight decay leaves, `[heads]`.
        size: Numbers of one head.
        beta1, beta2: Decay of the moments.
        epsilon: Added to the square root of the second moments, which are not corrected.
        scale: Corrects the steps.
    """
    fresh1, fresh2 = ONE - beta1, ONE - beta2
    for head in range(len(factors)):
        start, share = head * size, kept[head]
        factor = -scale * factors[head]
        for d in range(size):
            i = U(start + d)
            gradient = gradients[i]
            first[i] += fresh1 * (gradient - first[i])
            second[i] = beta2 * second[i] + fresh2 * gradient * gradient
            parameters[i] = share * parameters[i] + factor * (first[i] / (np.sqrt(second[i]) + epsilon))
