from lectr_extproc.gateway.finding import Finding, error, lines, some, warning


def test_a_finding_says_what_why_and_what_to_do() -> None:
    words = {"what": "w", "why": "y", "do": "d", "see": "s"}
    assert error("w", "y", "d", "s") == Finding(severity="error", **words)
    assert warning("w", "y", "d", "s") == Finding(severity="warning", **words)


def test_what_to_do_is_yaml_to_paste() -> None:
    assert lines(True, "allow_mode_override") == "allow_mode_override: true"
    assert lines("0s", "route", "timeout") == "route:\n  timeout: 0s"


def test_of_many_names_the_first_are_told() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some(list("abcdef")) == "a, b, c, d and 2 more"
