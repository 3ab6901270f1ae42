"""Before a server that exists: requests are forwarded to it, and adapters loaded into it."""
