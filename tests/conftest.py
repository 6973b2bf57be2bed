"""What has to happen before any test module is imported."""

import pytest
from hypothesis import settings

# Assertions in a module of helpers explain themselves only if pytest rewrites them before the first import.
pytest.register_assert_rewrite("tests.e2e.scene")

# The promised times are held in tests/bench; on a busy machine a deadline per example fails by chance.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
