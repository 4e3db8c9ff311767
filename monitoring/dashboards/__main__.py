"""`python -m monitoring.dashboards`: write the dashboards' JSON."""

from monitoring.dashboards.files import written

if __name__ == "__main__":
    for path, text in written().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
