"""The core: it starts, watches and stops daemons. It knows neither configuration files nor command lines."""
