"""Objectives that learn from samples without a label too: one supervised term, and a term of their own."""
