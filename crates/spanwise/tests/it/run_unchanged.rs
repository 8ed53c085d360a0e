//! A program under `spanwise run` prints, and ends, as it does without.

use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use super::harness::{Server, text};
use super::run::endpoint;
use super::run_programs::{command, isolate};

/// Exit status as a shell's, standard output, standard error.
fn outcome(command: &mut Command, input: &str) -> (Option<i32>, String, String) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // Many do not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let status = output.status.code().or(output.status.signal().map(|number| 128 + number));
    (status, text(&output.stdout), text(&output.stderr))
}

fn check(program: &str, input: &str, commands: &[&[&str]]) {
    let home = tempfile::tempdir().unwrap();
    let server = Server::start(&home.path().join("data"), &[]);
    let endpoint = endpoint(&server);
    for arguments in commands {
        let mut plain = Command::new(program);
        isolate(&mut plain, home.path());
        let words = [&["--quiet", "--endpoint", &endpoint, "--", program], *arguments].concat();
        let expected = outcome(plain.args(*arguments), input);
        assert_eq!(outcome(&mut command(home.path(), &words), input), expected, "{program} {arguments:?}");
    }
}

#[test]
fn programs_in_python() {
    let commands: &[&[&str]] = &[
        // Without handlers of its own Python prints these by a last resort.
        &["-c", "import logging; logging.getLogger('x').warning('hello')"],
        &["-c", "import logging; logging.warning('hello')"],
        &["-c", "import warnings; warnings.warn('old')"],
        &["-c", "raise ValueError('x')"],
        &["-c", "import sys; sys.exit('bad')"],
        &["-c", "import os; os._exit(4)"],
        &["-c", "import os; os.abort()"],
        &["-W", "error", "-c", "print(1)"],
        &["-X", "dev", "-c", "print(1)"],
        &["-"],
        &["-m", "json.tool", "--help"],
        &["-c", "import sys; print(sys.argv, sys.path[0] == '')", "a b", "-c"],
        &["-c", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"],
        &["-c", "import os; child = os.fork(); child or os._exit(3); print(os.waitpid(child, 0)[1])"],
        &[
            "-c",
            "from multiprocessing import get_context as of; p = of('spawn').Process(target=print, args=(1,)); p.start(); p.join()",
        ],
    ];
    check("venv/bin/python", "print(7)\n", commands);
}

#[test]
fn programs_in_node() {
    let commands: &[&[&str]] = &[
        &["-e", "throw new Error('x')"],
        &["-e", "Promise.reject(new Error('x'))"],
        &["-e", "process.exitCode = 6"],
        &["-e", "process.exit(5)"],
        &["-e", "process.abort()"],
        &["-p", "1 + 1"],
        &[],
        &["--check", "audit.cjs"],
        &["--input-type=module", "-e", "import fs from 'fs'; console.log(typeof fs.readFileSync)"],
        &["-e", "new (require('worker_threads').Worker)('console.log(1)', { eval: true }).on('exit', console.log)"],
        &["-e", "require('child_process').spawn(process.execPath, ['-p', '2'], { stdio: 'inherit' })"],
        &["-e", "process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 9000)"],
        &["-e", "process.kill(process.pid, 'SIGINT'); setTimeout(() => {}, 9000)"],
        &[
            "-e",
            "process.on('SIGTERM', () => process.exit(9)).kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 9000)",
        ],
        &["-e", "process.on('exit', console.log).on('beforeExit', () => console.log('last'))"],
        &[
            "-e",
            "process.on('uncaughtException', (e) => console.log(e.message)); setTimeout(() => { throw Error('y'); })",
        ],
    ];
    check("node", "console.log(7)\n", commands);
}
