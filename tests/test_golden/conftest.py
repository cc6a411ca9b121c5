"""What the golden tests share."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope='module', params=[False, True], ids=['fast', 'plain'])
def both_forms(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every algorithm built in the test computes in the fast form, then in the published one."""
    from mmselfsup_graft.models import SelfSupAlgorithm

    start = SelfSupAlgorithm.__init__

    def in_this_form(self: Any, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **{'plain': request.param, **kwargs})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SelfSupAlgorithm, '__init__', in_this_form)
        yield
