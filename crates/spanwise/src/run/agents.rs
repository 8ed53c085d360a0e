//! The agents: which versions, where they are kept, and how they get there. They come from the runtimes' own package
//! registries through the runtimes' own clients, with checksums; afterwards nothing needs the network.
//!
//! Layout of the directory: `java/VERSION`, `node/VERSION`, `python/VERSION/INTERPRETER`, each complete once it holds
//! `spanwise-installed.json`; `hooks-HASH` holds what this program itself puts in front of the agents.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;

use super::detect::Runtime;
use super::{java, node, python};

pub const INSTALLED: &str = "spanwise-installed.json";
const NODE_PRELOAD: &str = include_str!("assets/node-preload.cjs");
const SITECUSTOMIZE: &str = include_str!("assets/python-sitecustomize.py");
/// An extension of Java's agent, built from `assets/java` by `build.sh` there.
const LOST_SPANS: &[u8] = include_bytes!("assets/java/lost-spans.jar");
/// Within the directory of hooks.
pub const JAVA_EXTENSION: &str = "java/lost-spans.jar";

pub fn version(runtime: Runtime) -> &'static str {
    match runtime {
        Runtime::Java => java::VERSION,
        Runtime::Node => node::VERSION,
        Runtime::Python => python::VERSION,
    }
}

pub struct Agents {
    /// The directory that holds them.
    pub root: PathBuf,
    /// Where our own files can be written when `root` is read-only.
    writable: Option<PathBuf>,
}

impl Agents {
    /// Nothing is created yet.
    pub fn find(given: Option<&Path>) -> Agents {
        let cache = cache_dir();
        // Clients and programs stand elsewhere.
        let given = given.map(|given| std::path::absolute(given).unwrap_or_else(|_| given.to_owned()));
        let root = given.clone().or_else(|| cache.as_ref().map(|cache| cache.join("agents")));
        let fallback = private_temporary();
        let root = match root {
            Some(root) if given.is_some() || root.is_dir() || can_create(&root) => root,
            _ => fallback.clone().unwrap_or_else(std::env::temp_dir).join("agents"),
        };
        let candidates = [Some(root.clone()), cache.map(|cache| cache.join("agents")), fallback];
        let writable = candidates.into_iter().flatten().find(|directory| can_create(directory));
        Agents { root, writable }
    }

    pub fn directory(&self, runtime: Runtime) -> PathBuf {
        self.root.join(runtime.name()).join(version(runtime))
    }

    /// The directory with our own hooks, written if it is not there.
    ///
    /// # Errors
    /// When there is no directory that can be written.
    pub fn hooks(&self) -> anyhow::Result<PathBuf> {
        let jar = String::from_utf8_lossy(LOST_SPANS);
        let name = format!("hooks-{:016x}", fingerprint(&[NODE_PRELOAD, SITECUSTOMIZE, &jar]));
        let existing = self.root.join(&name);
        if existing.join("python/sitecustomize.py").is_file() {
            return Ok(existing);
        }
        let writable =
            self.writable.as_ref().context("no directory for the agents can be written: give --agents-dir")?;
        let directory = writable.join(&name);
        if directory.join("python/sitecustomize.py").is_file() {
            return Ok(directory);
        }
        let building = writable.join(format!("{name}.{}", std::process::id()));
        let write = |path: PathBuf, content: &[u8]| -> std::io::Result<()> {
            std::fs::create_dir_all(path.parent().unwrap_or(&path))?;
            std::fs::write(path, content)
        };
        write(building.join("node/spanwise.cjs"), NODE_PRELOAD.as_bytes())?;
        write(building.join("python/sitecustomize.py"), SITECUSTOMIZE.as_bytes())?;
        write(building.join(JAVA_EXTENSION), LOST_SPANS)?;
        if std::fs::rename(&building, &directory).is_err() {
            // Another run was faster.
            let _ = std::fs::remove_dir_all(&building);
        }
        Ok(directory)
    }

    /// Fills a directory by `fill` unless it is complete; runs that want the same one wait for each other.
    ///
    /// # Errors
    /// What `fill` says, or the directory cannot be written.
    pub fn install(
        &self,
        directory: &Path,
        version: &str,
        fill: impl FnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if directory.join(INSTALLED).is_file() {
            return Ok(());
        }
        let parent = directory.parent().unwrap_or(directory);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot write {}", parent.display()))?;
        let lock = std::fs::File::create(parent.join("install.lock"))
            .with_context(|| format!("cannot write {}", parent.display()))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive)?;
        if directory.join(INSTALLED).is_file() {
            return Ok(());
        }
        let name = directory.file_name().unwrap_or_default().to_string_lossy();
        let building = parent.join(format!(".{name}.{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&building);
        std::fs::create_dir_all(&building)?;
        let filled = fill(&building).and_then(|()| {
            std::fs::write(building.join(INSTALLED), json!({"version": version}).to_string())?;
            let _ = std::fs::remove_dir_all(directory);
            Ok(std::fs::rename(&building, directory)?)
        });
        if filled.is_err() {
            let _ = std::fs::remove_dir_all(&building);
        }
        filled
    }
}

/// Runs a package client; its output is shown only when it fails.
///
/// # Errors
/// The end of its output, when it failed or did not end in time.
pub fn client(command: &mut Command, what: &str) -> anyhow::Result<()> {
    command.stdin(Stdio::null());
    for name in ["PYTHONPATH", "NODE_OPTIONS", "JAVA_TOOL_OPTIONS"] {
        command.env_remove(name);
    }
    let output =
        super::child::output(command, Duration::from_secs(600)).with_context(|| format!("cannot run {what}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let is_telling = |line: &&str| line.to_lowercase().contains("err") && !line.trim().is_empty();
    let line = text.lines().find(is_telling).or_else(|| text.lines().rev().find(|line| !line.trim().is_empty()));
    bail!("{what} failed: {}", line.unwrap_or("it said nothing").trim().chars().take(300).collect::<String>())
}

/// `$XDG_CACHE_HOME/spanwise` or `~/.cache/spanwise`.
pub fn cache_dir() -> Option<PathBuf> {
    user_dir("XDG_CACHE_HOME", ".cache")
}

/// A directory of this user's, by its variable or below the home directory.
pub fn user_dir(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home))).map(|base| base.join("spanwise"))
}

/// Whether a directory exists and can be written, or can be made. It is made.
pub fn can_create(directory: &Path) -> bool {
    if std::fs::create_dir_all(directory).is_err() {
        return false;
    }
    let probe = directory.join(format!(".probe.{}", std::process::id()));
    let is_writable = std::fs::File::create(&probe).and_then(|mut file| file.write_all(b"x")).is_ok();
    let _ = std::fs::remove_file(&probe);
    is_writable
}

/// For users whose home directory cannot be written: a directory that nobody else can write to.
pub fn private_temporary() -> Option<PathBuf> {
    let user = nix::unistd::geteuid().as_raw();
    let directory = std::env::temp_dir().join(format!("spanwise-{user}"));
    let _ = std::fs::DirBuilder::new().mode(0o700).create(&directory);
    let found = std::fs::symlink_metadata(&directory).ok()?;
    (found.is_dir() && found.uid() == user && found.mode() & 0o077 == 0).then_some(directory)
}

/// FNV-1a.
pub fn fingerprint(parts: &[&str]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.bytes().chain(std::iter::once(0)));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
