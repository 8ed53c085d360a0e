//! The page is embedded from `ui/dist`. Without it (no `make ui` yet) the program builds all the same and says so.

use std::path::Path;

fn main() {
    let dist = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ui/dist");
    println!("cargo:rerun-if-changed={}", dist.display());
    let index = dist.join("index.html");
    if !index.exists() {
        let page = "<!doctype html><title>Spanwise</title><p>The page was not built: run <code>make ui</code>, then build again.\n";
        let _ = std::fs::create_dir_all(&dist).and_then(|()| std::fs::write(&index, page));
    }
}
