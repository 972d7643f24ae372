"""The GraphQL API: its types, its limits, and the view that speaks it over HTTP."""
