"""Refusals about money that comes in from outside or leaves."""

from __future__ import annotations

from .base import Category, Rejected


class TopUpNotFound(Rejected):
    """There is no such top-up of yours."""

    code = "TOP_UP_NOT_FOUND"
    category = Category.NOT_FOUND
    words = "you have no such top-up"
    top_up_id: str


class WithdrawalNotFound(Rejected):
    """There is no such withdrawal of yours."""

    code = "WITHDRAWAL_NOT_FOUND"
    category = Category.NOT_FOUND
    words = "you have no such withdrawal"
    withdrawal_id: str


class PayoutAccountMissing(Rejected):
    """Nobody has said yet to which account your money is to be paid out. Ask support; then use a new key."""

    code = "PAYOUT_ACCOUNT_MISSING"
    category = Category.CONFLICT
    words = "you have no account to be paid out to; ask support"
    owner: str


class PaymentsNotConfigured(Rejected):
    """This wallet has no payment provider: nothing can be paid in or out. The key was not used up."""

    code = "PAYMENTS_NOT_CONFIGURED"
    category = Category.CONFLICT
    remembered = False
    words = "this wallet has no payment provider; ask the operator"
