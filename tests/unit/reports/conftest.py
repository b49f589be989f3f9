from __future__ import annotations

import pytest

from studyflow.reports import StudyData

from .studies import STUDIES


@pytest.fixture(scope="session", params=list(STUDIES))
def study(request: pytest.FixtureRequest) -> StudyData:
    return STUDIES[request.param]()
