"""The services, each a process of the stack, and what they need: ports, certificates, the cache of what is fetched."""
