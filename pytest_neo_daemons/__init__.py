"""The pytest door to neo-daemons."""
