"""How long does it take? subject -> timing -> statistics -> results, and budgets."""
