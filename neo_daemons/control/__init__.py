"""The control API: HTTP over a private Unix socket, with its server and a typed client."""
