"""What a wallet can do: one module a subject, each verb a method or function over any store."""
