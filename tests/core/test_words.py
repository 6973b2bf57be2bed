from lectr_extproc.core import words


def test_every_header_of_ours_is_one_that_no_provider_gets() -> None:
    headers = {value for name, value in vars(words).items() if name.endswith("_HEADER")}
    of_clients = {"x-lectr-key", "x-lectr-provider", "x-lectr-feature", "x-lectr-task", "x-lectr-fallback"}
    of_attempts = {"x-lectr-rewritten", "x-lectr-shape", "x-lectr-unanswered", "x-lectr-retry"}
    assert headers == of_clients | of_attempts | {"x-lectr-cluster"}
    assert all(header.startswith(words.OWN_PREFIX) for header in headers)


def test_what_envoy_read_and_what_lectr_decided_are_kept_apart() -> None:
    assert words.NAMESPACE != words.REQUEST_NAMESPACE
