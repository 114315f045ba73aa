"""The route as a flag."""

from __future__ import annotations

from openfeature import api
from openfeature.evaluation_context import EvaluationContext

from tailrace_router import CallableRoute, Router
from tailrace_router.openfeature import FLAG, RouterProvider
from tests.unit.router.test_router import Published, route


def test_the_flag_follows_the_route() -> None:
    router = Router([CallableRoute(Published(route(4, share=5000)))])
    api.set_provider(RouterProvider(router))
    client = api.get_client()
    answers = {number: client.get_boolean_details(FLAG, False, EvaluationContext(str(number))) for number in range(100)}
    assert {n: str(router.read_side(n)) for n in answers} == {n: one.variant for n, one in answers.items()}
    assert {True, False} == {one.value for one in answers.values()}
    assert 4 == answers[0].flag_metadata["epoch"]
    nobody = client.get_boolean_details(FLAG, True)
    assert (False, "DEFAULT") == (nobody.value, nobody.reason)
    assert "fallback" == client.get_string_value("another", "fallback")
    api.shutdown()
    router.close()
