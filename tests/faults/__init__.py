"""Damage, malice and secrets: what must not pass, tried for real."""
