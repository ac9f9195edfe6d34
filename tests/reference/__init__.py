"""The reference pages, generated from the code: ``docs/reference`` and the picture of the lifecycle."""
