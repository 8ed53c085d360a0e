//! What a command will run: read from the command itself, the files it names, and nothing else. It is not started.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use super::detect_shell as shell;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Runtime {
    Java,
    Node,
    Python,
}

impl Runtime {
    pub const ALL: [Runtime; 3] = [Runtime::Java, Runtime::Node, Runtime::Python];

    pub fn name(self) -> &'static str {
        match self {
            Runtime::Java => "java",
            Runtime::Node => "node",
            Runtime::Python => "python",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Runtime::Java => "Java",
            Runtime::Node => "Node.js",
            Runtime::Python => "Python",
        }
    }
}

/// A runtime that the command uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Use {
    pub runtime: Runtime,
    /// `java`, `node` or `python` to probe the agent with.
    pub interpreter: Option<PathBuf>,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// As given; the first word is the name under which the program is started.
    pub command: Vec<OsString>,
    pub program: PathBuf,
    pub uses: Vec<Use>,
    /// The command itself is `java`: the agent can be an argument.
    pub is_direct_java: bool,
    /// The command itself is a program of one of the runtimes, not a script or tool that starts programs.
    pub is_direct: bool,
    /// Reasons why an agent will not load although its runtime is used.
    pub warnings: Vec<String>,
}

/// Why a command cannot be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoProgram {
    NotFound(OsString),
    NotExecutable(PathBuf),
}

impl NoProgram {
    /// As a shell's.
    pub fn status(&self) -> u8 {
        match self {
            NoProgram::NotFound(_) => 127,
            NoProgram::NotExecutable(_) => 126,
        }
    }
}

impl fmt::Display for NoProgram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoProgram::NotFound(name) => write!(f, "cannot run {}: command not found", name.display()),
            NoProgram::NotExecutable(path) => write!(f, "cannot run {}: not an executable file", path.display()),
        }
    }
}

impl std::error::Error for NoProgram {}

/// Scripts that start scripts are followed this deep.
const DEPTH: usize = 4;
/// Scripts are read this far.
const SCRIPT_BYTES: u64 = 256 << 10;

/// # Errors
/// When there is no such program.
pub fn detect(command: &[OsString], forced: &[Runtime]) -> Result<Found, NoProgram> {
    let name = command.first().map(OsString::as_os_str).unwrap_or_default();
    let program = resolve(name)?;
    let mut found = Found {
        command: command.to_vec(),
        program: program.clone(),
        uses: Vec::new(),
        is_direct_java: false,
        is_direct: false,
        warnings: Vec::new(),
    };
    let words: Vec<String> = command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let mut look = Look { found: &mut found, seen: BTreeSet::new() };
    look.command(&program, words.get(1..).unwrap_or_default(), 0);
    for runtime in forced {
        look.add(*runtime, None, "asked for with --runtime");
    }
    found.uses.sort_by_key(|found| found.runtime);
    Ok(found)
}

/// As `execvp` finds it.
///
/// # Errors
/// When it is not there, or not executable.
pub fn resolve(name: &OsStr) -> Result<PathBuf, NoProgram> {
    if name.as_encoded_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match path.metadata() {
            Err(_) => Err(NoProgram::NotFound(name.to_owned())),
            Ok(metadata) if metadata.is_file() && metadata.permissions().mode() & 0o111 != 0 => Ok(path),
            Ok(_) => Err(NoProgram::NotExecutable(path)),
        };
    }
    search(name).ok_or_else(|| NoProgram::NotFound(name.to_owned()))
}

/// First executable file of this name on the PATH.
pub fn search(name: &OsStr) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|candidate| {
        candidate.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    })
}

/// What a word, as the first of a command, stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Word {
    Java,
    JavaTool,
    Node,
    NodeTool,
    Python,
    PythonTool,
    Shell,
    /// Runs the command that follows its own options.
    Prefix,
    Other,
}

fn word(name: &str) -> Word {
    match name {
        "java" | "javacmd" | "java_cmd" | "java_bin" => Word::Java,
        "mvn" | "mvnw" | "gradle" | "gradlew" | "sbt" | "jbang" => Word::JavaTool,
        "node" | "nodejs" => Word::Node,
        "npm" | "npx" | "yarn" | "yarnpkg" | "pnpm" | "pnpx" | "corepack" | "nodemon" | "ts-node" | "tsx" | "pm2" => {
            Word::NodeTool
        }
        "gunicorn" | "uvicorn" | "hypercorn" | "daphne" | "waitress-serve" | "granian" | "uwsgi" | "flask"
        | "fastapi" | "django-admin" | "celery" | "poetry" | "pipenv" | "uv" | "hatch" | "pdm" => Word::PythonTool,
        "sh" | "bash" | "dash" | "zsh" | "ksh" | "ash" => Word::Shell,
        "env" | "nice" | "nohup" | "time" | "timeout" | "stdbuf" | "setsid" | "ionice" | "chrt" | "exec"
        | "command" | "dumb-init" | "tini" | "taskset" | "unbuffer" | "xargs" => Word::Prefix,
        _ => {
            let python = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy"));
            let is_python = python.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
            if is_python { Word::Python } else { Word::Other }
        }
    }
}

struct Look<'a> {
    found: &'a mut Found,
    seen: BTreeSet<PathBuf>,
}

impl Look<'_> {
    fn add(&mut self, runtime: Runtime, interpreter: Option<PathBuf>, why: &str) {
        if let Some(existing) = self.found.uses.iter_mut().find(|found| found.runtime == runtime) {
            if existing.interpreter.is_none() {
                existing.interpreter = interpreter;
            }
            return;
        }
        let interpreter = interpreter.or_else(|| default_interpreter(runtime));
        self.found.uses.push(Use { runtime, interpreter, why: why.to_owned() });
    }

    /// A program and its arguments. `depth` 0 is the command itself.
    fn command(&mut self, program: &Path, arguments: &[String], depth: usize) {
        let name = program.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let shown = program.display().to_string();
        match word(&name) {
            Word::Java => {
                if depth == 0 {
                    (self.found.is_direct, self.found.is_direct_java) = (true, true);
                }
                self.add(Runtime::Java, Some(program.to_owned()), &format!("{shown} is Java"));
            }
            Word::Node => {
                self.found.is_direct |= depth == 0;
                self.add(Runtime::Node, Some(program.to_owned()), &format!("{shown} is Node.js"));
            }
            Word::Python => {
                self.found.is_direct |= depth == 0;
                self.check_python_flags(arguments);
                self.add(Runtime::Python, Some(program.to_owned()), &format!("{shown} is Python"));
            }
            Word::JavaTool => self.add(Runtime::Java, None, &format!("{name} runs Java")),
            Word::NodeTool => {
                self.add(Runtime::Node, None, &format!("{name} runs Node.js"));
                self.package_script(arguments, depth);
            }
            // What they run is in the project's own environment.
            Word::PythonTool if matches!(name.as_str(), "poetry" | "pipenv" | "uv" | "hatch" | "pdm") => {
                self.found.is_direct |= depth == 0;
                self.add(Runtime::Python, project_python(), &format!("{name} runs Python"));
            }
            Word::PythonTool if self.script(program, arguments, depth) => {}
            Word::PythonTool => {
                self.found.is_direct |= depth == 0;
                self.add(Runtime::Python, sibling_python(program), &format!("{name} runs Python"));
            }
            Word::Shell => self.shell(arguments, depth),
            Word::Prefix => self.after_options(arguments, depth),
            Word::Other => {
                self.script(program, arguments, depth);
            }
        }
    }

    fn check_python_flags(&mut self, arguments: &[String]) {
        for argument in arguments.iter().take_while(|argument| argument.starts_with('-') && argument.len() > 1) {
            let is_flags = !argument.starts_with("--") && !argument.starts_with("-m") && !argument.starts_with("-c");
            if let Some(flag) = argument.chars().skip(1).find(|flag| is_flags && matches!(flag, 'I' | 'E' | 'S')) {
                let why =
                    format!("python -{flag} ignores PYTHONPATH or sitecustomize: that process will not be traced");
                self.found.warnings.push(why);
            }
        }
    }

    /// `env A=b nice -n 5 COMMAND…`: the first word that is a program we know something about.
    fn after_options(&mut self, arguments: &[String], depth: usize) {
        for (at, argument) in arguments.iter().enumerate().take(16) {
            if argument.starts_with('-') || argument.contains('=') || depth >= DEPTH {
                continue;
            }
            if let Ok(program) = resolve(OsStr::new(argument)) {
                let rest = arguments.get(at + 1..).unwrap_or_default();
                return self.command(&program, rest, depth + 1);
            }
        }
    }

    /// `sh -c TEXT` or `sh FILE`.
    fn shell(&mut self, arguments: &[String], depth: usize) {
        let mut words = arguments.iter();
        while let Some(argument) = words.next() {
            if argument.starts_with('-') && !argument.starts_with("--") && argument.ends_with('c') {
                if let Some(text) = words.next() {
                    self.shell_text(text, Path::new("."), depth);
                }
                return;
            }
            if !argument.starts_with('-') && !argument.starts_with('+') {
                let path = Path::new(argument);
                if let Some(text) = read_script(path) {
                    self.shell_file(path, &text, depth);
                }
                return;
            }
        }
    }

    fn shell_file(&mut self, path: &Path, text: &str, depth: usize) {
        if depth < DEPTH && self.seen.insert(path.canonicalize().unwrap_or_else(|_| path.to_owned())) {
            self.shell_text(text, path.parent().unwrap_or(Path::new(".")), depth);
        }
    }

    /// Every command of a script that we know something about.
    fn shell_text(&mut self, text: &str, directory: &Path, depth: usize) {
        if depth >= DEPTH {
            return;
        }
        for command in shell::commands(text) {
            let Some((first, rest)) = command.split_first() else { continue };
            let name = shell::variable_name(first);
            let base = name.rsplit('/').next().unwrap_or(name);
            let is_variable = name != first.as_str() || first.contains('$');
            let kind = if is_variable { word(&base.to_lowercase()) } else { word(base) };
            let path = [directory.join(first), PathBuf::from(first)].into_iter().find(|path| path.is_file());
            match (kind, path) {
                // `"$JAVA_HOME/bin/java"`, `exec "$PYTHON"`: which one is not known here.
                (Word::Java, None) if is_variable => self.add(Runtime::Java, None, &format!("the script runs {first}")),
                (Word::Node, None) if is_variable => self.add(Runtime::Node, None, &format!("the script runs {first}")),
                (Word::Python, None) if is_variable => {
                    self.add(Runtime::Python, None, &format!("the script runs {first}"));
                }
                (_, Some(path)) if first.contains('/') => self.command(&path, rest, depth + 1),
                (Word::Other, Some(path)) if matches!(first.as_str(), "." | "source") => {
                    self.command(&path, rest, depth + 1);
                }
                (Word::Other, _) if matches!(first.as_str(), "." | "source") => {
                    let sourced = rest.first().map(|file| directory.join(file));
                    if let Some((path, text)) = sourced.and_then(|path| Some((path.clone(), read_script(&path)?))) {
                        self.shell_file(&path, &text, depth + 1);
                    }
                }
                (Word::Other, _) => {
                    if let Some(program) = search(OsStr::new(first)).filter(|path| is_text_script(path)) {
                        self.command(&program, rest, depth + 1);
                    }
                }
                (_, _) => {
                    let program = search(OsStr::new(base)).unwrap_or_else(|| PathBuf::from(base));
                    self.command(&program, rest, depth + 1);
                }
            }
        }
    }

    /// A file that starts with `#!`. Answers whether it was one that says what runs it.
    fn script(&mut self, program: &Path, arguments: &[String], depth: usize) -> bool {
        let Some(text) = read_script(program) else { return false };
        let Some(line) = text.strip_prefix("#!").and_then(|rest| rest.lines().next()) else { return false };
        let mut words = line.split_whitespace();
        let mut interpreter = words.next().unwrap_or_default();
        if interpreter.rsplit('/').next() == Some("env") {
            interpreter = words.find(|word| !word.starts_with('-') && !word.contains('=')).unwrap_or_default();
        }
        let base = interpreter.rsplit('/').next().unwrap_or_default();
        let shown = program.display();
        match word(base) {
            Word::Python => {
                self.found.is_direct |= depth == 0;
                if text.contains("opentelemetry.instrumentation.auto_instrumentation") {
                    let why = format!("{shown} sets up an agent of its own: ours stays out of Python");
                    self.found.warnings.push(why);
                    return true;
                }
                let path = resolve(OsStr::new(interpreter)).ok();
                self.add(Runtime::Python, path, &format!("{shown} is a Python script"));
            }
            Word::Node => {
                self.found.is_direct |= depth == 0;
                let path = resolve(OsStr::new(interpreter)).ok();
                self.add(Runtime::Node, path, &format!("{shown} is a Node.js script"));
            }
            Word::Shell => {
                if let Some(python) = shell::exec_trick(&text) {
                    self.found.is_direct |= depth == 0;
                    self.add(Runtime::Python, Some(python), &format!("{shown} is a Python script"));
                } else if is_shim(program) {
                    // pyenv, asdf and the like: a shim says nothing, its name and its neighbours do.
                    return false;
                } else {
                    self.shell_file(program, &text, depth);
                }
            }
            Word::Java => self.add(Runtime::Java, resolve(OsStr::new(interpreter)).ok(), &format!("{shown} is Java")),
            _ => return false,
        }
        let _ = arguments;
        true
    }

    /// What a script of package.json runs beside Node.js itself.
    fn package_script(&mut self, arguments: &[String], depth: usize) {
        let Some(text) = read_script(Path::new("package.json")) else { return };
        let Ok(package) = serde_json::from_str::<serde_json::Value>(&text) else { return };
        let mut words = arguments.iter().filter(|word| !word.starts_with('-')).map(String::as_str);
        let name = match words.next() {
            Some("run" | "run-script") => words.next(),
            other => other,
        };
        let Some(name) = name else { return };
        for name in [format!("pre{name}"), name.to_owned(), format!("post{name}")] {
            if let Some(script) = package["scripts"][&name].as_str() {
                self.shell_text(script, Path::new("."), depth + 1);
            }
        }
    }
}

pub fn default_interpreter(runtime: Runtime) -> Option<PathBuf> {
    match runtime {
        Runtime::Java => {
            let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
            home.filter(|java| java.is_file()).or_else(|| search(OsStr::new("java")))
        }
        Runtime::Node => search(OsStr::new("node")).or_else(|| search(OsStr::new("nodejs"))),
        Runtime::Python => search(OsStr::new("python3")).or_else(|| search(OsStr::new("python"))),
    }
}

/// The interpreter that a tool was installed beside.
fn sibling_python(program: &Path) -> Option<PathBuf> {
    let directory = program.parent()?;
    ["python3", "python"].iter().map(|name| directory.join(name)).find(|path| path.is_file())
}

/// Of the active environment, or the nearest `.venv`.
fn project_python() -> Option<PathBuf> {
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let here = std::env::current_dir().unwrap_or_default();
    let near = here.ancestors().map(|directory| directory.join(".venv"));
    active.into_iter().chain(near).map(|environment| environment.join("bin/python")).find(|path| path.is_file())
}

fn is_shim(program: &Path) -> bool {
    program.parent().and_then(Path::file_name).is_some_and(|name| name == "shims")
}

fn is_text_script(path: &Path) -> bool {
    let mut start = [0; 2];
    std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut start)).is_ok() && &start == b"#!"
}

/// The start of a text file; `None` for what is no text.
fn read_script(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(SCRIPT_BYTES).read_to_end(&mut bytes).ok()?;
    if bytes.contains(&0) {
        return None;
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(directory: &Path, name: &str, text: &str) -> String {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runtimes, and whether the command itself is one of their programs.
    fn check(command: &[&str], runtimes: &[Runtime], is_direct: bool) -> Found {
        let words: Vec<OsString> = command.iter().map(OsString::from).collect();
        let found = detect(&words, &[]).unwrap();
        let used: Vec<Runtime> = found.uses.iter().map(|found| found.runtime).collect();
        assert_eq!((used.as_slice(), found.is_direct), (runtimes, is_direct), "{command:?}");
        found
    }

    #[test]
    fn runtimes_of_commands() {
        use Runtime::{Java, Node, Python};
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| program(directory.path(), name, text);
        let (java, node, python) =
            (at("jdk/bin/java", "\u{7f}ELF"), at("node", "\u{7f}ELF"), at("venv/bin/python3", ""));
        let entry = at("venv/bin/gunicorn", &format!("#!{python}\nimport sys\n"));
        let long = at("venv/bin/flask", &format!("#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''\n"));
        let shim = at("shims/gunicorn", "#!/usr/bin/env bash\nexec pyenv exec gunicorn\n");
        let own = at(
            "venv/bin/opentelemetry-instrument",
            &format!("#!{python}\nfrom opentelemetry.instrumentation.auto_instrumentation import run\n"),
        );
        let stack = at(
            "stack.sh",
            &format!("#!/bin/sh\nexec \"$JAVA_HOME/bin/java\" -jar x.jar &\n{node} a.js\n. ./more.sh\n"),
        );
        at("more.sh", "PORT=1 ${PYTHON:-python3} b.py\n");
        let tool = at("tool", "\u{7f}ELF\0");

        assert!(check(&[&java, "-jar", "x.jar"], &[Java], true).is_direct_java);
        check(&[&node, "app.js"], &[Node], true);
        check(&[&python, "app.py"], &[Python], true);
        let found = check(&[&entry, "shop:app"], &[Python], true);
        assert_eq!(found.uses[0].interpreter.as_deref(), Some(Path::new(&python)));
        let found = check(&[&long, "run"], &[Python], true);
        assert_eq!(found.uses[0].interpreter.as_deref(), Some(Path::new(&python)));
        check(&[&shim, "shop:app"], &[Python], true);
        assert!(!check(&[&own, "python3", "app.py"], &[], true).warnings.is_empty());
        check(&[&stack], &[Java, Node, Python], false);
        check(&["sh", "-c", &format!("{node} a.js | cat")], &[Node], false);
        check(&["env", "A=b", &python, "app.py"], &[Python], false);
        check(&["sh", "-c", "echo node python java"], &[], false);
        check(&[&tool, "build"], &[], false);
        assert_eq!(check(&[&python, "-I", "app.py"], &[Python], true).warnings.len(), 1);
        assert!(check(&[&python, "-c", "print('-I')"], &[Python], true).warnings.is_empty());
    }

    #[test]
    fn scripts_that_call_themselves_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loop.sh");
        let script = program(directory.path(), "loop.sh", &format!("#!/bin/sh\n{} && sh {0}\n", path.display()));
        check(&[&script], &[], false);
    }

    #[test]
    fn what_cannot_be_started() {
        let directory = tempfile::tempdir().unwrap();
        let text = directory.path().join("text");
        std::fs::write(&text, "text").unwrap();
        assert_eq!(detect(&["/no/such/program".into()], &[]).unwrap_err().status(), 127);
        assert_eq!(detect(&["no-such-program-at-all".into()], &[]).unwrap_err().status(), 127);
        assert_eq!(detect(&[text.into()], &[]).unwrap_err().status(), 126);
        assert_eq!(detect(&["".into()], &[]).unwrap_err().status(), 127);
    }
}
