"""The core: it starts, watches and ends daemons, and knows neither configuration files nor command lines."""
