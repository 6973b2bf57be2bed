"""`make dashboards`: writes dashboards/, and what docs/dashboards.md says of it, from the views and the rules."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import yaml

from tools.dashboards import datadog, grafana, honeycomb, page, prometheus

ABOUT = "# From tools/dashboards, by `make dashboards`. What to do when one of them is told: docs/dashboards.md.\n"


def _json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


FILES: Mapping[str, Callable[[], str]] = {
    "dashboards/grafana.json": lambda: _json(grafana.dashboard()),
    "dashboards/prometheus-rules.yml": lambda: ABOUT + yaml.safe_dump(prometheus.rules(), sort_keys=False, width=120),
    "dashboards/datadog.json": lambda: _json(datadog.dashboard()),
    "dashboards/datadog-monitors.json": lambda: _json(datadog.monitors()),
    "dashboards/honeycomb.tf.json": lambda: _json(honeycomb.configuration()),
    "docs/dashboards.md": page.page,
}
"By path, from the top of the repository."

if __name__ == "__main__":
    for name, content in FILES.items():
        Path(name).write_text(content())
