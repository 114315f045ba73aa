"""The choice of a test's server: environment, then Docker, then embedded, then a skip that says why."""

from __future__ import annotations

import pytest

from tests.services import Choice, Service, Way, choose


def _never() -> bool:
    raise AssertionError("Docker was asked although an address is given")


@pytest.mark.parametrize("service", list(Service))
def test_an_address_in_the_environment_wins_and_docker_is_not_asked(service: Service) -> None:
    given = choose(service, {service.value: " there:1 "}, docker=_never, lacking="")
    assert Choice(Way.GIVEN, "there:1") == given


def test_an_address_is_of_its_own_service() -> None:
    found = choose(Service.KAFKA, {"TAILRACE_TEST_POSTGRES": "x"}, docker=lambda: False, lacking="")
    assert Way.EMBEDDED == found.way


def test_an_empty_address_is_none() -> None:
    found = choose(Service.KAFKA, {"TAILRACE_TEST_KAFKA": ""}, docker=lambda: False, lacking="")
    assert Way.EMBEDDED == found.way


def test_docker_comes_before_the_embedded_one() -> None:
    assert Way.DOCKER == choose(Service.POSTGRES, {}, docker=lambda: True, lacking="").way
    assert Way.DOCKER == choose(Service.POSTGRES, {}, docker=lambda: True, lacking="no Java").way


def test_docker_can_be_left_out() -> None:
    found = choose(Service.POSTGRES, {"TAILRACE_TEST_DOCKER": "0"}, docker=_never, lacking="")
    assert Way.EMBEDDED == found.way


def test_where_nothing_is_the_reason_names_all_three() -> None:
    found = choose(Service.KAFKA, {}, docker=lambda: False, lacking="no Java 17 or newer is installed")
    assert Way.NONE == found.way
    expected = "KAFKA: TAILRACE_TEST_KAFKA is not set, Docker does not answer, and no Java 17 or newer is installed"
    assert expected == found.reason
