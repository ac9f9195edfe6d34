"""For agents: the MCP server of a project (`server`), and the shim to a supervised MCP server (`connect`)."""
