"""`python -m monitoring.alerting`: write the files that are made from this room."""

from monitoring.alerting.files import written

if __name__ == "__main__":
    for path, text in written().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
