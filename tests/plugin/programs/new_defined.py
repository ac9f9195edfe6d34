"""Overrides a definition for one class, and asks for a new daemon there."""

# mypy: ignore-errors

import pytest
from msgspec.structs import replace


class TestOwn:
    @pytest.fixture(scope="session")
    def api_definition(self, api_definition):
        return replace(api_definition, exports={"COLOUR": "blue"})

    def test_own(self, new_daemon):
        assert new_daemon("api").env == {"COLOUR": "blue"}


def test_shared(api):
    assert api.env == {}
