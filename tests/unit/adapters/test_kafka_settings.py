"""One set of client settings for two clients."""

from __future__ import annotations

import pytest

from adapters.kafka_settings import Security, as_dotted, for_kafka_python, refuse_ours, security_of
from schemas.errors import ConfigError

GIVEN: dict[str, str | int | float | bool] = {
    "security_protocol": "SASL_SSL",
    "sasl_mechanism": "SCRAM-SHA-512",
    "sasl_plain_username": "u",
    "sasl_plain_password": "hunter2",
    "ssl_cafile": "ca.pem",
    "ssl_certfile": "c.pem",
    "ssl_keyfile": "k.pem",
    "ssl_check_hostname": False,
    "client_id": "x",
}
DOTTED: dict[str, str | int | float | bool] = {
    "security.protocol": "SASL_SSL",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "u",
    "sasl.password": "hunter2",
    "ssl.ca.location": "ca.pem",
    "ssl.certificate.location": "c.pem",
    "ssl.key.location": "k.pem",
    "ssl.endpoint.identification.algorithm": "none",
    "client.id": "x",
}


def test_both_spellings_mean_the_same() -> None:
    assert DOTTED == as_dotted(GIVEN) == as_dotted(DOTTED)
    expected = Security("SASL_SSL", "ca.pem", "c.pem", "k.pem", check_hostname=False)
    assert [expected, expected] == [security_of(GIVEN), security_of(DOTTED)]


def test_an_unknown_setting_is_named_and_its_value_is_not() -> None:
    with pytest.raises(ConfigError) as caught:
        for_kafka_python({"sasl_plain_pasword": "hunter2"}, GIVEN)
    assert "sasl_plain_pasword" in caught.value.message
    assert "did you mean sasl_plain_password?" == caught.value.hint
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["acks", "group_id", "group.id", "enable.auto.commit", "bootstrap_servers", "error_cb"]
)
def test_what_decides_about_loss_is_not_to_be_set(name: str) -> None:
    with pytest.raises(ConfigError):
        refuse_ours(name)
