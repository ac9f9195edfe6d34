"""The full-screen view of ``status --watch``. Only `app` and `dialogs` import Textual, the extra `tui`."""
