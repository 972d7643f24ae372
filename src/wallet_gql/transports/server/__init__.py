"""The server: puts both APIs, the pages and the shared HTTP parts together, and serves them."""
