"""``doctor``: the survey of a configuration's daemons, with what the catalog knows of them."""

from __future__ import annotations

from neo_daemons.config.project import Configuration
from neo_daemons.environment import inherited
from neo_daemons.supervision import survey
from neo_daemons.supervision.platform import current_platform

from . import resolve


def diagnose(configuration: Configuration) -> list[survey.Finding]:
    """Return what is installed, taken, stale and orphaned. Nothing is changed."""
    project = configuration.project
    return survey.survey(
        configuration.definitions,
        state_dir=configuration.state,
        platform=current_platform(),
        resolve=lambda definition: resolve(definition, project),
        values=project.references(configuration.state.path),
        env=inherited(project.environ),
    )
