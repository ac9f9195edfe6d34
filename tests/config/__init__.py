"""Reading configurations: what each fault is told as, and what a good one comes to."""
