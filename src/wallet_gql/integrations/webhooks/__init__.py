"""Signed events to merchants."""
