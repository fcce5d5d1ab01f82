"""What the harnesses share: the stack's services, a world with a load and pressline processes, tables, proxies, a checker."""
