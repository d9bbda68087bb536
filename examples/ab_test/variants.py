"""The jobs of workflow.yaml. The users are simulated, see `buys`; what is computed of them is not."""

from __future__ import annotations

import math
from random import Random
from typing import Any

#: How likely a simulated user buys, by the variant that it sees.
RATES = {"control": 0.10, "variant-a": 0.12, "variant-b": 0.20}


def sees(user: int, seed: int) -> str:
    """The variant that a user is shown, each with the same chance."""
    return Random(f"{seed}/{user}/sees").choice(list(RATES))


def buys(user: int, variant: str, seed: int) -> bool:
    """A Bernoulli draw with the variant's rate, the same in every run."""
    return Random(f"{seed}/{user}/buys").random() < RATES[variant]


def measure(variant: str, users: int, seed: int) -> dict[str, Any]:
    """Those of the test's `users` who see this variant, and how many of them buy."""
    shown = [user for user in range(users) if sees(user, seed) == variant]
    bought = sum(buys(user, variant, seed) for user in shown)
    rate = round(bought / len(shown), 4)
    return {"variant": variant, "users": len(shown), "bought": bought, "rate": rate}


def decide(results: list[dict[str, Any]], alpha: float) -> dict[str, Any]:
    """The variant with the highest rate, if it beats the first one significantly; else the first."""
    control, *others = results
    best = max(others, key=lambda result: result["rate"])
    z, p = z_test(control, best)
    # Each of the variants had a try, so the level is shared between them (Bonferroni).
    significant = z > 0 and p < alpha / len(others)
    winner = best["variant"] if significant else control["variant"]
    print(f"{best['variant']} {best['rate']}, control {control['rate']}: z = {z:.2f}, p = {p:.4f}")
    return {"winner": winner, "significant": significant, "z": round(z, 4), "p": round(p, 6)}


def z_test(a: dict[str, Any], b: dict[str, Any]) -> tuple[float, float]:
    """The two-proportion z-test: how far `b` is above `a` in standard errors, two-sided p-value."""
    pooled = (a["bought"] + b["bought"]) / (a["users"] + b["users"])
    error = math.sqrt(pooled * (1 - pooled) * (1 / a["users"] + 1 / b["users"]))
    z = (b["bought"] / b["users"] - a["bought"] / a["users"]) / error
    return z, math.erfc(abs(z) / math.sqrt(2))
