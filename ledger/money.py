"""The dollars: limits, budgets, the month's book, the operator's hand, the true-up, and what warm containers cost."""

from ledger.budget import Budget
from ledger.warming import WarmContainers


class Money(Budget, WarmContainers):
    """The verbs of operators, of the cost report, of whoever compares the bill, and of the warm keeper."""
