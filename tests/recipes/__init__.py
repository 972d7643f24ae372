"""Patches that show the recipes of CONTRIBUTING.md, and what must hold after each of them."""
