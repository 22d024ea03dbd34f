"""Losses: pure functions of tensors, reduced in float32 under any precision."""
