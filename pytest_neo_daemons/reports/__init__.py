"""What a run tells beyond pytest's own output: its page, the artifacts of a failing run, the summary of a CI step.

Nothing here is imported by runs that want none of it, but for the options.
"""
