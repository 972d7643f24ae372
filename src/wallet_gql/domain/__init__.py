"""The rules of the wallet, pure: standard library only, no async, no clock, no randomness.

Read in this order: `money`, `ids`, `model` (what is stored), `changes` (what a command loads and what it writes),
`commands` (what callers ask for), `rules` (one function a verb), `errors` (what the ledger says instead).
"""
