"""What a wallet can do: one module per subject, each verb a method or function over any store."""
