"""Print docs/reliability.md."""

from __future__ import annotations

from tests.reliability.page import page

print(page(), end="")
