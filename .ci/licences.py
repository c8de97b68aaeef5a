"""Checks, without a network, that every dependency's licence is one of those that we accept.

Reads `cargo metadata --format-version 1` on stdin.
"""

import json
import re
import sys

ACCEPTED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0",
    "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib",
}
# Used as they are published, and not by what our own code calls: MPL-2.0 asks for their source alone.
EXCEPTIONS = {"attohttpc": "MPL-2.0"}


def is_accepted(expression):
    """Whether some choice that an SPDX expression leaves needs accepted licences only."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def peek():
        return tokens[position] if position < len(tokens) else None

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def atom():
        token = take()
        if token == "(":
            value = either()
            take()
            return value
        if peek() == "WITH":
            take()
            token = f"{token} WITH {take()}"
        return token in ACCEPTED

    def both():
        value = atom()
        while peek() == "AND":
            take()
            value = atom() and value
        return value

    def either():
        value = both()
        while peek() == "OR":
            take()
            value = both() or value
        return value

    return either() and position == len(tokens)


packages = [package for package in json.load(sys.stdin)["packages"] if package["source"]]
refused = [
    package
    for package in packages
    if not is_accepted(package["license"] or "none") and EXCEPTIONS.get(package["name"]) != package["license"]
]
for package in refused:
    print(f"{package['name']} {package['version']}: {package['license']}", file=sys.stderr)
if refused:
    sys.exit(1)
print(f"{len(packages)} dependencies, all under accepted licences")
