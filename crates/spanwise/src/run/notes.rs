//! What hooks inside of programs have to say: a file each, since a program's standard error is its own. It is printed once;
//! files named `lost-…` hold how many spans a process could not deliver.

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;

use super::say;

/// Names the directory to the hooks.
pub const NOTES: &str = "SPANWISE_RUN_NOTES";
/// Of a note, and of notes.
const MAX_BYTES: u64 = 1000;
const MAX_NOTES: usize = 100;

pub struct Notes {
    pub directory: PathBuf,
    said: BTreeSet<String>,
}

impl Notes {
    /// `None` where there is no place for them.
    pub fn new(run_id: &str) -> Option<Notes> {
        let directory = std::env::temp_dir().join(format!("spanwise-run-{run_id}-{}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&directory).ok()?;
        Some(Notes { directory, said: BTreeSet::new() })
    }

    /// Prints what is new: of many processes with the same trouble, once.
    pub fn tell(&mut self) {
        let Ok(files) = std::fs::read_dir(&self.directory) else { return };
        for file in files.flatten().filter(|file| !is_count(&file.file_name())).take(MAX_NOTES) {
            let text = read(&file.path()).unwrap_or_default();
            if self.said.len() < MAX_NOTES && !text.is_empty() && self.said.insert(text.clone()) {
                say(&format!("warning: {text}"));
            }
        }
    }

    /// Spans that were not delivered, of all processes that said so.
    pub fn lost(&self) -> u64 {
        let files = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let counts = files.filter(|file| is_count(&file.file_name())).filter_map(|file| read(&file.path()).ok());
        counts.filter_map(|count| count.parse::<u64>().ok()).fold(0, u64::saturating_add)
    }
}

fn is_count(name: &std::ffi::OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b"lost-")
}

fn read(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
