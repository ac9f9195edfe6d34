"""What stands in for macOS on Linux: its libSystem, and what it refuses."""
