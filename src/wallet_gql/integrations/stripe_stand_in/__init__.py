"""A stand-in for Stripe, to try top-ups and withdrawals without an account of Stripe's. It takes no real card.

It keeps everything in memory. The command line and the tests run it; no server imports it.
"""
