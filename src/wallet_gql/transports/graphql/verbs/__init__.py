"""Mutations by subject: their inputs, their answers, their resolvers."""
