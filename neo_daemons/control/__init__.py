"""The control API: HTTP over a private Unix socket, its server and its typed client."""
