"""60 deliveries, each right after a refused body in the same session: prints how many failed."""

import sys

import requests

url, token, event, size = sys.argv[1:]
session, failed = requests.Session(), 0
session.headers["Content-Type"] = "application/json"
for _ in range(60):
    for token_sent, body in [("guess", b" " * int(size)), (token, open(event, "rb").read())]:
        try:
            status = session.post(url, body, headers={"X-LOX24-Token": token_sent}).status_code
        except requests.ConnectionError:
            status = None
    failed += status != 200
print(failed)
