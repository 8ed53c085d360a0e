#!/usr/bin/env python3
"""Instructions per span of each hot path, by callgrind: the same on a busy machine as on an idle one.

    bench/micro.py [NAME...]

PROFILE=ci for what the tests build, or HOT=PROGRAM for a benchmark that is built already.
"""

import json
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def program():
    profile = os.environ.get('PROFILE', 'bench')
    command = ['cargo', 'build', '--profile', profile, '--workspace', '--bench', 'hot', '--message-format', 'json']
    built = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = [json.loads(line) for line in built.splitlines()]
    return next(a['executable'] for a in artifacts if a.get('executable') and a['target']['name'] == 'hot')


def run(hot, name, turns):
    command = ['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null', hot, name, str(turns)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return int(re.search(r'Collected : (\d+)', done.stderr).group(1)), int(done.stdout.split()[0])


def main():
    hot = os.environ.get('HOT') or program()
    names = sys.argv[1:] or subprocess.run([hot], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    print('| path | instructions a span |\n|---|---|')
    for name in names:
        (one, spans), (three, _) = run(hot, name, 1), run(hot, name, 3)
        print(f'| {name} | {(three - one) / 2 / spans:.0f} |', flush=True)


if __name__ == '__main__':
    main()
