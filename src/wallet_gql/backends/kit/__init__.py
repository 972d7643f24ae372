"""What every backend shares, and authors of further backends use: store base, group commit, node map."""
