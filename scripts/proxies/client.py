"""60 deliveries, each right after a refused body in the same session: prints how many failed."""

import sys

import requests

url, token, event, size = sys.argv[1:]
session = requests.Session()


def post(token, body):
    headers = {"X-LOX24-Token": token, "Content-Type": "application/json"}
    try:
        return session.post(url, body, headers=headers).status_code
    except requests.ConnectionError:
        return None


failed = 0
for _ in range(60):
    post("guess", b" " * int(size))
    failed += post(token, open(event, "rb").read()) != 200
print(failed)
