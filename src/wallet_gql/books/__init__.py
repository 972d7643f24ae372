"""The books as a whole: audit, export and import."""
