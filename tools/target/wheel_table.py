"""Writes the table of one wheel that vidc checks it by: the size and sha256 of every file that it takes out, and the links beside them.

    python3 tools/target/wheel_table.py WHEEL 'GLOB' ... [--link NAME=TARGET ...] > src/target/wheels/PACKAGE-SYSTEM.txt

A line is `sha256 bytes path`, or `link name target`. `src/target/package.rs` reads it.
"""

import argparse
import fnmatch
import hashlib
import zipfile


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("wheel")
    arguments.add_argument("members", nargs="+", help="patterns of paths inside the wheel")
    arguments.add_argument("--link", action="append", default=[], metavar="NAME=TARGET")
    given = arguments.parse_args()
    with zipfile.ZipFile(given.wheel) as wheel:
        names = [n for n in wheel.namelist() if any(fnmatch.fnmatch(n, m) for m in given.members)]
        if not names:
            raise SystemExit("nothing in this wheel has such a name")
        for name in sorted(names):
            content = wheel.read(name)
            print(hashlib.sha256(content).hexdigest(), len(content), name)
    for link in given.link:
        print("link", *link.split("=", 1))


if __name__ == "__main__":
    main()
