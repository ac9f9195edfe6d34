"""``doctor`` and ``reap``, which work with or without a supervisor."""

from __future__ import annotations

import argparse

from neo_daemons.catalog.diagnosis import diagnose
from neo_daemons.config.configuration import load
from neo_daemons.config.locate import find_state_dir
from neo_daemons.supervision import survey
from neo_daemons.supervision.platform import current_platform
from neo_daemons.supervision.reaping import reap as end_orphans

from . import display
from .codes import DONE, FAILED
from .streams import complain


def doctor(options: argparse.Namespace) -> int:
    """Print what is installed, taken, stale and orphaned."""
    if options.tests:
        from .written_out import written_out

        return _print(written_out(options.config, options.state_dir))
    configuration = load(options.config, state_dir=options.state_dir)
    findings = [survey.Finding(level="note", subject="configuration", text=text) for text in configuration.deprecations]
    findings += diagnose(configuration)
    print(f"configuration: {configuration.source or 'none (using the built-in daemons with their defaults)'}")
    return _print(findings)


def _print(findings: list[survey.Finding]) -> int:
    for finding in findings:
        print(display.clean(f"{finding.level:8} {finding.subject}: {finding.text}"))
        if finding.remedy:
            print(display.clean(f"{'':8} → {finding.remedy}"))
    return FAILED if any(finding.level == "problem" for finding in findings) else DONE


def reap(options: argparse.Namespace) -> int:
    """Stop the unsupervised processes that provably belong to this state directory."""
    state = find_state_dir(options.state_dir, file=options.config)
    reaped = end_orphans(state, current_platform())
    for orphan in reaped.ended:
        print(display.clean(f"stopped {orphan.name}, pid {orphan.pid} ({orphan.command})"))
    for orphan in reaped.left:
        owner = f"belongs to {orphan.state_dir}"
        print(display.clean(f"kept {orphan.name}, pid {orphan.pid} ({orphan.command}): {owner}"))
    if reaped.held:
        return complain(display.STILL_HELD.format(", ".join(reaped.held), state.command("doctor")), FAILED)
    if not reaped.ended and not reaped.left:
        print("nothing to reap")
    return DONE
