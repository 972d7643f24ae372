"""HTTP itself: the application, headers, limits, sessions, serving."""
