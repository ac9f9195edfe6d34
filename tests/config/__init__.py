"""Reading configurations: how each error is reported, and what a valid file means."""
