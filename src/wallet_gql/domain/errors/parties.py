"""Refusals about merchants, users and their log-ins."""

from __future__ import annotations

from .base import Category, Rejected


class NotAMerchant(Rejected):
    """There is no merchant of that name. Pay a user by a transfer."""

    code = "NOT_A_MERCHANT"
    category = Category.NOT_FOUND
    words = "{payee} is no merchant; pay a user by a transfer"
    payee: str


class MerchantExists(Rejected):
    """You are a merchant already. Change what there is."""

    code = "MERCHANT_EXISTS"
    category = Category.CONFLICT
    words = "you are a merchant already; update that instead"
    merchant_id: str


class FreshLogInRequired(Rejected):
    """The password was given too long ago for this. Log in anew, then send the same request with the same key."""

    code = "FRESH_LOG_IN_REQUIRED"
    category = Category.FORBIDDEN
    remembered = False
    words = "this needs a log-in of the last {minutes} minutes; log in anew, then send it again with the same key"
    minutes: int


class UsernameTaken(Rejected):
    """Somebody has this username. Choose another."""

    code = "USERNAME_TAKEN"
    category = Category.CONFLICT
    words = "the username {username} is taken; choose another"
    username: str


class EmailTaken(Rejected):
    """An account with this e-mail address exists. Log in instead."""

    code = "EMAIL_TAKEN"
    category = Category.CONFLICT
    words = "the e-mail address {email} is already registered; log in instead"
    email: str


class InvalidCredentials(Rejected):
    """Unknown user or wrong password: the two are never told apart."""

    code = "INVALID_CREDENTIALS"
    category = Category.UNAUTHENTICATED
    words = "unknown user or wrong password; check both"
