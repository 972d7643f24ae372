"""Pages for people: the wallet, the start page and GraphiQL."""
