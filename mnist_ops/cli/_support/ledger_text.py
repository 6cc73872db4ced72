"""Ledgers in words."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any


def summary_of(ledger: Mapping[str, Any]) -> str:
    """Summarise a ledger's document in a few lines: outcomes, a problem if any, cost and bottleneck."""
    outcomes = ", ".join(f"{count} {name}" for name, count in ledger["outcomes"].items() if count)
    lines = [f"{ledger['run']}, generation {ledger['generation']}, {text(ledger['finished_at'])}"]
    lines.append(f"{ledger['selected']} records" + (f": {outcomes}" if outcomes else ""))
    if problem := ledger["imbalance"] or ledger["held_because"]:
        lines.append(f"PROBLEM: {problem}")
    lines.append(_cost(ledger["cost"]))
    if bottleneck := ledger["bottleneck"]:
        lines.append(
            f"bottleneck: {bottleneck['stage']}, {bottleneck['share']:.0%} of the time of all tasks: "
            f"{bottleneck['doing']}"
        )
    return "\n  ".join(lines)


def _cost(cost: Mapping[str, Any]) -> str:
    currency, per_1000 = cost["currency"], cost["per_1000_records"]
    items = ", ".join(f"{name} {amount:.6f}" for name, amount in cost["by"].items() if amount)
    return (
        f"cost: about {cost['total']:.6f} {currency}"
        + (f", {per_1000:.6f} {currency} per 1,000 records" if per_1000 is not None else "")
        + (f" ({items})" if items else "")
    )


def text(value: object) -> str:
    """A value of a ledger that JSON has no form for."""
    return value.isoformat() if isinstance(value, datetime) else str(value)
