"""What has to happen before any test module is imported."""

import pytest

# Assertions in a module of helpers explain themselves only if pytest rewrites them before the first import.
pytest.register_assert_rewrite("tests.e2e.scene")
