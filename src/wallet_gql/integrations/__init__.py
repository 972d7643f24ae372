"""What the wallet does with services outside: calls between commits, never inside one."""
