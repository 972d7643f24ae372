"""Pages for people: the start page and GraphiQL."""
